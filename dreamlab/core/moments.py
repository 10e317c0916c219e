"""The state of a torch optimiser as named tensors, which is how checkpoints hold it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dreamlab.core.errors import InputError


def moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the moments and step counts, named `<index of the parameter>.<kind>`."""
    return {
        f"{index}.{kind}": tensor
        for index, values in optimizer.state_dict()["state"].items()
        for kind, tensor in values.items()
    }


def load_moments(optimizer: torch.optim.Adam, tensors: Mapping[str, Tensor]) -> None:
    """Load what `moments` returned; learning rates stay as they are.

    Raises:
        InputError: it belongs to other parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, kind = name.split(".")
        state.setdefault(int(index), {})[kind] = tensor.clone()
    for index, values in state.items():
        shape = parameters[index].shape if index < len(parameters) else None
        if any(values[kind].shape != shape for kind in ("exp_avg", "exp_avg_sq")):
            raise InputError(
                f"the saved optimiser state does not fit (parameter {index}).",
                "use the settings that it was saved with.",
            )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
