"""What settings of meshes may say. Nothing heavy is imported: help texts and forms read this."""

from typing import Literal

Method = Literal["xatlas", "box"]
"""How a mesh is unwrapped: xatlas makes fewer, less distorted charts; box never takes long."""
MIN_FACES = 100
"""Smallest face budget; below it no object keeps its outline."""
