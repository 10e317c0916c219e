"""Splatting of anisotropic Gaussians."""
