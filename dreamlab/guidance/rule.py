"""The frame of every rule: what is done around its formula.

    picture of the render -> z -> t, eps -> z_t -> formula -> gradient g -> loss

A rule is a file with a `Config`, a subclass of `Rule` that holds the formula, and `build`. The
formula gets everything about the views of a step (`Views`) and returns a `Judgement`. It treats
each view for itself, so a view's gradient does not depend on its company; with a multi-view prior
that holds for each group of views (`priors.multi_view`). A rule that learns does so after it has
judged (`study`).

Most rules are a difference r of noise predictions under a weight w(t). Then

    g = w r,      and z is pulled to   x = z - (sigma / alpha) r   with strength w alpha / sigma,

which for r = eh - eps is the one-step denoised x0h = (z_t - sigma eh) / alpha. The image-space form
of any such rule pulls the picture p to D(x) instead of z to x:

    g_p = w (alpha / sigma) (p - D(x)),     p, D(x) in [0, 1] at the prior's image size

and needs no backward pass through the encoder. Letters and normalisation: `guidance.base`.

Source: Poole et al., DreamFusion (2023), eq. 3; image space: Zhu et al., HiFA (2024).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, check_within, ends, value_at
from dreamlab.guidance import base
from dreamlab.guidance.guided import ALL, GUIDED, Form, Group, guided_noise
from dreamlab.guidance.pictures import Sees, check_sees, picture, shape_latents
from dreamlab.guidance.prompts import Prompts, ViewConditionings
from dreamlab.guidance.timesteps import TimestepConfig, sample_timesteps
from dreamlab.guidance.weighting import Weighting, weight
from dreamlab.priors.base import Latents, PerView, Prior, resize_square
from dreamlab.priors.footprint import Coding
from dreamlab.priors.multi_view import group_size


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """Settings that all rules have."""

    sees: Sees = "rgb"
    """What the prior judges: `rgb`; `albedo`, the colours without light; `normal`, normals in world
    space as colours; `shape`, normal and opacity used as latents (early geometry, four-channel
    priors only)."""
    weighting: Weighting = "sds"
    """w(t): `sds` sigma^2, `uniform` 1, `fantasia3d` alpha sigma^2, `x0` sigma / alpha,
    `inverse_variance` 1 / sigma^2, `flow` (alpha + sigma) / alpha."""
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)
    """Which noise levels are judged when."""
    latent_weight: Scalar = 1.0
    """Weight of the loss on latents; 0: the encoder is not differentiated."""
    image_weight: Scalar = 0.0
    """Weight of the loss on pixels (HiFA: 0.01 beside 1 on latents); 0: nothing is decoded."""
    gradient_clip: Scalar | None = None
    """Clip each value of the latents' gradient to so much; none: no clipping."""

    def __post_init__(self) -> None:
        for name in ("latent_weight", "image_weight"):
            check_within(name, getattr(self, name), 0.0)
        if max(*ends(self.latent_weight), *ends(self.image_weight)) == 0:
            raise ValueError("latent_weight or image_weight must be positive, got 0 for both")
        if self.gradient_clip is not None:
            check_within("gradient_clip", self.gradient_clip, 0.0, strictly=True)
        if self.sees == "shape" and max(ends(self.image_weight)) > 0:
            raise ValueError("image_weight must be 0 with sees 'shape', which is no image")

    @property
    def widest(self) -> tuple[Group, ...]:
        """Groups of conditionings in the rule's widest call of the denoiser, at any progress."""
        return ALL

    @property
    def codings(self) -> tuple[Coding, ...]:
        """What a step asks of the autoencoder, at any progress."""
        if self.sees == "shape":
            return ()
        asked: dict[Coding, bool] = {
            "encode": True,
            "back": max(ends(self.latent_weight)) > 0,
            "decode": max(ends(self.image_weight)) > 0,
        }
        return tuple(coding for coding, is_asked in asked.items() if is_asked)


