"""Renders and cameras for guidance tests."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.render import Render


def as_render(rgb: Tensor) -> Render:
    one = torch.ones_like(rgb[..., :1])
    return Render(rgb=rgb, alpha=one, depth=one)


def cameras_at(azimuth: Sequence[float], elevation: Sequence[float] | None = None) -> Cameras:
    turn = torch.tensor([float(a) for a in azimuth])
    tilt = torch.zeros_like(turn) if elevation is None else torch.tensor(list(elevation)).float()
    one = torch.ones_like(turn)
    return orbit_cameras(turn, tilt, 3 * one, 40 * one)
