"""The embedded prior: a small world of toys, and the diffusion model trained on it."""
