"""Analytic priors all of whose results have half precision, as those of large models on a GPU."""

from typing import Any

import torch
from analytic import GaussianPrior
from learned_gaussian import LearnableGaussianPrior
from torch import Tensor

from dreamlab.priors.base import Prediction


class HalfPrior(GaussianPrior):
    half = torch.float16

    def encode_image(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        return super().encode_image(images, generator).to(self.half)

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents.to(self.half))

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor, *more: Any) -> Prediction:
        full = super().predict(noisy.to(self.half).float(), t, conditioning, *more)
        return Prediction(*(x.to(self.half) for x in (full.eps, full.x0, full.v)))


class HalfLearnablePrior(HalfPrior, LearnableGaussianPrior):
    """With a score that can be learned, in full precision as a learned score is."""


class BrainLearnablePrior(HalfLearnablePrior):
    """The other 16 bits: the range of float32, and an eighth of float16's precision."""

    half = torch.bfloat16
