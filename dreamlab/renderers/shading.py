"""Light on the object, so that the prior sees its shape and not only its paint.

    shaded = base * (a + (1 - a) * max(0, n . l))

in sRGB numbers, where base is the albedo ("lambertian") or white ("textureless"); "albedo" shows
the albedo unlit. "pbr" shows a material under an environment instead, see `pbr.py`. One mode is
drawn for a whole batch.

Glossary: `n` unit normal, `l` unit vector to a distant light, both in world space; `a` ambient
share in [0, 1].
Source: DreamFusion (Poole et al. 2022), section 3.1 and appendix A.2; Magic3D (Lin et al. 2023).
"""

from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.renderers.pbr import EnvironmentConfig, Surroundings, sample_surroundings

ShadingMode = Literal["albedo", "lambertian", "textureless", "pbr"]
MODES: tuple[ShadingMode, ...] = get_args(ShadingMode)


@dataclass(frozen=True)
class Shading:
    """How a batch is lit."""

    mode: ShadingMode
    light_direction: Float[Tensor, "batch 3"]
    """Unit vectors to the light, world space."""
    ambient: Float[Tensor, " batch"]
    """Share of light that does not depend on the normal."""
    surroundings: Surroundings | None = None
    """What lights the object in the mode "pbr"."""

    @property
    def is_lit(self) -> bool:
        return self.mode != "albedo"

    @property
    def needs_normals(self) -> bool:
        return self.is_lit

    def of(self, index: Int[Tensor, " items"]) -> "Shading":
        """Return the shading of each item, given the view that it belongs to."""
        around = None if self.surroundings is None else self.surroundings.of(index)
        return Shading(self.mode, self.light_direction[index], self.ambient[index], around)


@dataclass(frozen=True, slots=True)
class ShadingConfig:
    """When and how training views are lit."""

    ambient_until: float = 1.0
    """Fraction of the stage up to which views show the albedo only; 1 never lights them."""
    albedo: float = 0.25
    """Probability of the unlit albedo after that."""
    lambertian: float = 0.375
    """Probability of the lit albedo."""
    textureless: float = 0.375
    """Probability of lit white."""
    pbr: float = 0.0
    """Probability of the material under an environment; for meshes with a material."""
    ambient: tuple[float, float] = (0.1, 0.1)
    """Range of the ambient share, uniform per view; (0, 1) is Magic3D's soft shading."""
    light_spread: float = 0.5
    """Standard deviation of the light around the camera, in units of its distance."""
    environment: EnvironmentConfig = field(default_factory=EnvironmentConfig)
    """The light of physically based views."""

    def __post_init__(self) -> None:
        chances = self.chances
        if min(chances) < 0 or sum(chances) <= 0:
            raise ValueError(
                f"albedo, lambertian, textureless and pbr must be >= 0 and not all 0, got {chances}"
            )
        if not 0 <= self.ambient[0] <= self.ambient[1] <= 1:
            raise ValueError(f"ambient must be a pair low <= high in [0, 1], got {self.ambient}")
        if not 0 <= self.ambient_until <= 1:
            raise ValueError(f"ambient_until must be in [0, 1], got {self.ambient_until}")
        if self.light_spread < 0:
            raise ValueError(f"light_spread must be >= 0, got {self.light_spread}")

    @property
    def chances(self) -> tuple[float, ...]:
        """The weight of each mode, in the order of `MODES`."""
        return self.albedo, self.lambertian, self.textureless, self.pbr


def unlit(cameras: Cameras) -> Shading:
    """Return the shading that shows the albedo, for previews and evaluation."""
    return Shading("albedo", _to_camera(cameras), torch.ones_like(cameras.distance))


def headlight(cameras: Cameras, mode: ShadingMode, ambient: float) -> Shading:
    """Return a light at each camera, for previews of the shape."""
    return Shading(mode, _to_camera(cameras), torch.full_like(cameras.distance, ambient))


def sample_shading(
    config: ShadingConfig, progress: float, cameras: Cameras, generator: torch.Generator
) -> Shading:
    """Draw the mode of a batch, and a light near the camera for each of its views.

    Args:
        progress: fraction of the stage that is done, in [0, 1].
        generator: CPU generator; it is advanced by the same amount in every mode, which depends
            on whether there are physically based views at all.
    """
    num_views, device = len(cameras), cameras.distance.device
    u = float(torch.rand((), generator=generator))
    scatter = torch.randn(num_views, 3, generator=generator).to(device)
    low, high = config.ambient
    ambient = low + (high - low) * torch.rand(num_views, generator=generator).to(device)
    light = _to_camera(cameras) + config.light_spread * scatter
    light = torch.nn.functional.normalize(light, dim=-1)
    around = None
    if config.pbr > 0:
        around = sample_surroundings(config.environment, cameras, generator)
    lit = config.ambient_until < 1 and progress >= config.ambient_until
    return Shading(_mode(config, u) if lit else "albedo", light, ambient, around)


def irradiance(
    normal: Float[Tensor, "batch *pixels 3"], shading: Shading
) -> Float[Tensor, "batch *pixels 1"]:
    """Return a + (1 - a) max(0, n . l); a zero normal receives ambient light only.

    Gradients: to the normal, none where it faces away from the light.
    """
    per_view = (len(normal), *[1] * (normal.ndim - 2))
    light = shading.light_direction.reshape(*per_view, 3)
    ambient = shading.ambient.reshape(*per_view, 1)
    diffuse = (normal * light).sum(-1, keepdim=True).clamp(min=0)
    return ambient + (1 - ambient) * diffuse


def shade(
    albedo: Float[Tensor, "batch *pixels 3"],
    normal: Float[Tensor, "batch *pixels 3"],
    shading: Shading,
    *,
    white: Float[Tensor, "batch *pixels 1"] | float = 1.0,
) -> Float[Tensor, "batch *pixels 3"]:
    """Light `albedo`, sRGB in [0, 1].

    Args:
        albedo: of one item or image for each entry of `shading`.
        normal: unit vectors, world space.
        shading: lights and mode.
        white: what textureless objects show instead of the albedo: 1, or the opacity for an
            albedo that has been multiplied with it.

    Raises:
        InputError: the mode is "pbr", for which an albedo is not enough.

    Gradients: to the albedo, the normal and `white`.
    """
    if shading.mode == "albedo":
        return albedo
    if shading.mode == "pbr":
        raise InputError(
            "physically based views need a mesh with a material.",
            "use the renderer mesh, with `material: {}` in the representation; or set shading.pbr "
            "to 0.",
        )
    light = irradiance(normal, shading)
    return (albedo if shading.mode == "lambertian" else torch.ones_like(albedo) * white) * light


def _mode(config: ShadingConfig, u: float) -> ShadingMode:
    """Choose a mode by its probability from `u`, uniform in [0, 1)."""
    u *= sum(config.chances)
    edges = accumulate(config.chances)
    return next(mode for mode, edge in zip(MODES, edges, strict=True) if u < edge)


def _to_camera(cameras: Cameras) -> Tensor:
    return torch.nn.functional.normalize(cameras.position, dim=-1)
