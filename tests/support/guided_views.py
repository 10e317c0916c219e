"""Renders and cameras for guidance tests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.render import Render

REFERENCE = (0.55, 0.35, 0.625)
"""What was seen before, sRGB."""


def as_render(rgb: Tensor) -> Render:
    one = torch.ones_like(rgb[..., :1]).detach()
    before = torch.tensor(REFERENCE).to(rgb).expand_as(rgb)
    return Render(rgb, one, one, reference=Render(before, one, one))


def cameras_at(azimuth: Sequence[float], elevation: Sequence[float] | None = None) -> Cameras:
    turn = torch.tensor([float(a) for a in azimuth])
    tilt = torch.zeros_like(turn) if elevation is None else torch.tensor(list(elevation)).float()
    one = torch.ones_like(turn)
    return orbit_cameras(turn, tilt, 3 * one, 40 * one)
