"""How much of the guidance's gradient each pixel of a render takes: a map of weights.

    g'_p = m_p g_p,        m_p in [0, 1]

    uniform    m_p = 1
    alpha      m_p = a_p                           what is behind the object gets nothing
    facing     m_p = max(0, -N_p . d_p)            surfaces seen at a glance get little

Glossary: p a pixel; g_p the gradient of the guidance's loss to what the render shows there (colour,
opacity, normal, depth); a opacity; N the opacity-weighted unit normal, world space; d the unit
direction of the ray. Weights take no gradient.

The map is applied at the pixels, where the gradient leaves the guidance and before it is clipped
(`guidance.pgc`): so it is the same for all rules, in latents or in pixels, and a pixel of weight 0
gets exactly nothing, which a map on latents cannot promise, since each of those sees many pixels.
Regularisers look at the same render and are not weighted.

Source: weights by visibility: Ni et al., DP-Recon (2025), with a map that is learned;
by the angle of view: Richardson et al., TEXTure (2023), which chooses pixels by it.
"""

from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.render import Render

PixelWeight = Literal["uniform", "alpha", "facing"]
PICTURES = ("rgb", "albedo", "alpha", "normal", "depth")
"""Fields of a render whose gradients are weighted."""


def weigh_gradients(render: Render, cameras: Cameras, kind: PixelWeight) -> Render:
    """Return the same render, whose pictures weigh the gradients that come back through them.

    The tensors of `render` itself stay as they are: what looks at those is not weighted.

    Raises:
        InputError: the weights need normals and the renderer made none.
    """
    if kind == "uniform":
        return render
    weights = pixel_weights(render, cameras, kind)
    weighed: dict[str, Tensor] = {}
    for name in PICTURES:
        picture = getattr(render, name)
        if picture is not None and picture.requires_grad:
            weighed[name] = picture.view_as(picture)
            weighed[name].register_hook(lambda gradient: weights.to(gradient) * gradient)
    return replace(render, **weighed)


@torch.no_grad()
def pixel_weights(
    render: Render, cameras: Cameras, kind: PixelWeight
) -> Float[Tensor, "batch height width 1"]:
    """Return m of the module docstring, without gradient.

    Raises:
        InputError: `facing`, and the renderer made no normals.
    """
    if kind == "uniform":
        return torch.ones_like(render.alpha)
    if kind == "alpha":
        return render.alpha.clamp(0, 1)
    if render.normal is None:
        raise InputError(
            "pixel_weight is 'facing', which needs normals, and this renderer makes none.",
            "set pixel_weight to alpha or uniform, or use another renderer.",
        )
    height, width = render.rgb.shape[1:3]
    directions = cameras.rays(height, width)[1].to(render.normal)
    return -(render.normal * directions).sum(dim=-1, keepdim=True).clamp(-1, 0)
