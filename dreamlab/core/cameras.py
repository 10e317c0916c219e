"""Cameras on an orbit, and the rays through their pixels.

Glossary: `batch` views; azimuth, elevation in degrees; `fov_y` vertical field of view in degrees;
`camera_to_world` maps camera coordinates to world coordinates.

Conventions: right-handed world, z up, objects face +x. Azimuth 0 puts the camera on +x (it sees the
front), azimuth 90 on +y. OpenGL camera: x right, y up, looking along -z. Pixel (0, 0) is the top
left one and its centre is at (0.5, 0.5). Lengths are world units: an object fits the unit ball.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Cameras:
    """A batch of perspective cameras that keep the orbit they were made from."""

    camera_to_world: Float[Tensor, "batch 4 4"]
    fov_y: Float[Tensor, " batch"]
    """Vertical field of view, degrees."""
    azimuth: Float[Tensor, " batch"]
    """Degrees in [-180, 180); 0 sees the front."""
    elevation: Float[Tensor, " batch"]
    """Degrees above the horizon."""
    distance: Float[Tensor, " batch"]
    """From the orbit's centre, world units."""

    def __len__(self) -> int:
        return self.camera_to_world.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Cameras":
        return Cameras(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def to(self, device: torch.device | str) -> "Cameras":
        return Cameras(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @property
    def position(self) -> Float[Tensor, "batch 3"]:
        return self.camera_to_world[:, :3, 3]

    def rays(
        self, height: int, width: int
    ) -> tuple[Float[Tensor, "batch height width 3"], Float[Tensor, "batch height width 3"]]:
        """Return origins and unit directions of the rays through all pixel centres, world space."""
        device = self.fov_y.device
        y = (torch.arange(height, device=device) + 0.5) / height * 2 - 1
        x = (torch.arange(width, device=device) + 0.5) / width * 2 - 1
        tangent = torch.tan(torch.deg2rad(self.fov_y) / 2)[:, None, None]
        camera_x = (x * (width / height))[None, None, :] * tangent
        camera_y = -y[None, :, None] * tangent
        camera_x, camera_y = torch.broadcast_tensors(camera_x, camera_y)
        direction = torch.stack([camera_x, camera_y, -torch.ones_like(camera_x)], dim=-1)
        direction = direction / direction.norm(dim=-1, keepdim=True)
        world = torch.einsum("bij,bhwj->bhwi", self.camera_to_world[:, :3, :3], direction)
        origin = self.position[:, None, None, :].expand_as(world)
        return origin, world

    def world_to_clip(
        self, aspect: float = 1.0, near: float = 0.05, far: float = 100.0
    ) -> Float[Tensor, "batch 4 4"]:
        """Return OpenGL view-projection matrices (clip z in [-w, w], y up)."""
        focal = 1 / torch.tan(torch.deg2rad(self.fov_y) / 2)
        projection = torch.zeros_like(self.camera_to_world)
        projection[:, 0, 0] = focal / aspect
        projection[:, 1, 1] = focal
        projection[:, 2, 2] = (far + near) / (near - far)
        projection[:, 2, 3] = 2 * far * near / (near - far)
        projection[:, 3, 2] = -1
        return projection @ torch.linalg.inv(self.camera_to_world)


def look_at(
    position: Float[Tensor, "batch 3"],
    target: Float[Tensor, "batch 3"],
    up: Float[Tensor, "batch 3"],
) -> Float[Tensor, "batch 4 4"]:
    """Build camera-to-world matrices of OpenGL cameras at `position` that look at `target`."""
    backward = torch.nn.functional.normalize(position - target, dim=-1)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, backward), dim=-1)
    matrix = torch.eye(4, dtype=position.dtype, device=position.device).repeat(len(position), 1, 1)
    matrix[:, :3, 0] = right
    matrix[:, :3, 1] = torch.linalg.cross(backward, right)
    matrix[:, :3, 2] = backward
    matrix[:, :3, 3] = position
    return matrix


def orbit_cameras(
    azimuth: Float[Tensor, " batch"],
    elevation: Float[Tensor, " batch"],
    distance: Float[Tensor, " batch"],
    fov_y: Float[Tensor, " batch"],
    *,
    target: Float[Tensor, "batch 3"] | None = None,
) -> Cameras:
    """Place cameras on spheres around `target` (default: the origin), looking at it.

    Args:
        azimuth: degrees; 0 on +x, 90 on +y; wrapped to [-180, 180) in the result.
        elevation: degrees in (-90, 90).
        distance: world units.
        fov_y: vertical field of view, degrees.
    """
    theta, phi = torch.deg2rad(azimuth), torch.deg2rad(elevation)
    offset = torch.stack([phi.cos() * theta.cos(), phi.cos() * theta.sin(), phi.sin()], dim=-1)
    target = torch.zeros_like(offset) if target is None else target
    up = torch.tensor([0.0, 0.0, 1.0], dtype=offset.dtype, device=offset.device).expand_as(offset)
    matrix = look_at(target + distance[:, None] * offset, target, up)
    return Cameras(matrix, fov_y, (azimuth + 180) % 360 - 180, elevation, distance)


