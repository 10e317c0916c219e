"""A second score on top of a frozen prior: that of the pictures a run renders, learned on the way.

Glossary as in `base`; `c` a camera, `e_phi(z_t, t, y, c)` the learned score. It is trained as the
prior itself was, by predicting what the network gives out, o, of noised latents:

    L(phi) = 1/B sum_views || o_phi(z_t, t, y, c) - o ||^2

with o the noise, the velocity, the clean latents or eps - z, whichever the network predicts: each
parametrisation keeps its own weighting of noise levels. As in `guidance.base` it is a sum over the
values of a view and a mean over views; that also keeps gradients within the range of float16.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.priors.base import Latents, PerView, Prediction

POSE_NUMBERS = 12
"""Numbers of a camera: the upper three rows of its camera-to-world matrix."""
Poses = Float[Tensor, "batch 12"]

NATIVE: dict[str, Callable[[Prediction], Tensor]] = {
    "epsilon": lambda prediction: prediction.eps,
    "v_prediction": lambda prediction: prediction.v,
    "sample": lambda prediction: prediction.x0,
    "flow": lambda prediction: prediction.eps - prediction.x0,
}
"""From a prediction back to the network's output; the inverses of `base.CONVERSIONS`."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """Low-rank changes to a network: W + scale B A, A of `rank` rows."""

    rank: int = 4
    """Rank of the change of each weight."""
    scale: float = 1.0
    """Factor of the change."""
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    """Ends of the names of the layers that are changed: the projections of all attention layers,
    in U-Nets and in transformers alike."""

    def __post_init__(self) -> None:
        if self.rank < 1 or self.scale <= 0:
            raise ValueError(
                f"rank must be at least 1 and scale positive, got {self.rank} and {self.scale}"
            )
        if not self.targets:
            raise ValueError("targets must name at least one layer")


@runtime_checkable
class LearnedScore(Protocol):
    """A trainable denoiser that also knows the camera."""

    parametrisation: str
    """What its network predicts; a key of `NATIVE`."""

    def predict(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
        poses: Poses,
    ) -> Prediction:
        """Denoise; differentiable to `parameters`, and to nothing else that can be trained."""
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained, float32."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return the values of the parameters by name."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned.

        Raises:
            InputError: it belongs to another network or other settings.
        """
        ...


@runtime_checkable
class Adaptable(Protocol):
    """A prior on which a learned score can be built."""

    def learned_score(self, config: LoraConfig, generator: torch.Generator) -> LearnedScore:
        """Return a score that begins as the prior's own.

        `predict` of the prior is not changed by it, nor by its training, not in a single bit.

        Args:
            generator: draws the initial values; on the CPU.

        Raises:
            InputError: the network has no layers that the settings name.
        """
        ...


def denoising_loss(
    parametrisation: str,
    prediction: Prediction,
    latents: Latents,
    noise: Latents,
    alpha: PerView,
    sigma: PerView,
) -> Float[Tensor, ""]:
    """Return L(phi) of the module docstring for latents that were noised by `noise`."""
    truth = Prediction(noise, latents, alpha * noise - sigma * latents)
    native = NATIVE[parametrisation]
    return (native(prediction) - native(truth)).square().sum() / len(latents)
