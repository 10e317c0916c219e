"""SDEdit: the render is made a little noisy, denoised to the end, and pulled to what comes out.

    z_0 = alpha_0 E(x) + sigma_0 eps                                           at t_0 = t_start
    eh = e_0 + s (e_y - e_0),   x0h = (z_k - sigma_k eh) / alpha_k
    z_{k+1} = alpha_{k+1} x0h + sigma_{k+1} eh                                 at t_{k+1} < t_k
    y = D(x0h of the last step),   g_x = x - y,   dL/dx = g_x / B

x and y are images of the prior's size in [0, 1]; y is fixed. Times fall in equal steps from t_start
to 0, where z is x0h itself: K steps, the share of a whole path's N that t_start is, rounded up.

Glossary: k = 0 .. K - 1 counts the steps, (alpha_k, sigma_k) belong to t_k; other letters and the
normalisation of the loss: `guidance.base`; guidance by s: `guidance.guided`. Where others average
the squared error over all values, multiply their weight by 2 / (3 side^2).

Other than score distillation, it says in one step where to go, in a picture that the prior finds
likely as a whole; so it sharpens, and it needs a render that is nearly right.

Source: Meng et al., SDEdit (2022), section 3; deterministic steps: Song et al., DDIM (2021),
eq. 12 with sigma = 0; as guidance of a texture: Tang et al., DreamGaussian (2024), section 3.3.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.render import Render
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.guidance import base
from dreamlab.guidance.guided import GUIDED, Group, guided_noise
from dreamlab.guidance.pictures import Colors, picture
from dreamlab.guidance.prompts import Prompts, ViewConditionings
from dreamlab.priors.base import Latents, Prior, resize_square
from dreamlab.priors.footprint import Coding


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the image-to-image rule."""

    sees: Colors = "rgb"
    """What the prior edits: `rgb`, or `normal`, normals in world space as colours."""
    guidance_scale: Scalar = 7.5
    """s in e_0 + s (e_y - e_0)."""
    cfg_rescale: Scalar = 0.0
    """How far the guided prediction's spread is brought back to the plain one's, in [0, 1]."""
    t_start: Scalar = 0.2
    """Time to which the render is noised; the larger, the more may change."""
    num_steps: int = 50
    """N, steps that the path from pure noise would have."""

    def __post_init__(self) -> None:
        check_within("cfg_rescale", self.cfg_rescale, 0.0, 1.0)
        check_within("t_start", self.t_start, 0.0, 1.0, strictly=True)
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")

    @property
    def widest(self) -> tuple[Group, ...]:
        """Groups of conditionings in the rule's widest call of the denoiser."""
        return GUIDED

    @property
    def codings(self) -> tuple[Coding, ...]:
        """What a step asks of the autoencoder."""
        return ("encode", "decode")


class SDEdit:
    """Image-to-image guidance with one prior and one prompt."""

    def __init__(self, config: Config, prior: Prior, prompts: Prompts) -> None:
        self.config, self.prior, self.prompts = config, prior, prompts

    @property
    def needs_normals(self) -> bool:
        """Whether renders must have normals."""
        return self.config.sees == "normal"

    @property
    def needs_albedo(self) -> bool:
        """Whether renders must have their colours without light."""
        return self.config.sees == "albedo"

    @torch.no_grad()
    def edit(
        self,
        latents: Latents,
        noise: Latents,
        conditionings: ViewConditionings,
        progress: float,
    ) -> Latents:
        """Return the edited latents for given noise; a pure function, view by view."""
        times = path(value_at(self.config.t_start, progress), self.config.num_steps)
        alpha, sigma = self._coefficients(times[0], latents)
        noisy = alpha * latents + sigma * noise
        for k, t in enumerate(times):
            eps = guided_noise(
                self.prior,
                noisy,
                torch.full((len(noisy),), t, device=noisy.device),
                conditionings,
                scale=value_at(self.config.guidance_scale, progress),
                cfg_rescale=value_at(self.config.cfg_rescale, progress),
            )
            x0 = (noisy - sigma * eps) / alpha
            if k + 1 < len(times):
                alpha, sigma = self._coefficients(times[k + 1], latents)
                noisy = alpha * x0 + sigma * eps
        return x0

    def _coefficients(self, t: float, latents: Latents) -> tuple[Tensor, Tensor]:
        return self.prior.alpha_sigma(torch.full((len(latents),), t, device=latents.device))

    @torch.no_grad()
    def target(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> Float[Tensor, "batch side side 3"]:
        """Return y, the edited renders, sRGB in [0, 1] at the prior's image size."""
        latents = self.prior.encode_image(picture(render, self.config.sees), generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        conditionings = self.prompts.for_views(cameras, render, progress)
        edited = self.edit(latents, noise, conditionings, progress)
        return self.prior.decode(edited).clamp(0, 1)

    def __call__(
        self, render: Render, cameras: Cameras, progress: float, generator: torch.Generator
    ) -> base.GuidanceOutput:
        target = self.target(render, cameras, progress, generator).permute(0, 3, 1, 2)
        images = resize_square(picture(render, self.config.sees), self.prior.image_size)
        images = images.to(target)
        gradient = images.detach() - target
        metrics = {
            "t": value_at(self.config.t_start, progress),
            **base.gradient_metrics(gradient),
        }
        return base.GuidanceOutput(base.distillation_loss(images, gradient), metrics)


def path(t_start: float, num_steps: int) -> list[float]:
    """Return t_0 .. t_{K-1}, the times at which noise is predicted; t_K = 0 is left out."""
    count = max(1, math.ceil(t_start * num_steps - 1e-6))
    return [t_start * (1 - k / count) for k in range(count)]


def build(config: Config, prior: Prior, prompts: Prompts) -> SDEdit:
    """Build the rule from its settings."""
    return SDEdit(config, prior, prompts)
