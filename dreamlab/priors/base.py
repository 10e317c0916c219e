"""What a prior is: a text-conditioned denoiser of images, seen through one interface.

Glossary: `z` clean latents, `eps` standard normal noise, `t` time, `noisy` = z_t; `x0` the one-step
estimate of z; `o` a network's raw output; `v` the velocity alpha eps - sigma x0; P prompts,
T tokens, D features of a token's embedding.

Conventions: z_t = alpha(t) z + sigma(t) eps. Time is a fraction of the noise schedule, 0 clean and
1 noise, whatever the network counts in. Images are `[B H W 3]`, sRGB in [0, 1]; latents are
`[B C h w]` in the scale in which the denoiser was trained (a latent diffusion model's scaling
factor is applied). What a network predicts is converted once, here: above this file nobody asks
whether a model predicts noise, velocity or the image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn import functional

from dreamlab.core.errors import InputError

Latents = Float[Tensor, "batch channels height width"]
PerView = Float[Tensor, "batch 1 1 1"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One prediction of the denoiser, in its three equivalent forms.

    For every form z_t = alpha x0 + sigma eps holds, and v = alpha eps - sigma x0.
    """

    eps: Latents
    """The noise."""
    x0: Latents
    """The clean latents."""
    v: Latents
    """The velocity of Salimans and Ho (2022), alpha eps - sigma x0."""


def from_epsilon(output: Latents, noisy: Latents, alpha: PerView, sigma: PerView) -> Prediction:
    """Convert a noise prediction: x0 = (z_t - sigma o) / alpha."""
    x0 = (noisy - sigma * output) / alpha
    return Prediction(output, x0, alpha * output - sigma * x0)


def from_velocity(output: Latents, noisy: Latents, alpha: PerView, sigma: PerView) -> Prediction:
    """Convert a velocity: eps = alpha o + sigma z_t, x0 = alpha z_t - sigma o.

    The schedule must be variance preserving (alpha^2 + sigma^2 = 1).
    Source: Salimans and Ho, Progressive Distillation (2022), appendix D.
    """
    return Prediction(alpha * output + sigma * noisy, alpha * noisy - sigma * output, output)


def from_sample(output: Latents, noisy: Latents, alpha: PerView, sigma: PerView) -> Prediction:
    """Convert a prediction of the clean latents: eps = (z_t - alpha o) / sigma."""
    eps = (noisy - alpha * output) / sigma
    return Prediction(eps, output, alpha * eps - sigma * output)


def from_flow(output: Latents, noisy: Latents, alpha: PerView, sigma: PerView) -> Prediction:
    """Convert a rectified flow's o = eps - x0.

    Solving z_t = alpha x0 + sigma eps with it gives x0 = (z_t - sigma o) / (alpha + sigma) and
    eps = (z_t + alpha o) / (alpha + sigma). On the straight path alpha = 1 - s, sigma = s the
    denominator is 1; the same formulas hold after rescaling to a variance-preserving path.
    Source: Liu et al., Flow Straight and Fast (2023).
    """
    total = alpha + sigma
    x0, eps = (noisy - sigma * output) / total, (noisy + alpha * output) / total
    return Prediction(eps, x0, alpha * eps - sigma * x0)


CONVERSIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Prediction]] = {
    "epsilon": from_epsilon,
    "v_prediction": from_velocity,
    "sample": from_sample,
    "flow": from_flow,
}
"""By the name that diffusers' schedulers give the parametrisation (`flow` is ours)."""


@runtime_checkable
class Prior(Protocol):
    """A frozen text-to-image diffusion model."""

    name: str
    latent_channels: int
    latent_size: int
    """Side of the square latents."""
    image_size: int
    """Side of the square images that the model was made for."""
    device: torch.device

    @property
    def identity(self) -> str:
        """Fingerprint of everything that a text's embedding depends on; key of the text cache."""
        ...

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "prompts tokens features"]:
        """Embed prompts, the empty one included; no gradient. Overlong ones are cut (logged)."""
        ...

    def warn_if_cut(self, prompts: list[str]) -> None:
        """Log a warning for every prompt of which the model cannot read the end."""
        ...

    def release_text_encoder(self) -> None:
        """Free the text encoder's memory; a later `encode_text` loads it again."""
        ...

    def encode_image(
        self, images: Float[Tensor, "batch side side 3"], generator: torch.Generator | None
    ) -> Latents:
        """Encode images, resized to `image_size`; differentiable.

        With a CPU generator the latents are a sample of the encoder's posterior, with None its
        mean.
        """
        ...

    def decode(self, latents: Latents) -> Float[Tensor, "batch side side 3"]:
        """Decode latents to images; differentiable, not clipped."""
        ...

    def alpha_sigma(self, t: Float[Tensor, " batch"]) -> tuple[PerView, PerView]:
        """Return alpha and sigma at times `t`, on the prior's device."""
        ...

    def predict(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
    ) -> Prediction:
        """Denoise, without gradient."""
        ...


def guidance_limit(prior: Prior) -> float | None:
    """Return the largest guidance scale that a prior stands: its `max_guidance`, if it has one.

    Models of few steps are distilled from guided predictions; guiding those again burns colours.
    """
    return getattr(prior, "max_guidance", None)


def in_parts(
    denoise: Callable[..., Prediction], max_rows: int | None, *inputs: Shaped[Tensor, "batch *_"]
) -> Prediction:
    """Call `denoise` on at most `max_rows` rows of its inputs at a time, and join its predictions.

    Args:
        denoise: treats rows apart from each other.
        max_rows: None: all at once.
        inputs: as many rows each.
    """
    rows = max_rows or len(inputs[0])
    parts = [denoise(*part) for part in zip(*(x.split(rows) for x in inputs), strict=True)]
    if len(parts) == 1:
        return parts[0]
    eps, x0, v = (torch.cat([getattr(part, form) for part in parts]) for form in ("eps", "x0", "v"))
    return Prediction(eps, x0, v)


def resize_square(
    images: Float[Tensor, "batch height width 3"], side: int
) -> Float[Tensor, "batch 3 side side"]:
    """Bring square images to `side` pixels (bilinear, antialiased when shrinking), channels first.

    Raises:
        InputError: the images are not square; squeezing them would distort what the prior sees.
    """
    height, width = images.shape[1:3]
    if height != width:
        raise InputError(
            f"guidance needs square renders, got {width}x{height} (width x height).",
            "set equal width and height.",
        )
    channels_first = images.permute(0, 3, 1, 2)
    if height == side:
        return channels_first
    return functional.interpolate(
        channels_first, size=(side, side), mode="bilinear", antialias=True
    )
