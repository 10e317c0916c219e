import json
import logging
import os
from pathlib import Path

import pytest
import torch

from dreamlab.core.errors import InputError
from dreamlab.training import checkpoint
from dreamlab.training.checkpoint import Checkpoints, Position, Snapshot
from dreamlab.training.watch import WatchState

SETTINGS = {"prompt": "a ball", "stages": {"nerf": {"steps": 100, "views": 2}}}


def writer(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints(folder, SETTINGS)
    checkpoints.begin_writing()
    return checkpoints


def snapshot(step: int) -> Snapshot:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "representation.table": torch.randn(50, 2, generator=generator),
        "renderer.binary": torch.rand(4, 4, 4, generator=generator) > 0.5,
        "optimizer.0.step": torch.tensor(float(step)),
        "representation.half": torch.randn(3, generator=generator).to(torch.bfloat16),
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "empty": torch.zeros(0, 3),
    }
    return Snapshot(Position("nerf", 0, step, WatchState(1, 2)), tensors)


def assert_same(a: Snapshot | None, b: Snapshot) -> None:
    assert a is not None
    assert a.position == b.position
    assert a.tensors.keys() == b.tensors.keys()
    for name in b.tensors:
        assert torch.equal(a.tensors[name], b.tensors[name]), name


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "flipped bit":
        content[-40] ^= 4
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "changed state":
        content = content.replace(b"nerf", b"nerd")
    else:
        content = bytearray(os.urandom(len(content)))
    path.write_bytes(content)


DAMAGES = ["flipped bit", "cut", "empty", "changed state", "noise"]


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path / "new", SETTINGS).load() is None
    assert not (tmp_path / "new").exists(), "reading makes nothing"


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path: Path) -> None:
    writer(tmp_path / "new").save(snapshot(7))
    assert_same(Checkpoints(tmp_path / "new", SETTINGS).load(), snapshot(7))


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    checkpoints = writer(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(snapshot(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["last.safetensors", "previous.safetensors", "state.json"]
    assert checkpoints.load().position.step == 3  # type: ignore[union-attr]
    checkpoints.last.unlink()
    assert checkpoints.load().position.step == 2  # type: ignore[union-attr]


def test_the_state_can_be_read_without_torch(tmp_path: Path) -> None:
    writer(tmp_path).save(snapshot(9))
    state = json.loads((tmp_path / "state.json").read_text())
    assert (state["stage"], state["step"], state["watch"]["restores"]) == ("nerf", 9, 1)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_falls_back_to_the_previous_one_with_a_warning(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = writer(tmp_path)
    checkpoints.save(snapshot(1))
    checkpoints.save(snapshot(2))
    damage(checkpoints.last, how)
    with caplog.at_level(logging.WARNING):
        loaded = checkpoints.load()
    assert loaded is not None and loaded.position.step == 1
    assert "last.safetensors is damaged" in caplog.text


@pytest.mark.parametrize("how", DAMAGES)
def test_when_both_are_damaged_the_error_names_both(tmp_path: Path, how: str) -> None:
    checkpoints = writer(tmp_path)
    for step in (1, 2):
        checkpoints.save(snapshot(step))
    for path in (checkpoints.last, checkpoints.previous):
        damage(path, how)
    with pytest.raises(InputError, match=r"last\.safetensors.*previous\.safetensors"):
        checkpoints.load()


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    writer(tmp_path).save(snapshot(1))
    other = SETTINGS | {"prompt": "a cube"}
    with pytest.raises(InputError, match="prompt: 'a ball' -> 'a cube'"):
        Checkpoints(tmp_path, other).load()


def test_a_write_that_fails_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = writer(tmp_path)
    checkpoints.save(snapshot(1))

    def full_disk(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(InputError, match="No space left"):
        checkpoints.save(snapshot(2))
    assert checkpoints.load().position.step == 1  # type: ignore[union-attr]
    assert not list(tmp_path.glob(".*"))


class Killed(BaseException):
    pass


def test_a_kill_between_the_renames_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = writer(tmp_path)
    checkpoints.save(snapshot(1))
    rename = os.replace

    def killed_at_the_second(source: Path, target: Path) -> None:
        if target == checkpoints.last:
            raise Killed
        rename(source, target)

    monkeypatch.setattr(os, "replace", killed_at_the_second)
    with pytest.raises(Killed):
        checkpoints.save(snapshot(2))
    assert not checkpoints.last.exists()
    assert_same(Checkpoints(tmp_path, SETTINGS).load(), snapshot(1))


def test_remains_of_a_killed_write_are_removed_by_the_writer_only(tmp_path: Path) -> None:
    writer(tmp_path).save(snapshot(1))
    half = tmp_path / ".last.safetensors.123.part.safetensors"
    half.write_bytes(b"half")
    assert_same(Checkpoints(tmp_path, SETTINGS).load(), snapshot(1))
    assert half.exists(), "it may be the write of the process that holds the run"
    writer(tmp_path)
    assert not half.exists()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        writer(tmp_path / "file" / "checkpoints")
