"""A multi-view prior whose score is known exactly: N views that are Gaussian together.

Per value of a latent, over the views of an object,

    (z^1 .. z^N) ~ N( (mu + tilt o^v)_v, K ),      K = s^2 ((1 - rho) I + rho 1 1^T)

with mu the prompt's colour as in `analytic`, o^v where the camera stands on the unit sphere, and
rho the correlation of two views. Noised it is N(alpha mean, S), S = alpha^2 K + sigma^2 I, so

    e(z_t) = sigma S^-1 (z_t - alpha mean).
"""

from dataclasses import dataclass

import torch
from learned_gaussian import LearnableGaussianPrior
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.priors.base import Prediction, from_epsilon
from dreamlab.priors.conditioning import pack, unpack
from dreamlab.priors.multi_view import CAMERA_NUMBERS, camera_numbers

PLACE = [3, 7, 11]
"""Where o is among a camera's numbers."""


@dataclass
class JointGaussianPrior(LearnableGaussianPrior):
    num_views: int = 4
    rho: float = 0.6
    tilt: float = 0.5

    def with_cameras(self, conditionings: Tensor, cameras: Cameras) -> Tensor:
        numbers = camera_numbers(cameras).to(conditionings)
        rows = numbers.repeat_interleave(conditionings.shape[1], dim=0)
        packed = pack(conditionings.flatten(0, 1), rows)
        return packed.unflatten(0, conditionings.shape[:2])

    def covariance(self) -> Tensor:
        one = torch.ones(self.num_views, self.num_views)
        return self.std**2 * ((1 - self.rho) * torch.eye(self.num_views) + self.rho * one)

    def means(self, conditioning: Tensor) -> Tensor:
        """`[B 3]` of conditionings with cameras."""
        tokens, numbers = unpack(conditioning, CAMERA_NUMBERS)
        return tokens[:, 0] + self.tilt * numbers[:, PLACE]

    def predict(self, noisy: Tensor, t: Tensor, conditioning: Tensor) -> Prediction:
        self.calls.append(("predict", len(noisy)))
        groups = t.unflatten(0, (-1, self.num_views))
        assert torch.equal(groups, groups[:, :1].expand_as(groups)), "the views differ in time"
        alpha, sigma = self.alpha_sigma(t.to(noisy))
        a, s = (x[:: self.num_views, :, :, 0].to(noisy) for x in (alpha, sigma))
        noised = a**2 * self.covariance().to(noisy) + s**2 * torch.eye(self.num_views).to(noisy)
        offset = noisy - alpha * self.means(conditioning.to(noisy))[:, :, None, None]
        whitened = torch.linalg.solve(noised, offset.flatten(1).unflatten(0, (-1, self.num_views)))
        return from_epsilon(sigma * whitened.flatten(0, 1).view_as(noisy), noisy, alpha, sigma)
