"""From a fraction t of the noise schedule to noise levels, and to what the network calls the time.

Glossary: N training timesteps k; abar_k their cumulative product of 1 - beta; s the time of a
rectified flow, 0 clean and 1 noise; h the shift of its schedule.

    DiscreteSchedule   k = round(t N), at most N - 1; alpha = sqrt(abar_k), sigma = sqrt(1 - abar_k)
    FlowSchedule       s = h t / (1 + (h - 1) t);     alpha = 1 - s, sigma = s

The network is told k or s. Teachers of few steps were trained at few timesteps; k is then the
nearest of k_i = i N / n - 1, i = 1 .. n. Either way the noise is that of the very time which the
network is told.

A shift h > 1 spends more of the schedule on high noise, which larger pictures need; FLUX lets it
grow with the number n of its tokens, h = exp(mu), mu linear in n.

Source: shift: Esser et al., Scaling Rectified Flow Transformers (2024), eq. 23; few timesteps:
Sauer et al., Adversarial Diffusion Distillation (2023), Luo et al., Latent Consistency Models
(2023).
"""

import math
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.base import CONVERSIONS, PerView
from dreamlab.priors.folder import load_part, part_class

Times = Float[Tensor, " batch"]
NetworkTimes = Shaped[Tensor, " batch"]


@runtime_checkable
class NoiseSchedule(Protocol):
    """Noise levels by time."""

    def time(self, t: Times) -> NetworkTimes:
        """Return what the network is told at the fraction `t`."""
        ...

    def alpha_sigma(self, time: NetworkTimes) -> tuple[PerView, PerView]:
        """Return alpha and sigma at times of the network."""
        ...


class DiscreteSchedule:
    """Timesteps with given noise levels.

    Args:
        alphas_cumprod: abar_k, float32.
        few_steps: n, timesteps at which the model was trained; None: all.
        device: of the results.
    """

    def __init__(
        self,
        alphas_cumprod: Float[Tensor, " timesteps"],
        few_steps: int | None,
        device: torch.device,
    ) -> None:
        self.num_timesteps, self.few_steps = len(alphas_cumprod), few_steps
        self._alpha = alphas_cumprod.sqrt().to(device)
        self._sigma = (1 - alphas_cumprod).sqrt().to(device)

    def time(self, t: Times) -> NetworkTimes:
        t, last = t.to(self._alpha.device), self.num_timesteps - 1
        if self.few_steps is None:
            return (t * self.num_timesteps).round().long().clamp(0, last)
        known = (t * self.few_steps + 1 / self.stride).round().clamp(1, self.few_steps)
        return (known * self.stride).long() - 1

    @property
    def stride(self) -> int:
        """Timesteps from one that is known to the next."""
        return self.num_timesteps // (self.few_steps or self.num_timesteps)

    def alpha_sigma(self, time: NetworkTimes) -> tuple[PerView, PerView]:
        index = time[:, None, None, None]
        return self._alpha[index], self._sigma[index]


class FlowSchedule:
    """The straight path of a rectified flow.

    Args:
        shift: h.
        device: of the results.
    """

    def __init__(self, shift: float, device: torch.device) -> None:
        self.shift, self._device = shift, device

    def time(self, t: Times) -> NetworkTimes:
        t = t.to(self._device).float()
        return self.shift * t / (1 + (self.shift - 1) * t)

    def alpha_sigma(self, time: NetworkTimes) -> tuple[PerView, PerView]:
        s = time[:, None, None, None]
        return 1 - s, s


def load_discrete_schedule(
    folder: Path, few_steps: int | None, device: torch.device
) -> tuple[DiscreteSchedule, str]:
    """Return a folder's schedule and the parametrisation of its network's output.

    Raises:
        InputError: the scheduler has no such schedule, or the parametrisation is unknown.
    """
    scheduler, name = _load_scheduler(folder)
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if alphas_cumprod is None or kind not in CONVERSIONS:
        raise InputError(
            f"{folder}: the scheduler {name} with prediction type {kind!r} gives no noise schedule "
            "of alphas and betas, as its kind of model has.",
            "choose a model of that family, such as sd15 or sd21.",
        )
    abar = torch.as_tensor(alphas_cumprod, dtype=torch.float32)
    return DiscreteSchedule(abar, few_steps, device), kind


def load_flow_schedule(folder: Path, num_tokens: int, device: torch.device) -> FlowSchedule:
    """Return a folder's schedule; its shift may depend on the number of tokens of a picture.

    Raises:
        InputError: the scheduler is not one of a rectified flow.
    """
    scheduler, name = _load_scheduler(folder)
    config = scheduler.config
    if not name.startswith("FlowMatch"):
        raise InputError(
            f"{folder}: the scheduler {name} is not one of a rectified flow.",
            "choose a model of that family, such as sd3 or flux.",
        )
    if not config.get("use_dynamic_shifting"):
        return FlowSchedule(config.shift, device)
    low, high = config.base_image_seq_len, config.max_image_seq_len
    slope = (config.max_shift - config.base_shift) / (high - low)
    return FlowSchedule(math.exp(config.base_shift + slope * (num_tokens - low)), device)


def _load_scheduler(folder: Path) -> tuple[Any, str]:
    import diffusers

    name = part_class(folder, "scheduler")
    cls = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):
        raise InputError(f"{folder} names the unknown scheduler {name}.", "choose another model.")
    return load_part(cls, folder, "scheduler"), name
