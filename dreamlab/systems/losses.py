"""Regularisers: what a good object looks like whatever the prompt says, as losses on a render.

Glossary: `a` opacity (alpha) of a pixel in [0, 1], `d` depth, `n` normal; B views, P pixels of a
view.

Normalisation, the same for all: a loss is a mean over the pixels of a view (which pixels, its
formula says), then a mean over views. It therefore depends neither on the number of views nor, up
to discretisation, on their size. Weights are set by name in a recipe and may be schedules. A loss
whose weight is zero is not evaluated, and the buffers only it needs are not rendered.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError, nearest
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, value_at

Image = Float[Tensor, "batch height width _channels"]
Loss = Float[Tensor, ""]

SOFTENING = 0.01
"""Keeps the derivative of the sparsity loss finite at a = 0 (DreamFusion's released recipes)."""
ENTROPY_MARGIN = 1e-3
"""Opacities are kept this far from 0 and 1, where the entropy's slope is infinite."""
SOLID = 0.5
"""Opacity above which a pixel counts as covered by the object."""
BORDER = 1 / 16
"""Width of the frame that should stay empty, as a share of the image's height."""


def opacity_sparsity(render: Render) -> Loss:
    """Return mean sqrt(a^2 + 0.01): as little as possible should be filled.

    Source: DreamFusion (Poole et al. 2022), as in its open re-implementations.
    """
    return (render.alpha.square() + SOFTENING).sqrt().mean()


def opacity_entropy(render: Render) -> Loss:
    """Return mean -a log a - (1 - a) log(1 - a), in nats: pixels should be filled or empty.

    Source: Latent-NeRF (Metzer et al. 2023); ProlificDreamer's "opaque" loss.
    """
    a = render.alpha.clamp(ENTROPY_MARGIN, 1 - ENTROPY_MARGIN)
    return -(a * a.log() + (1 - a) * (1 - a).log()).mean()


def opacity_border(render: Render) -> Loss:
    """Return mean a^2 over a frame 1/16 of the image wide: the object should not leave the picture.

    It also keeps the field from becoming a backdrop that fills every view.
    """
    _, height, width, _ = render.alpha.shape
    frame = max(1, round(height * BORDER))
    border = torch.ones(height, width, 1, dtype=torch.bool, device=render.alpha.device)
    border[frame : height - frame, frame : width - frame] = False
    return render.alpha[:, border].square().mean()


def orientation(render: Render) -> Loss:
    """Return sum w max(0, n . d)^2 per ray, mean over rays that hit something.

    Normals of visible samples should not face away from the camera; this removes fog. Weights w
    carry no gradient.
    Source: Ref-NeRF (Verbin et al. 2022) eq. 11; DreamFusion, weight 10 to 1000.

    Raises:
        InputError: normals come from the depth, which knows of no samples along a ray.
    """
    if render.orientation is None:
        raise InputError(
            "the loss orientation needs normals of samples along rays.",
            "set normals: density in the stage's renderer, or leave the loss out.",
        )
    return _masked_mean(render.orientation, render.alpha > 0)


def depth_variance(render: Render) -> Loss:
    """Return the variance of depth along a ray, mean over covered pixels: surfaces should be thin.

    Source: z-variance of HiFA (Zhu et al. 2023), section 3.3.
    """
    assert render.depth_variance is not None
    return _masked_mean(render.depth_variance, render.alpha > SOLID)


def alpha_variation(render: Render) -> Loss:
    """Return the total variation of opacity: short outlines, no speckles."""
    return total_variation(render.alpha)


def depth_variation(render: Render) -> Loss:
    """Return the total variation of depth (weighted by opacity): smooth surfaces, no spikes."""
    return total_variation(render.depth)


def normal_variation(render: Render) -> Loss:
    """Return the total variation of normals: flat or evenly curved surfaces."""
    assert render.normal is not None
    return total_variation(render.normal)


def box_excess(render: Render) -> Loss:
    """Return the mean of a e, e how far what is seen lies outside of all boxes: stay in your box.

    It thins densities outside, and moves surfaces and Gaussians towards the nearest box; inside of
    boxes it is 0. Weights are per world unit.
    Source: restriction boxes of SemanticSDS (Yang et al. 2024), a hinge on the means of Gaussians;
    taken over what is seen, it is the same for every representation.
    """
    assert render.excess is not None
    return render.excess.mean()


def total_variation(image: Image) -> Loss:
    """Return sum |x_i - x_j| over neighbouring pixels / height, mean over views and channels.

    This is the anisotropic total variation where the image is 1 high, so the size of the render
    does not matter: a disc of radius r and contrast 1 has 8 r.
    Source: Rudin, Osher and Fatemi (1992).
    """
    batch, height, _, channels = image.shape
    vertical = image.diff(dim=1).abs().sum()
    horizontal = image.diff(dim=2).abs().sum()
    return (vertical + horizontal) / (height * batch * channels)


def _masked_mean(image: Tensor, mask: Tensor) -> Tensor:
    """Average over the masked pixels of each view (0 where there are none), then over views."""
    count = mask.sum(dim=(1, 2, 3)).clamp(min=1)
    return (torch.where(mask, image, 0.0).sum(dim=(1, 2, 3)) / count).mean()


RENDER_LOSSES: dict[str, Callable[[Render], Tensor]] = {
    "opacity_sparsity": opacity_sparsity,
    "opacity_entropy": opacity_entropy,
    "opacity_border": opacity_border,
    "orientation": orientation,
    "depth_variance": depth_variance,
    "alpha_variation": alpha_variation,
    "depth_variation": depth_variation,
    "normal_variation": normal_variation,
    "box_excess": box_excess,
}
"""By the name that recipes use."""
NEED_NORMALS = {"orientation", "normal_variation"}
NEED_DEPTH_VARIANCE = {"depth_variance"}
NEED_LAYOUT = {"box_excess"}


@dataclass(frozen=True, slots=True)
class Buffers:
    """Which optional images of a `Render` are needed."""

    normals: bool
    """`normal` and `orientation`."""
    depth_variance: bool
    """`depth_variance`."""


@dataclass(frozen=True, slots=True)
class Losses:
    """The weighted sum of the regularisers that a recipe names."""

    weights: Mapping[str, Scalar]
    """Name of a render loss, or of a regulariser of the representation, to its weight."""

    def check_names(self, regularisers: set[str]) -> None:
        """Raise `InputError` for a name that is neither ours nor in `regularisers`."""
        known = regularisers | RENDER_LOSSES.keys()
        for name in self.weights:
            if name not in known:
                raise InputError(
                    f"unknown loss {name!r}: neither renders nor this representation have it.",
                    nearest(name, known),
                )

    def check_layout(self, *, has_layout: bool) -> None:
        """Raise `InputError` for a loss that needs the boxes of a layout if there are none."""
        for name in NEED_LAYOUT & self.weights.keys():
            if self.weights[name] != 0 and not has_layout:
                raise InputError(
                    f"the loss {name!r} needs a layout.",
                    f"set layout, or set the stage's losses.{name} to 0.",
                )

    def active(self, progress: float) -> dict[str, float]:
        """Return the weights that are not zero at `progress`."""
        weights = {name: value_at(weight, progress) for name, weight in self.weights.items()}
        return {name: weight for name, weight in weights.items() if weight != 0}

    def buffers(self, progress: float) -> Buffers:
        """Return which optional images the renderer has to make at `progress`."""
        active = self.active(progress).keys()
        return Buffers(
            normals=not active.isdisjoint(NEED_NORMALS),
            depth_variance=not active.isdisjoint(NEED_DEPTH_VARIANCE),
        )

    def evaluate(
        self, render: Render, regularisers: Callable[[], Mapping[str, Tensor]], progress: float
    ) -> tuple[Loss, dict[str, Tensor]]:
        """Return the weighted sum, and the unweighted values by name.

        Args:
            render: has the buffers that `buffers(progress)` asked for.
            regularisers: the representation's own losses; called only if one has a weight.
            progress: fraction of the stage that is done, in [0, 1].

        Gradients: to everything that the named losses look at.
        """
        active = self.active(progress)
        own = {} if active.keys() <= RENDER_LOSSES.keys() else regularisers()
        values = {
            name: RENDER_LOSSES[name](render) if name in RENDER_LOSSES else own[name]
            for name in active
        }
        total = render.alpha.new_zeros(())
        for name, value in values.items():
            total = total + active[name] * value
        return total, {name: value.detach() for name, value in values.items()}
