"""What a rule offers when it trains something of its own beside judging renders."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dreamlab.guidance.base import Guidance
from dreamlab.guidance.prompts import Prompts
from dreamlab.priors.base import Prior
from dreamlab.priors.learned import LoraConfig


@runtime_checkable
class LearningConfig(Protocol):
    """Settings of a guidance that learns, as far as they say what is trained."""

    @property
    def lora(self) -> LoraConfig:
        """The adapters that are trained."""
        ...

    @property
    def learned_model(self) -> str | None:
        """The model whose network has them, as settings name it; None: the prior."""
        ...


@runtime_checkable
class Learning(Guidance, Protocol):
    """A guidance that learns while it judges: in each call, after judging, it takes its own steps.

    What it has learned belongs to the stage's state, so a resumed run goes on with it.
    """

    @property
    def learned_model(self) -> str | None:
        """The model whose network is trained, as settings name it; None: that of the prior."""
        ...

    def begin(self, learner: Prior, plain: Prompts, generator: torch.Generator) -> None:
        """Make what is to be trained; called once, before anything else.

        Args:
            learner: the model whose network is trained; it has the prior's latents and noise.
            plain: the prompts without words for the view, embedded by `learner`.
            generator: draws initial values; on the CPU.

        Raises:
            InputError: `learner` has nothing that can be trained.
        """
        ...

    def parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that its future depends on, its optimiser's included."""
        ...

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned.

        Raises:
            InputError: it belongs to other settings.
        """
        ...
