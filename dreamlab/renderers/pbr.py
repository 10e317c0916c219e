"""Physically based shading: a material under light from all around.

    rgb = srgb(clamp(scale (diffuse + specular), 0, 1))
    specular = S L*(r, roughness),                S = F0 A + B
    diffuse  = (1 - S) (1 - metallic) albedo E(n) / pi
    F0 = 0.04 (1 - metallic) + metallic albedo

Glossary: `n` unit normal of the material, bumps included; `v` unit vector to the camera; `r` = v
mirrored in n; `E` irradiance and `L*` the environment blurred for a roughness, both computed once
per environment; `A`, `B` from a table over (n.v, roughness); `F0` reflectance at normal incidence.
All vectors are in world space. Light is linear here: the albedo, sRGB like all colours of the
project, is decoded on the way in, and what is seen is encoded on the way out.

Light that the surface reflects is not there to be scattered below it, hence the factor 1 - S: no
surface sends back more than it gets. Objects cast no shadow on themselves.

Source: split sum: Karis 2013; the renderer of nvdiffrec (Munkberg et al. 2022), as Fantasia3D (Chen
et al. 2023) uses it, both without the factor 1 - S; that one as glTF 2.0, appendix B, weighs its
two layers.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import HasMaterial, Material
from dreamlab.ops.light.ggx import mirror_lobe, reflectance_table
from dreamlab.ops.light.panorama import Panorama, convolve
from dreamlab.ops.light.srgb import to_linear, to_srgb
from dreamlab.ops.triangles.texture import texture
from dreamlab.renderers.environments import EnvironmentName, radiance

HEIGHT = 64
"""Rows of an environment's pictures; a texel is 2.8 degrees wide."""
LEVELS = 7
"""Blurred versions, for roughness 0, 1/6, ..., 1; the narrowest lobe is two texels wide."""
TABLE_SIZE = 32
DIELECTRIC = 0.04
"""Reflectance at normal incidence of what is no metal: glass, plastic, paint (Karis 2013)."""


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """The light around the object, for physically based views."""

    name: EnvironmentName = "studio"
    """Which one: neutral, studio, overcast or sunset."""
    scale: float = 1.0
    """Brightness; at 1 a white matt ball is about as bright as its albedo."""
    turn: float = 180.0
    """Each view turns it about the vertical axis, uniform within this many degrees both ways."""
    follow_camera: bool = False
    """Whether its front comes from where the camera is, or stays on +x."""

    def __post_init__(self) -> None:
        if self.scale <= 0:
            raise ValueError(f"scale must be positive, got {self.scale}")
        if not 0 <= self.turn <= 180:
            raise ValueError(f"turn must be in [0, 180] degrees, got {self.turn}")


@dataclass(frozen=True)
class Environment:
    """An environment, blurred in all ways that are needed."""

    irradiance: Panorama
    """E / pi, by the direction of the normal."""
    mirrored: Panorama
    """L*, by the mirrored direction; a level for each roughness."""
    table: Float[Tensor, "1 rows columns 2"]
    """A and B, by roughness (rows) and n.v (columns)."""

    @classmethod
    def of(cls, picture: Float[Tensor, "height width 3"]) -> "Environment":
        """Blur a picture of the sphere, linear radiance; see `ops.light.panorama`."""
        rough = [
            convolve(picture, lambda c, k=k: mirror_lobe(c, k / (LEVELS - 1)))
            for k in range(1, LEVELS)
        ]
        return cls(
            Panorama.of(convolve(picture, lambda c: c.clamp(min=0))[None]),
            Panorama.of(torch.stack([picture, *rough])),
            reflectance_table(TABLE_SIZE)[None],
        )

    def to(self, like: Tensor) -> "Environment":
        """Return it on the device and in the precision of a tensor."""
        return Environment(self.irradiance.to(like), self.mirrored.to(like), self.table.to(like))


@dataclass(frozen=True)
class Surroundings:
    """An environment as each view of a batch meets it."""

    environment: Environment
    scale: float
    turn: Float[Tensor, " batch"]
    """Angle by which it is turned about the z axis, radians."""

    def of(self, index: Int[Tensor, " items"]) -> "Surroundings":
        """Return the surroundings of each item, given the view that it belongs to."""
        return Surroundings(self.environment, self.scale, self.turn[index])


@cache
def load_environment(
    name: EnvironmentName, device: torch.device, dtype: torch.dtype = torch.float32
) -> Environment:
    """Make an environment, once; takes about half a second."""
    return Environment.of(radiance(name, HEIGHT)).to(torch.zeros((), device=device, dtype=dtype))


def sample_surroundings(
    config: EnvironmentConfig, cameras: Cameras, generator: torch.Generator
) -> Surroundings:
    """Turn an environment for each view; `generator` is a CPU generator."""
    drawn = 2 * torch.rand(len(cameras), generator=generator).to(cameras.distance.device) - 1
    turn = torch.deg2rad(config.turn * drawn)
    if config.follow_camera:
        turn = turn + torch.deg2rad(cameras.azimuth)
    device, dtype = cameras.distance.device, cameras.distance.dtype
    return Surroundings(load_environment(config.name, device, dtype), config.scale, turn)


def check_material(shape: Any, where: str) -> HasMaterial:
    """Return `shape` if it has a material.

    Raises:
        InputError: it has none; `where` says what asked for it.
    """
    if not isinstance(shape, HasMaterial) or not shape.has_material:
        raise InputError(
            f"{where} asks for physically based views, but this {type(shape).__name__} has no "
            "material.",
            "use a dmtet or textured_mesh with the setting `material: {}`, or another shading.",
        )
    return shape


def shade_material(
    material: Material,
    normal: Float[Tensor, "points 3"],
    view: Float[Tensor, "points 3"],
    surroundings: Surroundings,
) -> Float[Tensor, "points 3"]:
    """Return what is seen of some points, sRGB in [0, 1].

    Args:
        material: at the points.
        normal: of the surface there, unit vectors.
        view: unit vectors to the camera.
        surroundings: one entry for each point.

    Gradients: to all of the material, the normal and the view; none where light is clipped at 1.
    """
    environment = surroundings.environment
    n = material.bend(normal)
    n_v = (n * view).sum(-1, keepdim=True)
    mirrored = 2 * n_v * n - view
    back = -surroundings.turn
    level = material.roughness[:, 0] * (LEVELS - 1)
    blurred = environment.mirrored.at(_turned(mirrored, back), level)
    irradiance = environment.irradiance.at(_turned(n, back))

    albedo, metallic = to_linear(material.albedo), material.metallic
    f0 = DIELECTRIC * (1 - metallic) + metallic * albedo
    row_and_column = torch.cat([n_v.clamp(0, 1), material.roughness], dim=1)
    a, b = texture(environment.table, row_and_column[None, :, None]).squeeze((0, 2)).split(1, dim=1)
    reflected = f0 * a + b
    diffuse = (1 - reflected) * (1 - metallic) * albedo * irradiance
    light = surroundings.scale * (diffuse + reflected * blurred)
    return to_srgb(light.clamp(0, 1))


def _turned(
    vectors: Float[Tensor, "points 3"], angle: Float[Tensor, " points"]
) -> Float[Tensor, "points 3"]:
    """Turn vectors about the z axis, radians, counter-clockwise seen from above."""
    x, y, z = vectors.unbind(dim=1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z], dim=1)
