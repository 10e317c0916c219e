"""Checkpoints: all that a run's future depends on, in a file that a kill cannot harm.

`last.safetensors` holds the tensors and, in its metadata, the state (stage, step, watch, hash of
the settings) and a checksum of everything. It is written beside its place, flushed and renamed;
the one before it stays as `previous.safetensors`. A kill between the two renames leaves only the
previous one, which then is the newest complete checkpoint. `state.json` repeats the state for
readers without torch; it is never read back.
"""

import json
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path, write_json
from dreamlab.training.watch import WatchState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run is."""

    stage: str
    """Name of the stage."""
    stage_index: int
    """Its place in the recipe, from 0."""
    step: int
    """Optimiser steps of the stage that are done."""
    watch: WatchState
    """What the collapse watch remembers."""
    config_hash: str
    """Hash of the settings that the run was started with."""


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment; nothing in it changes when the run goes on."""

    position: Position
    tensors: dict[str, Tensor]
    """`representation.*`, `renderer.*` and `optimizer.*`."""


class Checkpoints:
    """The last two snapshots of a run on disk."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which is made if it does not exist; remains of a killed write are removed.

        Raises:
            InputError: the folder cannot be made.
        """
        self.last = folder / "last.safetensors"
        self.previous = folder / "previous.safetensors"
        self.state = folder / "state.json"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for remains in folder.glob(".*.part.*"):
                remains.unlink()
        except OSError as error:
            raise _unwritable(folder, error) from None

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot as the last one; the last one becomes the previous one.

        Raises:
            InputError: the disk refuses; the checkpoints that were there are kept.
        """
        tensors = {name: tensor.cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        state = json.dumps(asdict(snapshot.position))
        metadata = {"state": state, "checksum": _checksum(state, tensors)}
        try:
            with atomic_path(self.last) as temporary:
                save_file(tensors, temporary, metadata)
                if self.last.exists():
                    os.replace(self.last, self.previous)
            write_json(self.state, asdict(snapshot.position))
        except (OSError, SafetensorError) as error:
            raise _unwritable(self.last, error) from None

    def load(self, config_hash: str) -> Snapshot | None:
        """Read the newest checkpoint that is whole; None if none was ever written.

        Raises:
            InputError: no checkpoint is whole, or it belongs to other settings.
        """
        reasons = {}
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                snapshot = _read(path)
            except (OSError, SafetensorError, ValueError, KeyError, InputError) as error:
                reasons[path] = " ".join(str(error).split())[:200]
                continue
            for bad, reason in reasons.items():
                logger.warning("%s is damaged (%s); using %s instead.", bad, reason, path.name)
            _check_hash(snapshot, config_hash, path)
            return snapshot
        if reasons:
            damage = "; ".join(f"{path} ({reason})" for path, reason in reasons.items())
            raise InputError(
                f"no checkpoint can be read: {damage}.",
                "restore one of the files from a copy, or start the run again from its prompt.",
            )
        return None


def _read(path: Path) -> Snapshot:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    if _checksum(metadata["state"], tensors) != metadata["checksum"]:
        raise ValueError("the checksum does not match")
    return Snapshot(build(Position, json.loads(metadata["state"])), tensors)


def _check_hash(snapshot: Snapshot, config_hash: str, path: Path) -> None:
    if snapshot.position.config_hash != config_hash:
        raise InputError(
            f"{path} was written with other settings than those given.",
            "resume with the unchanged config.yaml of the run, or start a new run.",
        )


def _checksum(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of the state and of all names, shapes, types and values."""
    crc = zlib.crc32(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _unwritable(path: Path, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or error
    return InputError(
        f"cannot write {path}: {reason}.",
        "free space on the disk or check its permissions, then resume the run.",
    )
