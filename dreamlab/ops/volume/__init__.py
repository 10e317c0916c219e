"""Rays through volumes: where to sample, what samples add up to, what is empty."""
