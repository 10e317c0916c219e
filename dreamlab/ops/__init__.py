"""Differentiable primitives, each with a plain-torch reference and a portable Warp kernel."""
