"""Where training images are seen from: cameras, light, background, and the word for a view.

Recipes take their cameras from `RANGES`, so that what a renderer shows is what the prior has seen.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from dreamlab.core.cameras import Cameras, orbit_cameras

VIEW_WORDS: tuple[str, ...] = ("front", "side", "back", "overhead")
"""All view words; each is followed by "view" in captions."""


@dataclass(frozen=True, slots=True)
class ViewRanges:
    """Ranges of the training views; pairs are (low, high), drawn uniformly."""

    azimuth: tuple[float, float] = (-180.0, 180.0)
    """Degrees; 0 sees the front."""
    elevation: tuple[float, float] = (-10.0, 45.0)
    """Degrees above the horizon, for all but the overhead views."""
    overhead: tuple[float, float] = (61.0, 85.0)
    """Elevation of the overhead views, degrees."""
    overhead_share: float = 0.12
    """Share of overhead views."""
    distance: tuple[float, float] = (2.8, 3.05)
    """Camera to origin, world units."""
    fov_y: tuple[float, float] = (36.0, 39.0)
    """Vertical field of view, degrees."""
    light_spread: float = 0.6
    """Standard deviation added to the direction of the camera to get that of the light; the light
    stays above the horizon."""
    ambient: tuple[float, float] = (0.45, 0.75)
    """Ambient share of the light; the rest is diffuse."""
    white_share: float = 0.4
    """Share of white backgrounds."""
    grey_share: float = 0.2
    """Share of grey backgrounds; the rest is pastel."""
    grey: tuple[float, float] = (0.3, 0.85)
    """Brightness of grey backgrounds."""
    pastel_saturation: tuple[float, float] = (0.05, 0.3)
    """HSV saturation of pastel backgrounds."""
    pastel_value: tuple[float, float] = (0.75, 1.0)
    """HSV value of pastel backgrounds."""


RANGES = ViewRanges()
"""The ranges the embedded prior is trained on."""


@dataclass(frozen=True)
class Views:
    """Everything but the scene that an image depends on."""

    cameras: Cameras
    light_direction: Float[Tensor, "batch 3"]
    """Unit vectors towards the light, world space."""
    ambient: Float[Tensor, " batch"]
    """Ambient share of the light, in [0, 1]."""
    background: Float[Tensor, "batch 3"]
    """sRGB in [0, 1]."""


def sample_views(rng: np.random.Generator, n: int) -> Views:
    """Draw `n` independent views from `RANGES`."""
    elevation = rng.uniform(*RANGES.elevation, n)
    overhead = rng.uniform(*RANGES.overhead, n)
    elevation = np.where(rng.random(n) < RANGES.overhead_share, overhead, elevation)
    cameras = orbit_cameras(
        _tensor(rng.uniform(*RANGES.azimuth, n)),
        _tensor(elevation),
        _tensor(rng.uniform(*RANGES.distance, n)),
        _tensor(rng.uniform(*RANGES.fov_y, n)),
    )
    return Views(
        cameras,
        _tensor(_lights(rng.normal(size=(n, 3)), cameras.position.numpy())),
        _tensor(rng.uniform(*RANGES.ambient, n)),
        _tensor(_backgrounds(rng, n)),
    )


def sample_twin_views(rng: np.random.Generator, azimuth: ndarray, elevation: ndarray) -> Views:
    """Draw views from given directions that share all else, the light as the camera sees it too.

    Args:
        rng: draws distance, field of view, light and background once.
        azimuth: degrees [n].
        elevation: degrees [n].
    """
    n = len(azimuth)
    distance, fov_y, ambient = (
        np.full(n, rng.uniform(*pair)) for pair in (RANGES.distance, RANGES.fov_y, RANGES.ambient)
    )
    spread = np.tile(rng.normal(size=3), (n, 1))
    unturned = orbit_cameras(*map(_tensor, (np.zeros(n), elevation, distance, fov_y)))
    x, y, z = _lights(spread, unturned.position.numpy()).T
    cos, sin = np.cos(np.deg2rad(azimuth)), np.sin(np.deg2rad(azimuth))
    return Views(
        orbit_cameras(*map(_tensor, (azimuth, elevation, distance, fov_y))),
        _tensor(np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)),
        _tensor(ambient),
        _tensor(np.tile(_backgrounds(rng, 1), (n, 1))),
    )


def view_word(azimuth: float, elevation: float) -> str:
    """Name a view: overhead above 60 degrees, else front, side or back in bins of 90 degrees.

    Args:
        azimuth: degrees, any turn; 0 sees the front.
        elevation: degrees above the horizon.
    """
    if elevation > 60:
        return "overhead"
    turned = abs((azimuth + 180) % 360 - 180)
    if turned <= 45:
        return "front"
    return "back" if turned >= 135 else "side"


def _lights(spread: ndarray, position: ndarray) -> ndarray:
    """Return light directions [n, 3] for cameras at `position` and standard normal `spread`."""
    toward = position / np.linalg.norm(position, axis=-1, keepdims=True)
    light = toward + RANGES.light_spread * spread
    light[:, 2] = np.abs(light[:, 2]) + 0.2
    # back to the camera's side without leaving the upper hemisphere: a horizontal shift
    level = np.linalg.norm(toward[:, :2], axis=-1, keepdims=True)
    lacking = np.maximum(0.1 - (light * toward).sum(-1, keepdims=True), 0)
    light[:, :2] += lacking / level**2 * toward[:, :2]
    return light / np.linalg.norm(light, axis=-1, keepdims=True)


def _backgrounds(rng: np.random.Generator, n: int) -> ndarray:
    hue = rng.uniform(0, 6, (n, 1))
    pure = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1, 0, 1)
    saturation = rng.uniform(*RANGES.pastel_saturation, (n, 1))
    pastel = rng.uniform(*RANGES.pastel_value, (n, 1)) * (1 - saturation + saturation * pure)
    grey = np.broadcast_to(rng.uniform(*RANGES.grey, (n, 1)), (n, 3))
    kind = rng.random((n, 1))
    colored = np.where(kind < RANGES.white_share + RANGES.grey_share, grey, pastel)
    return np.where(kind < RANGES.white_share, 1.0, colored)


def _tensor(array: ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
