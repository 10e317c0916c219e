"""Analytic priors all of whose results have half precision, as those of large models on a GPU."""

from typing import Any

import torch
from analytic import GaussianPrior
from learned_gaussian import LearnableGaussianPrior
from torch import Tensor

from dreamlab.priors.base import Prediction


class HalfPrior(GaussianPrior):
    def encode_image(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        return super().encode_image(images, generator).half()

    def decode(self, latents: Tensor) -> Tensor:
        return super().decode(latents.half())

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor, *more: Any) -> Prediction:
        full = super().predict(noisy.half().float(), t, conditioning, *more)
        return Prediction(full.eps.half(), full.x0.half(), full.v.half())


class HalfLearnablePrior(HalfPrior, LearnableGaussianPrior):
    """With a score that can be learned, in full precision as a learned score is."""