@dataclass(frozen=True, slots=True)
class GuidedConfig(RuleConfig):
    """Settings of the rules with a guided prediction eh."""

    guidance_scale: Scalar = 7.5
    """s in e_0 + s (e_y - e_0); 1: no guidance."""
    parallel: Scalar = 1.0
    """eta, how much is kept of what guidance adds along the clean latents, which saturates colours,
    in [0, 1]; 1: all of it."""
    cfg_rescale: Scalar = 0.0
    """How far the guided prediction's spread is brought back to the plain one's, in [0, 1]."""
    cfg_rescale_of: Form = "noise"
    """Whose spread: the predicted `noise`'s, or that of the clean latents, `x0` (MVDream)."""

    def __post_init__(self) -> None:
        RuleConfig.__post_init__(self)
        for name in ("parallel", "cfg_rescale"):
            check_within(name, getattr(self, name), 0.0, 1.0)

    @property
    def widest(self) -> tuple[Group, ...]:
        return GUIDED


@dataclass(frozen=True, slots=True)
class Reference:
    """What a formula compares the views with, if it does that."""

    latents: Latents
    """Of the object as it was at the begin of the stage, without gradient."""
    conditionings: ViewConditionings
    """What the prior is told about that."""


@dataclass(frozen=True, slots=True)
class Views:
    """The views of one step, as a formula gets them."""

    latents: Latents
    """z, without gradient."""
    t: Float[Tensor, " batch"]
    noise: Latents
    """eps."""
    noisy: Latents
    """z_t = alpha z + sigma eps."""
    alpha: PerView
    sigma: PerView
    conditionings: ViewConditionings
    progress: float
    """Fraction of the stage that is done, in [0, 1]."""
    extra: Float[Tensor, "batch *numbers"] | None
    """What the rule's `draw_extra` returned."""
    reference: Reference | None = None
    """What the rule's `refer` returned."""
    cameras: Cameras | None = None
    """From where they are seen."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says about latents."""

    gradient: Latents
    """g."""
    x0: Latents
    """The clean latents that z is pulled to; x0h in SDS."""
    pull: PerView
    """w alpha / sigma, the strength of that pull."""


C = TypeVar("C", bound=RuleConfig)
G = TypeVar("G", bound=GuidedConfig)


