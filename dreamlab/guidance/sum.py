"""Several rules in one step: each judges the same renders, and their losses are added.

    L = sum_k L_k

Glossary: L_k the loss of rule k, with the weights of its own (`latent_weight`, `image_weight`); x
what rules look at: the pictures of the render, and latents where those are what is optimised; g_x
the gradient of L to x; sg(.) stops gradients.

Rules may look at different pictures (colours and normals) or at the same one. What bounds the
gradients of pixels (`pgc`) acts on the sum, picture by picture, as on that of a single rule.

Rules take turns. The way back from L_k to x is gone as soon as L_k is known, so that a sum holds no
more memory than its largest rule. What is returned has the value and the gradient of L,

    sum_k sg(L_k) + sum_x <g_x, x - sg(x)>,        g_x = sum_k dL_k / dx.

The first rule draws from the generator that the sum is given, and so it judges as it does alone,
bit by bit; each other one has a generator of its own. So no rule draws other numbers because
another one has other settings.

Source: colours and normals in one step: Pan et al., Enhancing High-Resolution 3D Generation through
Pixel-wise Gradient Clipping (2024), with its code (PGC-3D).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core import seeds
from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.guidance.base import Guidance, GuidanceOutput, needs_albedo, needs_normals
from dreamlab.guidance.encoder_gradient import optimized_latents
from dreamlab.priors.base import Prior

Gradients = list[Tensor | None]


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a sum."""

    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The rules by names of your choice, each with its file's `name` and its settings."""

    def __post_init__(self) -> None:
        for name in self.rules:
            if not name.isidentifier():
                raise ValueError(f"the name of a rule must be a word, such as colors, got {name!r}")


class Sum:
    """Rules whose losses are added; what each of them learns or compares is its own affair."""

    def __init__(self, rules: Mapping[str, Guidance], prior: Prior) -> None:
        """Add up `rules`, which all have the prior `prior`."""
        if not rules:
            raise ValueError("a sum needs at least one rule")
        self.rules, self.prior = dict(rules), prior

    @property
    def needs_normals(self) -> bool:
        """Whether renders must have normals."""
        return any(map(needs_normals, self.rules.values()))

    @property
    def needs_albedo(self) -> bool:
        """Whether renders must have their colours without light."""
        return any(map(needs_albedo, self.rules.values()))

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> GuidanceOutput:
        seen = _differentiable(render)
        leaves = {name: x.detach().requires_grad_() for name, x in seen.items()}
        shown, looked_at, arriving = replace(render, **leaves), [*leaves.values()], [*seen.values()]
        latents = optimized_latents(self.prior)
        if latents is not None:
            looked_at, arriving = [*looked_at, latents], [*arriving, latents]
        losses, found, metrics = list[Tensor](), list[Gradients](), dict[str, float]()
        draws = generators(generator, len(self.rules))
        for (name, rule), own in zip(self.rules.items(), draws, strict=True):
            judged = rule(shown, cameras, progress, own)
            losses.append(judged.loss.detach())
            found.append(_gradients(judged.loss, looked_at))
            metrics |= {f"{name}.{key}": value for key, value in judged.metrics.items()}
        return GuidanceOutput(torch.stack(losses).sum() + _linear(arriving, found), metrics)


def rules_of(guidance: Guidance | None) -> dict[str, Guidance]:
    """Return the single rules by name: those of a sum, or a rule itself under the empty name."""
    if guidance is None:
        return {}
    return guidance.rules if isinstance(guidance, Sum) else {"": guidance}


def generators(first: torch.Generator, count: int) -> list[torch.Generator]:
    """Return `first`, and generators that follow from its seed but draw other numbers."""
    seed = first.initial_seed()
    return [first, *(seeds.generator(seed, "rule", index) for index in range(1, count))]


def _differentiable(render: Render) -> dict[str, Tensor]:
    """Return the pictures of a render through which a gradient can go, by name."""
    pictures = {each.name: getattr(render, each.name) for each in fields(render)}
    return {
        name: picture
        for name, picture in pictures.items()
        if isinstance(picture, Tensor) and picture.requires_grad
    }


def _gradients(loss: Float[Tensor, ""], values: Sequence[Tensor]) -> Gradients:
    """Return the gradients of a loss, whose graph is gone then; None to what it does not know."""
    if not values or not loss.requires_grad:
        return [None] * len(values)
    return list(torch.autograd.grad(loss, values, allow_unused=True))


def _linear(values: Iterable[Tensor], gradients: Sequence[Gradients]) -> Tensor | float:
    """Return <g, x - sg(x)> over all x, each g a sum; 0, or not finite if a gradient is not."""
    total: Tensor | float = 0.0
    for x, per_rule in zip(values, zip(*gradients, strict=True), strict=True):
        known = [g for g in per_rule if g is not None]
        if known:
            total = total + (torch.stack(known).sum(dim=0) * (x - x.detach())).sum()
    return total


def build(config: Config, rules: Mapping[str, Guidance], prior: Prior) -> Sum:
    """Build the sum of rules that are built already, by their names in `config`."""
    return Sum(rules, prior)
