"""Diffusion models behind one interface; the only layer that imports diffusers."""
