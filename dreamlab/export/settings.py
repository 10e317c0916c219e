"""Settings of the export. Nothing heavy is imported here: help texts and forms read this."""

from dataclasses import dataclass
from typing import Literal, get_args

from dreamlab.ops.mesh.settings import MIN_FACES, Method
from dreamlab.ops.volume.settings import SurfaceMethod

Format = Literal["glb", "obj", "ply", "stl", "blend", "fbx", "usdz"]
Parts = Literal["separate", "joined"]
BLENDER_FORMATS = ("blend", "fbx", "usdz")
"""Those that Blender writes, if its package is installed."""


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """How the optimised object becomes files; an object with a texture (uv_mesh) keeps its own.

    For that one the settings from `resolution` on have no effect.
    """

    formats: tuple[Format, ...] = ("glb",)
    """Files to write: glb, obj (with mtl and png), ply (vertex colours), stl (shape only), and with
    Blender's package bpy also blend, fbx and usdz."""
    height: float = 1.0
    """Height of the model in the file, metres."""
    parts: Parts = "separate"
    """Whether the objects of a layout are `separate` in the files (a named node and mesh each; PLY
    and STL know none) or `joined` to one."""
    resolution: int = 128
    """Nodes along each axis of the grid that the surface is extracted from."""
    surface: SurfaceMethod = "density"
    """How the surface is found: `density` (where it has the outline that is seen) or `tsdf` (fused
    from their depth)."""
    threshold: float | None = None
    """Density of the surface, if that is asked for; unset finds the one that fits the renders."""
    min_component_share: float = 0.01
    """Loose pieces with less than this share of the surface are dropped."""
    max_hole_edges: int = 64
    """Holes with a rim of at most this many edges are closed."""
    smoothing: int = 10
    """Rounds of smoothing; undone if the outline suffers."""
    max_faces: int = 20_000
    """Triangles; xatlas takes about 1.5 s for 10,000, 4 s for 20,000 and 10 to 27 s for 40,000."""
    unwrap: Method = "xatlas"
    """xatlas (fewer, less distorted charts) or box (about a second at any size)."""
    unwrap_time_limit: float = 60.0
    """Seconds xatlas may take before the box projection stands in for it."""
    texture_size: int = 1024
    """Texels along each side of the texture."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in get_args(Format)]
        if unknown or not self.formats:
            raise ValueError(f"formats must be some of {get_args(Format)}, got {self.formats}")
        if not 0 < self.height < 1000:
            raise ValueError(f"height must be above 0 and below 1000 m, got {self.height}")
        if not 16 <= self.resolution <= 512:
            raise ValueError(f"resolution must be from 16 to 512, got {self.resolution}")
        if self.threshold is not None and self.threshold <= 0:
            raise ValueError(f"threshold must be positive, got {self.threshold}")
        if not 0 <= self.min_component_share < 1:
            raise ValueError(
                f"min_component_share must be in [0, 1), got {self.min_component_share}"
            )
        if self.max_hole_edges < 0 or self.smoothing < 0:
            raise ValueError("max_hole_edges and smoothing must not be negative")
        if self.max_faces < MIN_FACES:
            raise ValueError(f"max_faces must be at least {MIN_FACES}, got {self.max_faces}")
        if self.unwrap_time_limit <= 0:
            raise ValueError(f"unwrap_time_limit must be positive, got {self.unwrap_time_limit}")
        if not 64 <= self.texture_size <= 8192:
            raise ValueError(f"texture_size must be from 64 to 8192, got {self.texture_size}")
