"""What every score-distillation rule shares: the protocol, the U-Net call, the loss.

Glossary: B views; n conditionings of one view; `z` clean latents; `eps` the noise added to them;
`e_y`, `e_0`, `e_neg` the network's noise predictions for the prompt, the empty prompt and the
negative prompt; `eh` the guided prediction; `g` the gradient that a rule wants
to see on z; sg(.) stops gradients.

There is one normalisation of the loss,

    L = 1/B sum_views 1/2 || z - sg(z - g) ||^2,        so that dL/dz_i = g_i / B,

a sum over the values of a view and a mean over views. threestudio's is the same. Where others hand
g over without dividing by B (ProlificDreamer, PGC-3D), multiply their weights by B; where the
squared difference is averaged over all values (SDI), multiply by 2 / (C h w).

A gradient that is not finite stays so: it makes the loss non-finite, which the training loop
watches, and `nonfinite_fraction` says how much of it was bad. Nothing is replaced by zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.priors.base import Latents, PerView, Prior
from dreamlab.priors.controlnet import Control, Controllable
from dreamlab.priors.multi_view import group_size

Conditionings = Float[Tensor, "batch _variants tokens features"]
Scores = Float[Tensor, "batch _variants channels height width"]


@dataclass(frozen=True, slots=True)
class GuidanceOutput:
    """What a rule makes of a batch of renders."""

    loss: Float[Tensor, ""]
    """Differentiable to the render; its value means nothing, its gradient does."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Numbers for the log."""


@runtime_checkable
class Guidance(Protocol):
    """A score-distillation rule."""

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> GuidanceOutput:
        """Judge a batch of renders.

        Args:
            progress: fraction of the stage that is done, in [0, 1].
            generator: on the CPU; the only source of random numbers.
        """
        ...


def views_together(guidance: Guidance, num_views: int) -> int:
    """Return how many views of a step a rule's prior judges as one: 1 but for multi-view priors.

    Args:
        guidance: has its prior as `prior`, if it has one.
        num_views: views of a step.

    Raises:
        InputError: they are no whole groups.
    """
    prior = getattr(guidance, "prior", None)
    return 1 if prior is None else group_size(prior, num_views)


def needs_normals(guidance: Guidance | None) -> bool:
    """Tell whether a rule looks at the normals of a render: its `needs_normals`, if it has one."""
    return bool(getattr(guidance, "needs_normals", False))


def needs_albedo(guidance: Guidance | None) -> bool:
    """Tell whether a rule looks at colours without light: its `needs_albedo`, if it has one."""
    return bool(getattr(guidance, "needs_albedo", False))


def predict_scores(
    prior: Prior,
    noisy: Latents,
    t: Float[Tensor, " batch"],
    groups: Mapping[str, Conditionings],
    control: Control | None = None,
) -> dict[str, Scores]:
    """Return the noise predicted for every view under every one of its conditionings.

    All of them go through the U-Net in one call. Rows are ordered view by view, so that row
    i * n + j is view i under its own conditioning j, for any number of views. A multi-view prior
    gets them group by group, in each group conditioning by conditioning, and then view by view.

    Args:
        prior: the diffusion model.
        noisy: z_t.
        t: times, one a view.
        groups: by name, `[B n_group T D]`; a group may be empty (n_group = 0).
        control: what ControlNets are shown of every view, whatever its conditioning.

    Returns:
        By the same names, `[B n_group C h w]`, float32, without gradient.
    """
    conditioning = torch.cat(list(groups.values()), dim=1)
    num_variants, together = conditioning.shape[1], group_size(prior, len(noisy))

    def rows(values: Tensor) -> Tensor:
        """From `[B n ...]`, with B = groups x views, to rows."""
        return values.unflatten(0, (-1, together)).transpose(1, 2).flatten(0, 2)

    inputs = (
        rows(noisy[:, None].expand(-1, num_variants, -1, -1, -1)),
        rows(t[:, None].expand(-1, num_variants)),
        rows(conditioning),
    )
    if control is None:
        prediction = prior.predict(*inputs)
    else:
        prediction = cast(Controllable, prior).predict(*inputs, control.repeated(num_variants))
    predicted = prediction.eps.float()
    eps = predicted.unflatten(0, (-1, num_variants, together)).transpose(1, 2).flatten(0, 1)
    sizes = [group.shape[1] for group in groups.values()]
    return dict(zip(groups, eps.split(sizes, dim=1), strict=True))


def compose(scores: Mapping[str, Scores], coefficients: Mapping[str, float | PerView]) -> Latents:
    """Return the linear combination sum_k c_k e_k of single predictions.

    Classifier-free guidance by s is {"positive": s, "negative": 1 - s}; other rules are other
    coefficients, which may differ between views.
    """
    return torch.stack([c * scores[name][:, 0] for name, c in coefficients.items()]).sum(dim=0)


def distillation_loss(
    values: Float[Tensor, "batch *shape"], gradient: Float[Tensor, "batch *shape"]
) -> Float[Tensor, ""]:
    """Return the loss whose gradient to `values` is `gradient` / B (see the module docstring)."""
    target = (values - gradient).detach()
    return 0.5 * (values - target).square().sum() / len(values)


def clip_values(gradient: Latents, limit: float) -> Latents:
    """Clip every value to [-limit, limit]; what is not finite stays, so that it is seen."""
    return torch.where(gradient.isfinite(), gradient.clamp(-limit, limit), gradient)


def gradient_metrics(gradient: Latents) -> dict[str, float]:
    """Return the root mean square of a gradient's finite values and the fraction of others."""
    finite = gradient.isfinite()
    square = torch.where(finite, gradient, 0.0).square().sum() / finite.sum().clamp(min=1)
    return {
        "gradient_rms": square.sqrt().item(),
        "nonfinite_fraction": 1.0 - finite.float().mean().item(),
    }
