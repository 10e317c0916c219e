"""What ControlNets are shown of a render: depth or normals of the same views, as pictures.

    depth     c_p = 1 - (q_near - q_p) / (q_near - q_far)     inside the mask, else 0
    normal    c_p = (m_p + 1) / 2,   m = (-n_x, n_y, n_z)     inside the mask, else n = (0, 0, 1)

Glossary: p a pixel; q = 1 / z with z the distance along the camera's axis; q_near, q_far the
largest and the smallest q of a view inside its mask, the pixels of opacity above 1/2; n the normal
in the camera's frame (x right, y up, z towards the camera), mixed with that of the background by
opacity.

Conventions: depth is bright where it is near, as MiDaS estimates it; the farthest point of the
object is as dark as the background, and an object of one depth is white. Normals have the colours
of the normalbae ControlNet of Stable Diffusion 1.5: blue to the front, red to the left, green to
the top. What is behind an object is a wall that faces the camera, since estimated normals have no
holes. Every view is measured by itself; nothing here has a gradient.

Source: Zhang et al., Adding Conditional Control to Text-to-Image Diffusion Models (2023); the
colours of normals: notes to ControlNet 1.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance.prompts import Prompts, ViewConditionings
from dreamlab.priors.base import resize_square
from dreamlab.priors.controlnet import Control
from dreamlab.priors.load import resolve_model

Shown = Literal["depth", "normal"]
Images = Float[Tensor, "batch height width 3"]
MASK = 0.5
"""Opacity above which a pixel counts as the object."""
MIN_SPREAD = 1e-4
"""Spread of q, in inverse world units, below which an object counts as flat."""


@dataclass(frozen=True, slots=True)
class ControlConfig:
    """A ControlNet that steers all rules of a stage."""

    model: str
    """An alias (sd15-depth, sd15-normal), a folder of diffusers, or a hub id."""
    sees: Shown = "depth"
    """Which picture of the render it is shown."""
    strength: Scalar = 1.0
    """Factor of what it adds to the denoiser."""

    def __post_init__(self) -> None:
        check_within("strength", self.strength, 0.0)


def check_controls(controls: Sequence[ControlConfig], where: str) -> None:
    """Refuse ControlNets that cannot be, as far as is known without loading them.

    Args:
        controls: of a stage.
        where: their dotted path, for messages.

    Raises:
        InputError: a name stands for nothing, or for a ControlNet that sees another picture.
    """
    for index, control in enumerate(controls):
        sees = resolve_model(control.model, "controlnet").sees
        if sees not in (None, control.sees):
            raise InputError(
                f"{where}[{index}]: {control.model} sees {sees}, not {control.sees}.",
                f"set sees to {sees}, or choose another ControlNet.",
            )


class ControlledPrompts(Prompts):
    """Prompts that come with pictures for ControlNets."""

    def __init__(self, prompts: Prompts, controls: Sequence[ControlConfig], side: int) -> None:
        """Wrap prompts.

        Args:
            prompts: what is told of each view.
            controls: which pictures go with it.
            side: of these pictures, pixels; that of the prior's images.
        """
        super().__init__(
            prompts.views, prompts.negative, prompts.empty, prompts.config, prompts.negative_views
        )
        self.prompts, self.controls, self.side = prompts, controls, side

    def for_views(
        self, cameras: Cameras, render: Render | None = None, progress: float | None = None
    ) -> ViewConditionings:
        """Return what the prior is to be told and shown for each of these views.

        Raises:
            ValueError: there is no render, or no progress where a strength is a schedule.
            InputError: it is not square, or lacks normals that are to be shown.
        """
        if render is None:
            raise ValueError("ControlNets need a render to look at")
        pictures = [
            resize_square(control_picture(render, cameras, control.sees), self.side)
            for control in self.controls
        ]
        control = Control(
            tuple(control.model for control in self.controls),
            tuple(value_at(control.strength, progress) for control in self.controls),
            torch.stack(pictures, dim=1).to(self.views),
        )
        return replace(self.prompts.for_views(cameras, render, progress), control=control)


@torch.no_grad()
def control_picture(render: Render, cameras: Cameras, sees: Shown) -> Images:
    """Return c of the module docstring, in [0, 1].

    Raises:
        InputError: normals are to be shown, and the renderer made none.
    """
    if sees == "depth":
        return inverse_depth(render, cameras).expand(-1, -1, -1, 3)
    return camera_normals(render, cameras)


def inverse_depth(render: Render, cameras: Cameras) -> Float[Tensor, "batch height width 1"]:
    """Return the picture of the depth, bright where it is near."""
    is_object = render.alpha > MASK
    directions = cameras.rays(*render.rgb.shape[1:3])[1].to(render.depth)
    axes = -cameras.camera_to_world[:, None, None, :3, 2].to(directions)
    cosine = (directions * axes).sum(dim=-1, keepdim=True)
    q = render.alpha / (render.depth * cosine).clamp(min=torch.finfo(render.depth.dtype).tiny)
    near = q.masked_fill(~is_object, -torch.inf).amax(dim=(1, 2, 3), keepdim=True)
    far = q.masked_fill(~is_object, torch.inf).amin(dim=(1, 2, 3), keepdim=True)
    picture = 1 - (near - q) / (near - far).clamp(min=MIN_SPREAD)
    return torch.where(is_object, picture, 0.0)


def camera_normals(render: Render, cameras: Cameras) -> Images:
    """Return the picture of the normals, in the colours of the normalbae ControlNet.

    Raises:
        InputError: the renderer made no normals.
    """
    if render.normal is None:
        raise InputError(
            "a ControlNet is to see normals, and this renderer makes none.",
            "use a ControlNet that sees depth, or another renderer.",
        )
    rotation = cameras.camera_to_world[:, :3, :3].to(render.normal)
    x, y, z = torch.einsum("bij,bhwi->bhwj", rotation, render.normal).unbind(dim=-1)
    behind = 1 - render.alpha[..., 0]
    return ((torch.stack([-x, y, z + behind], dim=-1) + 1) / 2).clamp(0, 1)