class Rule(ABC, Generic[C]):
    """A score-distillation rule with one prior and one prompt; a `guidance.base.Guidance`.

    Raises:
        InputError: the prior cannot judge what `sees` names.
    """

    def __init__(self, config: C, prior: Prior, prompts: Prompts) -> None:
        check_sees(config.sees, prior.name, prior.latent_channels)
        self.config, self.prior, self.prompts = config, prior, prompts

    @property
    def needs_normals(self) -> bool:
        """Whether renders must have normals."""
        return self.config.sees in ("normal", "shape")

    @property
    def needs_albedo(self) -> bool:
        """Whether renders must have their colours without light."""
        return self.config.sees == "albedo"

    @abstractmethod
    def formula(self, views: Views) -> Judgement:
        """Return the gradient; a pure function, view by view."""

    def draw_extra(
        self, noise: Latents, generator: torch.Generator
    ) -> Float[Tensor, "batch *numbers"] | None:
        """Draw on the CPU what the formula needs beside t and eps, a row a view."""
        return None

    def refer(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> Reference | None:
        """Return what the formula compares the views with; the generator stays as it is."""
        return None

    def study(
        self, latents: Latents, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> dict[str, float]:
        """Learn from views that were judged, if the rule learns; return numbers for the log.

        Args:
            latents: z, without gradient.
        """
        return {}

    def weighted(self, views: Views, residual: Latents, x0: Latents | None = None) -> Judgement:
        """Return the judgement of g = w(t) r.

        Args:
            views: the views of the step.
            residual: r.
            x0: z - (sigma / alpha) r, if it can be had with less rounding.
        """
        alpha, sigma = views.alpha, views.sigma
        w = weight(self.config.weighting, alpha, sigma)
        target = views.latents - sigma / alpha * residual if x0 is None else x0
        return Judgement(w * residual, target, w * alpha / sigma)

    def judge(
        self,
        latents: Latents,
        t: Float[Tensor, " batch"],
        noise: Latents,
        conditionings: ViewConditionings,
        progress: float,
        extra: Float[Tensor, "batch *numbers"] | None = None,
        reference: Reference | None = None,
        cameras: Cameras | None = None,
    ) -> Judgement:
        """Apply the formula to given times and noise; nothing is learned."""
        alpha, sigma = self.prior.alpha_sigma(t)
        noisy = alpha * latents + sigma * noise
        known = (conditionings, progress, extra, reference, cameras)
        return self.formula(Views(latents, t, noise, noisy, alpha, sigma, *known))

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> base.GuidanceOutput:
        latent_weight = value_at(self.config.latent_weight, progress)
        image_weight = value_at(self.config.image_weight, progress)
        reference = self.refer(render, cameras, progress, generator)
        with torch.set_grad_enabled(torch.is_grad_enabled() and latent_weight > 0):
            latents = self.encode(render, generator)
        z = latents.detach()
        t, judgement = self._draw(z, render, cameras, progress, generator, reference)
        gradient = judgement.gradient
        metrics = {"t": t.mean().item(), **base.gradient_metrics(gradient)}
        metrics |= self.study(z, cameras, progress, generator)
        loss = latents.new_zeros(())
        if latent_weight:
            if self.config.gradient_clip is not None:
                gradient = base.clip_values(gradient, value_at(self.config.gradient_clip, progress))
            loss = loss + latent_weight * base.distillation_loss(latents, gradient)
        if image_weight:
            loss = loss + image_weight * self._image_loss(render, judgement)
        return base.GuidanceOutput(loss, metrics)

    def encode(self, render: Render, generator: torch.Generator) -> Latents:
        """Return z of what the prior judges; differentiable to the render."""
        if self.config.sees == "shape":
            return shape_latents(render, self.prior.latent_size)
        return self.prior.encode_image(picture(render, self.config.sees), generator).float()

    def _draw(
        self,
        latents: Latents,
        render: Render,
        cameras: Cameras,
        progress: float,
        generator: torch.Generator,
        reference: Reference | None,
    ) -> tuple[Float[Tensor, " batch"], Judgement]:
        conditionings = self.prompts.for_views(cameras, render, progress)
        together = group_size(self.prior, len(latents))
        t = sample_timesteps(self.config.timesteps, progress, len(latents), generator, together).to(
            latents.device
        )
        noise = torch.randn(latents.shape, generator=generator)
        extra = self.draw_extra(noise, generator)
        noise = noise.to(latents.device)
        extra = None if extra is None else extra.to(latents.device)
        known = (conditionings, progress, extra, reference, cameras)
        return t, self.judge(latents, t, noise, *known)

    def _image_loss(self, render: Render, judgement: Judgement) -> Float[Tensor, ""]:
        images = resize_square(picture(render, self.config.sees), self.prior.image_size)
        images = images.to(judgement.x0)
        with torch.no_grad():
            denoised = self.prior.decode(judgement.x0).permute(0, 3, 1, 2)
            gradient = judgement.pull * (images - denoised)
        return base.distillation_loss(images, gradient)

    @torch.no_grad()
    def denoised_preview(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> Float[Tensor, "batch side side 3"]:
        """Decode what the renders are being pulled to, as images in [0, 1]."""
        reference = self.refer(render, cameras, progress, generator)
        latents = self.encode(render, generator)
        _, judgement = self._draw(latents, render, cameras, progress, generator, reference)
        return self.prior.decode(judgement.x0).clamp(0, 1)


class GuidedRule(Rule[G]):
    """A rule with a guided prediction."""

    def guided(self, views: Views, noisy: Latents) -> Latents:
        """Return eh of `noisy` at the views' times, with the settings' guidance."""
        return guided_noise(
            self.prior,
            noisy,
            views.t,
            views.conditionings,
            scale=value_at(self.config.guidance_scale, views.progress),
            parallel=value_at(self.config.parallel, views.progress),
            cfg_rescale=value_at(self.config.cfg_rescale, views.progress),
            cfg_rescale_of=self.config.cfg_rescale_of,
        )