def turntable_cameras(
    num_views: int, *, elevation: float = 15.0, distance: float, fov_y: float
) -> Cameras:
    """Return `num_views` cameras evenly around the object, the first one seeing its front."""
    azimuth = torch.arange(num_views) * (360.0 / num_views)
    constant = torch.ones(num_views)
    return orbit_cameras(azimuth, elevation * constant, distance * constant, fov_y * constant)


@dataclass(frozen=True, slots=True)
class CameraRanges:
    """Where training views are taken from; each pair is (low, high)."""

    azimuth: tuple[float, float] = (-180.0, 180.0)
    """Degrees; a batch is stratified over the range, so it always looks from all around."""
    elevation: tuple[float, float] = (-10.0, 45.0)
    """Degrees above the horizon."""
    distance: tuple[float, float] = (2.8, 3.2)
    """From the origin, world units."""
    fov_y: tuple[float, float] = (40.0, 45.0)
    """Vertical field of view, degrees."""
    target_jitter: float = 0.0
    """Standard deviation of the point looked at, world units."""
    together: int = 1
    """Of so many views in a row azimuths alone differ, by even shares of the range: 2 looks from
    opposite sides."""

    def __post_init__(self) -> None:
        if self.together < 1:
            raise ValueError(f"together must be at least 1, got {self.together}")
        for name in ("azimuth", "elevation", "distance", "fov_y"):
            low, high = getattr(self, name)
            if not low <= high or not math.isfinite(high - low):
                raise ValueError(f"{name} must be a pair (low, high), got ({low}, {high})")
        if not -90 < self.elevation[0] <= self.elevation[1] < 90:
            raise ValueError(f"elevation must lie inside (-90, 90), got {self.elevation}")
        if self.distance[0] <= 0 or not 0 < self.fov_y[0] <= self.fov_y[1] < 180:
            raise ValueError("distance must be positive and fov_y inside (0, 180)")

    @classmethod
    def at(cls, distance: float, fov_y: float, elevation: float = 15.0) -> "CameraRanges":
        """Return ranges that hold one distance, field of view and elevation."""
        return cls(
            elevation=(elevation, elevation), distance=(distance, distance), fov_y=(fov_y, fov_y)
        )


def sample_cameras(
    ranges: CameraRanges, num_views: int, generator: torch.Generator, together: int | None = None
) -> Cameras:
    """Draw `num_views` cameras: azimuth stratified over the batch, the rest uniform.

    Elevation is uniform in angle for half of the views and uniform on the sphere for the others
    (as in DreamFusion's released recipes); which half is drawn per view.

    Args:
        ranges: where they stand.
        num_views: how many; a multiple of `together`.
        generator: on the CPU.
        together: N; None: that of the ranges. Of every N cameras in a row only the first one is
            drawn, in the first Nth of the azimuths; the others are it, each one Nth of the azimuths
            further.
    """
    together = ranges.together if together is None else together
    num_drawn = num_views // together
    if num_drawn * together != num_views:
        raise ValueError(f"{num_views} views are no groups of {together}")

    def uniform() -> Tensor:
        return torch.rand(num_drawn, generator=generator)

    def alike(value: Tensor) -> Tensor:
        return value.repeat_interleave(together, dim=0)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * uniform()

    strata = (torch.arange(num_drawn) + uniform()) / num_drawn
    strata = strata[torch.randperm(num_drawn, generator=generator)]
    strata = ((strata[:, None] + torch.arange(together)) / together).flatten()
    azimuth = ranges.azimuth[0] + (ranges.azimuth[1] - ranges.azimuth[0]) * strata
    by_angle = between(*ranges.elevation)
    low, high = (math.sin(math.radians(angle)) for angle in ranges.elevation)
    by_area = torch.rad2deg(torch.asin(between(low, high)))
    elevation = torch.where(uniform() < 0.5, by_angle, by_area)
    distance, fov_y = between(*ranges.distance), between(*ranges.fov_y)
    target = torch.randn(num_drawn, 3, generator=generator) * ranges.target_jitter
    return orbit_cameras(
        azimuth, alike(elevation), alike(distance), alike(fov_y), target=alike(target)
    )
