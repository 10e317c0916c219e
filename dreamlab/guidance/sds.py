"""Score distillation sampling (SDS).

    z = E(render),   z_t = alpha z + sigma eps,   eh = e_0 + s (e_y - e_0)
    g = w(t) (eh - eps),        dL/dz = g / B

Equivalently z is pulled to the one-step denoised x0h = (z_t - sigma eh) / alpha, since
eh - eps = (alpha / sigma) (z - x0h). The image-space form pulls the render x to D(x0h) instead:

    g_x = w(t) (alpha / sigma) (x - D(x0h)),     x, D(x0h) in [0, 1] at the prior's image size

which needs no backward pass through the encoder. Letters and normalisation: `guidance.base`;
guidance by s: `guidance.guided`.

Source: Poole et al., DreamFusion (2023), eq. 3; image space: Zhu et al., HiFA (2024).
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, value_at
from dreamlab.guidance import base
from dreamlab.guidance.guided import guided_noise
from dreamlab.guidance.prompts import Prompts, ViewConditionings
from dreamlab.guidance.timesteps import TimestepConfig, sample_timesteps
from dreamlab.guidance.weighting import Weighting, weight
from dreamlab.priors.base import Latents, PerView, Prior, resize_square


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of score distillation sampling."""

    guidance_scale: Scalar = 100.0
    """s in e_0 + s (e_y - e_0); a scale of 100 in threestudio's SDS is 101 here."""
    cfg_rescale: float = 0.0
    """How far the guided prediction's spread is brought back to the plain one's, in [0, 1]."""
    weighting: Weighting = "sds"
    """w(t): `sds` sigma^2, `uniform` 1, `fantasia3d` alpha sigma^2, `x0` sigma / alpha,
    `inverse_variance` 1 / sigma^2."""
    timesteps: TimestepConfig = field(default_factory=TimestepConfig)
    """Which noise levels are judged when."""
    latent_weight: Scalar = 1.0
    """Weight of the loss on latents; 0: the encoder is not differentiated."""
    image_weight: Scalar = 0.0
    """Weight of the loss on pixels (HiFA: 0.01 beside 1 on latents); 0: nothing is decoded."""
    gradient_clip: Scalar | None = None
    """Clip each value of the latents' gradient to so much; none: no clipping."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.cfg_rescale <= 1.0:
            raise ValueError(f"cfg_rescale must lie in [0, 1], got {self.cfg_rescale}")
        weights = [
            value_at(w, end) for w in (self.latent_weight, self.image_weight) for end in (0.0, 1.0)
        ]
        if min(weights) < 0 or max(weights) == 0:
            raise ValueError(
                "latent_weight and image_weight must be >= 0, and one of them positive, "
                f"got {self.latent_weight} and {self.image_weight}"
            )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What SDS says about latents."""

    gradient: Latents
    """g = w (eh - eps)."""
    x0: Latents
    """x0h, the one-step denoised latents."""
    pull: PerView
    """w alpha / sigma, the strength of the pull to x0h."""


class SDS:
    """Score distillation sampling with one prior and one prompt."""

    def __init__(self, config: Config, prior: Prior, prompts: Prompts) -> None:
        self.config, self.prior, self.prompts = config, prior, prompts

    def judge(
        self,
        latents: Latents,
        t: Float[Tensor, " batch"],
        noise: Latents,
        conditionings: ViewConditionings,
        progress: float,
    ) -> Judgement:
        """Return the gradient for given times and noise; a pure function, view by view."""
        alpha, sigma = self.prior.alpha_sigma(t)
        noisy = alpha * latents + sigma * noise
        guided = guided_noise(
            self.prior,
            noisy,
            t,
            conditionings,
            scale=value_at(self.config.guidance_scale, progress),
            cfg_rescale=self.config.cfg_rescale,
        )
        w = weight(self.config.weighting, alpha, sigma)
        x0 = (noisy - sigma * guided) / alpha
        return Judgement(w * (guided - noise), x0, w * alpha / sigma)

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> base.GuidanceOutput:
        latent_weight = value_at(self.config.latent_weight, progress)
        image_weight = value_at(self.config.image_weight, progress)
        with torch.set_grad_enabled(torch.is_grad_enabled() and latent_weight > 0):
            latents = self.prior.encode_image(render.rgb, generator)
        t, judgement = self._draw(latents.detach(), cameras, progress, generator)
        gradient = judgement.gradient
        metrics = {"t": t.mean().item(), **base.gradient_metrics(gradient)}
        loss = latents.new_zeros(())
        if latent_weight:
            if self.config.gradient_clip is not None:
                gradient = base.clip_values(gradient, value_at(self.config.gradient_clip, progress))
            loss = loss + latent_weight * base.distillation_loss(latents, gradient)
        if image_weight:
            loss = loss + image_weight * self._image_loss(render, judgement)
        return base.GuidanceOutput(loss, metrics)

    def _draw(
        self, latents: Latents, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> tuple[Float[Tensor, " batch"], Judgement]:
        t = sample_timesteps(self.config.timesteps, progress, len(latents), generator)
        t = t.to(latents.device)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        conditionings = self.prompts.for_views(cameras)
        return t, self.judge(latents, t, noise, conditionings, progress)

    def _image_loss(self, render: Render, judgement: Judgement) -> Float[Tensor, ""]:
        images = resize_square(render.rgb, self.prior.image_size).to(judgement.x0)
        with torch.no_grad():
            denoised = self.prior.decode(judgement.x0).permute(0, 3, 1, 2)
            gradient = judgement.pull * (images - denoised)
        return base.distillation_loss(images, gradient)

    @torch.no_grad()
    def denoised_preview(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> Float[Tensor, "batch side side 3"]:
        """Decode x0h, what the renders are being pulled to, as images in [0, 1]."""
        latents = self.prior.encode_image(render.rgb, generator)
        _, judgement = self._draw(latents, cameras, progress, generator)
        return self.prior.decode(judgement.x0).clamp(0, 1)


def build(config: Config, prior: Prior, prompts: Prompts) -> SDS:
    """Build the rule from its settings."""
    return SDS(config, prior, prompts)
