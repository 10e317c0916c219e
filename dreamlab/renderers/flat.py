"""A picture shown as it is, the same to every camera.

    rgb = x (resized to the asked size),   alpha = 1,   depth = 0,   normal = 0

So the views of a step are one picture that is judged several times, with noise of its own each.
There is nothing to light, and no background behind it.

Source: image synthesis by score distillation as in DreamFusion (Poole et al. 2022), section 3.2.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Picture
from dreamlab.core.regions import Regions
from dreamlab.core.render import Render
from dreamlab.renderers.shading import Shading


@dataclass(frozen=True, slots=True)
class Config:
    """There is nothing to set."""


class FlatRenderer(nn.Module):
    """Shows a `Picture`."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self._picture = (picture,)  # in a tuple, so that it is not registered

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return nothing."""
        return {}

    def update(self, step: int, progress: float, generator: torch.Generator) -> None:
        """Do nothing."""

    def forward(
        self,
        cameras: Cameras,
        height: int,
        width: int,
        *,
        shading: Shading,
        training: bool,
        generator: torch.Generator | None = None,
        background: Float[Tensor, "*shape 3"] | None = None,
        normals: bool = False,
        albedo: bool = False,
        depth_variance: bool = False,
        regions: Regions | None = None,
    ) -> Render:
        """Show the picture once for each camera.

        Args:
            cameras: only their number matters.
            height: of the images, pixels; also `width`.
            shading: not used.
            training: keep gradients.
            generator: not used.
            background: not used.
            normals: also return `normal` and `orientation`, zeros.
            albedo: also return `albedo`, the picture.
            depth_variance: also return `depth_variance`, zeros.
            regions: must be None.

        Raises:
            InputError: there are regions, which are places of a world that a picture has not.

        Gradients: rgb to the picture.
        """
        if regions is not None:
            raise InputError(
                "a picture has no places for the objects of a layout.",
                "set layout to null, or use a recipe that makes a model.",
            )
        with torch.set_grad_enabled(training and torch.is_grad_enabled()):
            picture = self._picture[0].picture()
            if picture.shape[:2] != (height, width):
                picture = _resized(picture, height, width)
            rgb = picture.expand(len(cameras), -1, -1, -1)
            one = torch.ones_like(rgb[..., :1])
            nothing = torch.zeros_like(one)
            return Render(
                rgb=rgb,
                alpha=one,
                depth=nothing,
                normal=torch.zeros_like(rgb) if normals else None,
                albedo=rgb if albedo else None,
                depth_variance=nothing if depth_variance else None,
                orientation=nothing if normals else None,
            )


def _resized(
    picture: Float[Tensor, "side side 3"], height: int, width: int
) -> Float[Tensor, "{height} {width} 3"]:
    """Resize, bilinear, antialiased when shrinking."""
    channels_first = picture.permute(2, 0, 1)[None]
    resized = interpolate(channels_first, (height, width), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)


def build(config: Config, picture: Any, generator: torch.Generator | None = None) -> FlatRenderer:
    """Make the renderer.

    Raises:
        InputError: the representation is no picture.
    """
    if not isinstance(picture, Picture):
        raise InputError(
            f"the renderer flat cannot show a {type(picture).__name__}, which is no picture.",
            "use the representation image or latent_image, or another renderer.",
        )
    return FlatRenderer(picture)
