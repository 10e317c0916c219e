"""Checkpoints: all that a run's future depends on, in a file that a kill cannot harm.

`last.safetensors` holds the tensors and, in its metadata, the position (stage, step, watch), the
settings that a run must have in common with its checkpoints, and a checksum of everything. It is
written beside its place, flushed and renamed; the one before it stays as `previous.safetensors`. A
kill between the two renames leaves only the previous one, which then is the newest complete
checkpoint. `state.json` repeats the position for readers without torch; it is never read back.

Many may read; only the process that holds the run may write and clean up.
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

from dreamlab.core.config import Plain, build
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path, write_json
from dreamlab.training.settings_match import check_settings
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


@dataclass(frozen=True)
class Snapshot:
    """A run at one moment; nothing in it changes when the run goes on."""

    position: Position
    tensors: dict[str, Tensor]
    """`representation.*`, `renderer.*`, `optimizer.*`, and `guidance.*` if that learns."""


class Checkpoints:
    """The last two snapshots of a run on disk."""

    def __init__(self, folder: Path, settings: Plain) -> None:
        """Read from `folder`; nothing on disk changes.

        Args:
            folder: may be missing as long as nothing is written.
            settings: of the run, see `settings_match`.
        """
        self.folder, self.settings = folder, settings
        self.last = folder / "last.safetensors"
        self.previous = folder / "previous.safetensors"
        self.state = folder / "state.json"

    def begin_writing(self) -> None:
        """Make the folder and remove the remains of killed writes; only for who holds the run.

        Raises:
            InputError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for remains in self.folder.glob(".*.part.*"):
                remains.unlink()
        except OSError as error:
            raise _unwritable(self.folder, error) from None

    def save(self, snapshot: Snapshot) -> None:
        """Write a snapshot as the last one; the last one becomes the previous one.

        Raises:
            InputError: the disk refuses; the checkpoints that were there are kept.
        """
        tensors = {name: tensor.cpu().contiguous() for name, tensor in snapshot.tensors.items()}
        texts = {
            "state": json.dumps(asdict(snapshot.position)),
            "settings": json.dumps(self.settings),
        }
        metadata = texts | {"checksum": _checksum(texts, tensors)}
        try:
            with atomic_path(self.last) as temporary:
                save_file(tensors, temporary, metadata)
                if self.last.exists():
                    os.replace(self.last, self.previous)
            write_json(self.state, asdict(snapshot.position))
        except (OSError, SafetensorError) as error:
            raise _unwritable(self.last, error) from None

    def load(self) -> Snapshot | None:
        """Read the newest checkpoint that is whole; None if none was ever written.

        Raises:
            InputError: no checkpoint is whole, or it belongs to other settings.
        """
        reasons = {}
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                snapshot, settings = _read(path)
            except (OSError, SafetensorError, ValueError, KeyError, InputError) as error:
                reasons[path] = " ".join(str(error).split())[:200]
                continue
            for bad, reason in reasons.items():
                logger.warning("%s is damaged (%s); using %s instead.", bad, reason, path.name)
            check_settings(
                settings,
                self.settings,
                stage_index=snapshot.position.stage_index,
                step=snapshot.position.step,
                path=path,
            )
            return snapshot
        if reasons:
            damage = "; ".join(f"{path} ({reason})" for path, reason in reasons.items())
            raise InputError(
                f"no checkpoint can be read: {damage}.",
                "restore one of the files from a copy, or start the run again from its prompt.",
            )
        return None


def _read(path: Path) -> tuple[Snapshot, Plain]:
    """Read a checkpoint and the settings that it was written with."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    texts = {name: metadata[name] for name in ("state", "settings")}
    if _checksum(texts, tensors) != metadata["checksum"]:
        raise ValueError("the checksum does not match")
    position = build(Position, json.loads(texts["state"]))
    return Snapshot(position, tensors), json.loads(texts["settings"])


def _checksum(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of the texts and of all names, shapes, types and values."""
    crc = zlib.crc32("\n".join(texts.values()).encode())
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
