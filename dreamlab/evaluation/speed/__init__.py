"""How fast the kernels and the main job's steps are, as ratios of CPU time in one process."""
