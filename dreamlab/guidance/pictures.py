"""Which picture of a render the prior judges.

Glossary: `N` the render's normal buffer, the opacity-weighted sum of unit normals n in world space
(so N = a n on a surface); `a` opacity in [0, 1].

    rgb      the colours
    albedo   the colours without light, in views that are lit too
    normal   (N + a) / 2: the normal as a colour, (n + 1) / 2, over black
    shape    (N + a - 1, a), shrunk to the size of the latents and used as them: no encoder

Normals are in world space, as in threestudio: a side of the object has the same colour from every
camera. `shape` is Fantasia3D's latent of the first steps; it needs a prior with four channels.

Source: Chen et al., Fantasia3D (2023), section 3.2, in the form of threestudio's configuration.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.priors.base import Latents, resize_square

Colors = Literal["rgb", "albedo", "normal"]
"""What is a picture."""
Sees = Literal["rgb", "albedo", "normal", "shape"]
SHAPE_CHANNELS = 4


def check_sees(sees: Sees, name: str, latent_channels: int) -> None:
    """Refuse what a prior cannot judge.

    Args:
        sees: what it is to judge.
        name: of the prior.
        latent_channels: of its latents.

    Raises:
        InputError: `shape` with a prior whose latents have other than four channels.
    """
    if sees == "shape" and latent_channels != SHAPE_CHANNELS:
        raise InputError(
            f"guidance.sees is 'shape', which needs latents of {SHAPE_CHANNELS} channels, got "
            f"{latent_channels} from {name}.",
            "set guidance.sees to normal or rgb, or use a Stable Diffusion model.",
        )


def picture(render: Render, sees: Sees) -> Float[Tensor, "batch height width 3"]:
    """Return what is encoded, one of `Colors`; differentiable to the render.

    Raises:
        InputError: albedo or normals are asked for and the renderer made none.
    """
    if sees == "rgb":
        return render.rgb
    if sees == "albedo":
        if render.albedo is None:
            raise _not_made("the albedo")
        return render.albedo
    return (_normal(render) + render.alpha) / 2


def shape_latents(render: Render, side: int) -> Latents:
    """Return (N + a - 1, a) at the size of the latents; differentiable to the render.

    Raises:
        InputError: the renderer made no normals, or the render is not square.
    """
    normal = resize_square(_normal(render) + render.alpha - 1, side)
    alpha = resize_square(render.alpha.expand(-1, -1, -1, 3), side)[:, :1]
    return torch.cat([normal, alpha], dim=1)


def _normal(render: Render) -> Float[Tensor, "batch height width 3"]:
    if render.normal is None:
        raise _not_made("normals")
    return render.normal


def _not_made(what: str) -> InputError:
    return InputError(
        f"guidance looks at {what}, and this renderer makes none.",
        "set guidance.sees to rgb, or use another renderer.",
    )
