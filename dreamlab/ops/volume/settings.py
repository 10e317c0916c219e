"""What settings of volumes may say. Nothing heavy is imported: help texts and forms read this."""

from typing import Literal

SurfaceMethod = Literal["density", "tsdf"]
"""How a volume gets a surface: where a density is crossed, or from the depth of views."""
