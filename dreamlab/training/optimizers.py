"""Optimisers with one learning rate schedule a parameter group.

Rates are evaluated from the stage's progress in every step, times a factor that the collapse watch
lowers; nothing about them is stored, so a resumed run has the rates of an uninterrupted one.
Source: Adam (Kingma and Ba 2015); AdamW (Loshchilov and Hutter 2019).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor, nn

from dreamlab.core.errors import InputError, nearest
from dreamlab.core.moments import load_moments, moments
from dreamlab.core.schedules import Scalar, value_at
from dreamlab.systems.settings import DEFAULT_RATES, OptimizerConfig

RULES: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


class GroupedOptimizer:
    """Adam over named parameter groups."""

    def __init__(self, config: OptimizerConfig, groups: Mapping[str, list[nn.Parameter]]) -> None:
        """Prepare the moments.

        Raises:
            InputError: a group has no learning rate, or a rate has no group.
        """
        self.config = config
        self.rates = _rates(config, groups)
        self.parameters = [parameter for group in groups.values() for parameter in group]
        self._optimizer = RULES[config.name](
            [{"params": parameters, "name": name} for name, parameters in groups.items()],
            lr=0.0,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self._optimizer.zero_grad(set_to_none=True)

    def gradient_norm(self) -> float:
        """Return the Euclidean norm of all gradients together; NaN or inf if any value is."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return float(nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def step(self, progress: float, norm: float, factor: float = 1.0) -> None:
        """Move the parameters.

        Args:
            progress: fraction of the stage that is done, in [0, 1].
            norm: what `gradient_norm` returned; used for clipping.
            factor: multiplies all learning rates.
        """
        limit = self.config.max_gradient_norm
        if limit is not None and norm > limit:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.mul_(limit / norm)
        for group in self._optimizer.param_groups:
            group["lr"] = factor * value_at(self.rates[group["name"]], progress)
        self._optimizer.step()

    def forget(self, parameters: list[nn.Parameter], rows: Int[Tensor, " rows"]) -> None:
        """Set the moments of some rows to zero: something else stands there now."""
        for parameter in parameters:
            moments = self._optimizer.state[parameter]
            for kind in ("exp_avg", "exp_avg_sq"):
                if kind in moments:
                    moments[kind][rows] = 0

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counts, named `<index of the parameter>.<kind>`."""
        return moments(self._optimizer)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Load what `state` returned.

        Raises:
            InputError: it belongs to other parameters.
        """
        load_moments(self._optimizer, tensors)


def _rates(config: OptimizerConfig, groups: Mapping[str, list[nn.Parameter]]) -> dict[str, Scalar]:
    for name in groups:
        if name not in config.lr:
            raise InputError(
                f"the parameter group {name!r} has no learning rate.", f"set optimizer.lr.{name}."
            )
    known = groups.keys() | DEFAULT_RATES.keys()
    for name in config.lr:
        if name not in known:
            raise InputError(f"unknown parameter group {name!r}.", nearest(name, known))
    return {name: config.lr[name] for name in groups}
