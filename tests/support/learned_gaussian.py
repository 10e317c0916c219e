"""The analytic prior with a score that can be learned: a Gaussian whose mean follows the camera."""

from collections.abc import Mapping

import torch
from analytic import GaussianPrior
from torch import Tensor, nn

from dreamlab.priors.base import Prediction
from dreamlab.priors.learned import POSE_NUMBERS, LoraConfig


class GaussianScore:
    """N(mu(prompt) + offset + turn c, spread^2), exact for renders that are so distributed."""

    def __init__(self, prior: GaussianPrior) -> None:
        self.prior, self.parametrisation = prior, prior.parametrisation
        self.offset = nn.Parameter(torch.zeros(3))
        self.turn = nn.Parameter(torch.zeros(3, POSE_NUMBERS))
        self.log_spread = nn.Parameter(torch.tensor(prior.std).log())

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor, poses: Tensor) -> Prediction:
        mean = conditioning[:, 0] + self.offset + poses @ self.turn.T
        return self.prior.denoise(noisy, t, mean, self.log_spread.exp())

    def set(self, offset: Tensor | float, spread: Tensor | float) -> None:
        with torch.no_grad():
            self.offset.copy_(torch.as_tensor(offset))
            self.log_spread.copy_(torch.as_tensor(spread).log())

    def named(self) -> dict[str, nn.Parameter]:
        return {"offset": self.offset, "turn": self.turn, "log_spread": self.log_spread}

    def parameters(self) -> list[nn.Parameter]:
        return list(self.named().values())

    def state(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.named().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.named().items():
                parameter.copy_(tensors[name])


class LearnableGaussianPrior(GaussianPrior):
    def learned_score(self, config: LoraConfig, generator: torch.Generator) -> GaussianScore:
        return GaussianScore(self)
