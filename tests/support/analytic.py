"""A prior whose score is known exactly: each prompt is a Gaussian N(mu(prompt), s^2) per value.

"Latents" are the pixels themselves, mapped from [0, 1] to [-1, 1], channels first. A prompt's
"embedding" is its mean colour (one token of width 3), so that interpolated embeddings are
interpolated means. The exact noise prediction of N(mu, s^2) is

    e(z_t) = sigma (z_t - alpha mu) / (alpha^2 s^2 + sigma^2).

It is turned into the network output that a model of the asked parametrisation would give, and comes
back through dreamlab's conversions. The schedule is the cosine one, or the straight path for flow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dreamlab.priors.base import CONVERSIONS, Prediction, resize_square


def exact_eps(
    noisy: Tensor, alpha: Tensor, sigma: Tensor, mu: Tensor, std: float | Tensor
) -> Tensor:
    return sigma * (noisy - alpha * mu) / (alpha**2 * std**2 + sigma**2)


@dataclass
class GaussianPrior:
    """`mean` maps a prompt to its mean latent colour (three numbers in [-1, 1])."""

    mean: Callable[[str], Sequence[float]]
    std: float = 0.5
    parametrisation: str = "epsilon"
    image_size: int = 8
    name: str = "gaussian"
    latent_channels: int = 3
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    identity: str = "gaussian"
    calls: list[tuple[str, int]] = field(default_factory=list)
    """Which methods were called, with how many rows."""

    @property
    def latent_size(self) -> int:
        return self.image_size

    def encode_text(self, prompts: list[str]) -> Tensor:
        self.calls.append(("encode_text", len(prompts)))
        return torch.tensor([list(self.mean(prompt)) for prompt in prompts])[:, None, :]

    def warn_if_cut(self, prompts: list[str]) -> None:
        pass

    def release_text_encoder(self) -> None:
        self.calls.append(("release_text_encoder", 0))

    def encode_image(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        self.calls.append(("encode_image", len(images)))
        return resize_square(images, self.image_size) * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        self.calls.append(("decode", len(latents)))
        return (latents.permute(0, 2, 3, 1) + 1) / 2

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t[:, None, None, None]
        if self.parametrisation == "flow":
            return 1 - t, t
        return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor) -> Prediction:
        self.calls.append(("predict", len(noisy)))
        return self.denoise(noisy, t, conditioning[:, 0].to(noisy), self.std)

    def denoise(self, noisy: Tensor, t: Tensor, mu: Tensor, std: float | Tensor) -> Prediction:
        alpha, sigma = self.alpha_sigma(t.to(noisy))
        eps = exact_eps(noisy, alpha, sigma, mu[:, :, None, None], std)
        x0 = (noisy - sigma * eps) / alpha
        output = {
            "epsilon": eps,
            "v_prediction": alpha * eps - sigma * x0,
            "sample": x0,
            "flow": eps - x0,
        }[self.parametrisation]
        return CONVERSIONS[self.parametrisation](output, noisy, alpha, sigma)
