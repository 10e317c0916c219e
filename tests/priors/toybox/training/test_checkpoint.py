import pytest
import torch
from torch import nn

from dreamlab.core.errors import InputError
from dreamlab.priors.toybox.training import checkpoint
from dreamlab.priors.toybox.training.checkpoint import load_checkpoint, save_checkpoint


def trained(seed):
    torch.manual_seed(seed)
    module = nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    module(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    return module, optimizer


def test_a_checkpoint_restores_weights_optimiser_and_record(tmp_path):
    module, optimizer = trained(0)
    save_checkpoint(tmp_path / "c.safetensors", {"m": module}, {"a": optimizer}, {"step": 7})
    other, its = trained(1)
    assert load_checkpoint(tmp_path / "c.safetensors", {"m": other}, {"a": its}) == {"step": 7}
    assert torch.equal(module.weight, other.weight)
    ours, theirs = optimizer.state_dict()["state"], its.state_dict()["state"]
    for index, state in ours.items():
        assert all(torch.equal(value, theirs[index][name]) for name, value in state.items())


def test_a_kill_in_the_middle_of_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    module, optimizer = trained(0)
    save_checkpoint(path, {"m": module}, {"a": optimizer}, {"step": 1})
    before = path.read_bytes()

    def half_a_write(tensors, temporary, metadata):
        temporary.write_bytes(before[: len(before) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half_a_write)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"m": module}, {"a": optimizer}, {"step": 2})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x08" + bytes(30)])
def test_a_broken_file_is_named_with_the_fix(tmp_path, content):
    path = tmp_path / "c.safetensors"
    path.write_bytes(content)
    module, optimizer = trained(0)
    with pytest.raises(InputError, match=r"c\.safetensors is not a checkpoint"):
        load_checkpoint(path, {"m": module}, {"a": optimizer})


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    module, optimizer = trained(0)
    save_checkpoint(tmp_path / "c.safetensors", {"m": module}, {"a": optimizer}, {})
    with pytest.raises(InputError, match="architecture"):
        load_checkpoint(tmp_path / "c.safetensors", {"m": nn.Linear(5, 3)}, {})
