"""Splatting on gsplat (1.4 or newer), for CUDA machines where its package is installed.

Its functions for what comes after projection have the conventions of `dreamlab.ops.splat.splat`.
So Gaussians in pixels are handed over as `project` returns them, ordered by their distance there,
and gradients come back to them: dL/dmean, which density control looks at, as from other backends.
Three things differ: alpha may be limited to 0.999 instead of 0.99, by version; the contribution
that brings the transmittance to 1e-4 or less is left out with all behind it; and shapes
(generalised exponentials) are refused.

This adapter was written against gsplat's source and is tested on a stand-in with its interface. It
has not been run on a GPU.

Source: https://github.com/nerfstudio-project/gsplat, `isect_tiles`, `isect_offset_encode` and
`rasterize_to_pixels` of `gsplat/cuda/_wrapper.py`, unpacked.
"""

import importlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from dreamlab.core.errors import InputError
from dreamlab.ops.splat.project import Projected
from dreamlab.ops.splat.splat import MIN_ALPHA

TILE = 16
"""Side of a tile, pixels; the one size that all versions support."""
WIDTHS = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32)
"""Numbers of channels that it has kernels for."""


def blend(projected: Projected, features: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Blend; see `dreamlab.ops.splat.splat.splat`.

    Raises:
        InputError: the Gaussians have shapes.
    """
    if projected.shape is not None:
        raise InputError(
            "splat on backend 'gsplat' draws Gaussians alone.", "use backend 'warp' or 'auto'."
        )
    # The import is dynamic because the package is no dependency.
    package: Any = importlib.import_module("gsplat")
    across, down = -(-width // TILE), -(-height // TILE)
    radii = _radii(projected)
    if _version(package) < (1, 5):
        radii = radii.amax(dim=-1)
    mean, opacity = projected.mean.contiguous(), projected.opacity.contiguous()
    distance = projected.distance.detach().contiguous()
    _, keys, members = package.isect_tiles(mean.detach(), radii, distance, TILE, across, down)
    starts = package.isect_offset_encode(keys, len(mean), across, down)
    pictures, alpha = [], None
    for part in features.split(WIDTHS[-1], dim=-1):
        channels = part.shape[-1]
        room = next(size for size in WIDTHS if size >= channels)
        picture, alpha = package.rasterize_to_pixels(
            mean,
            projected.conic.contiguous(),
            pad(part, (0, room - channels)).contiguous(),
            opacity,
            width,
            height,
            TILE,
            starts,
            members,
        )
        pictures.append(picture[..., :channels])
    assert alpha is not None  # there is at least one channel
    return torch.cat(pictures, dim=-1), alpha


@torch.no_grad()
def _radii(projected: Projected) -> Tensor:
    """Return half the sides of the boxes where alpha may reach 1/255, whole pixels; 0 for none."""
    a, b, c = projected.conic.unbind(dim=-1)
    square = 2 * (projected.opacity / MIN_ALPHA).log().clamp(min=0) / (a * c - b * b)
    half = (square[..., None] * torch.stack([c, a], dim=-1)).sqrt().ceil()
    is_drawn = projected.is_visible & (projected.opacity >= MIN_ALPHA)
    return half.where(is_drawn[..., None], 0.0).clamp(max=1 << 20).int()


def _version(package: Any) -> tuple[int, int]:
    """Return major and minor version."""
    major, minor = package.__version__.split(".")[:2]
    return int(major), int(minor)
