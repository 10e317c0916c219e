"""Atomic checkpoints of modules and optimisers, in one safetensors file each.

Tensors are named `module/parameter` and `optimizer name/index/state`; everything else (step, time
spent) is JSON in the file's header, so weights and counters can never disagree.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path


def save_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    record: dict[str, Any],
) -> None:
    """Write a checkpoint; a kill at any moment leaves the old file or the new one.

    Args:
        path: replaced atomically.
        modules: by name; names may not contain a slash.
        optimizers: by name, each over its parameters in a fixed order.
        record: JSON values to keep with the weights.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, tensor in module.state_dict().items():
            tensors[f"{name}/{key}"] = tensor.detach().cpu().contiguous().clone()
    for name, optimizer in optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            for key, tensor in state.items():
                tensors[f"{name}/{index}/{key}"] = tensor.detach().cpu().contiguous().clone()
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"record": json.dumps(record)})


def load_checkpoint(
    path: Path,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
) -> dict[str, Any]:
    """Restore modules and optimisers in place and return the record.

    Raises:
        InputError: the file is not a checkpoint, or one of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})["record"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, name))
        for name, optimizer in optimizers.items():
            states: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(tensors, name).items():
                index, entry = key.split("/", 1)
                states.setdefault(int(index), {})[entry] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states, "param_groups": groups})
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path} is not a checkpoint of this architecture ({reason}).",
            "delete it to start again, or choose another work folder.",
        ) from None
    return record


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
