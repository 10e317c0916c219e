"""A whole run on a graphics card that is pretended, and what such a card does not let pass."""

import json

import pytest
import torch
from pretend_cuda import CARD, pretended_card

from dreamlab.core.errors import MissingError
from dreamlab.jobs.generate import generate, prepare
from dreamlab.jobs.recipes import load_recipe
from dreamlab.ops import backends
from dreamlab.ops.hashgrid.encode import HashGridConfig, HashGridLayout, hash_encode

SMALL = [
    "stages.nerf.steps=2",
    "stages.mesh.steps=2",
    "stages.nerf.milestones=[{until: 1.0, size: 16}]",
    "stages.mesh.milestones=[{until: 1.0, size: 16}]",
    "stages.nerf.renderer.steps_per_diagonal=32",
    "stages.mesh.representation.resolution=12",
    "export.resolution=24",
    "export.texture_size=64",
    "export.unwrap=box",
]


def test_a_run_goes_from_the_prompt_to_its_files(tmp_path):
    config = load_recipe("toybox-nerf-mesh", "draft", SMALL, prompt="a red mushroom")
    with pretended_card():
        outcome = generate(config, prepare(config, tmp_path / "run"), device="cuda")
    assert [path.name for path in outcome.files] == ["model.glb"]
    assert "Pretended" in json.dumps(outcome.report)


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: torch.where(there > 0, here, here),
        lambda here, there: torch.cat([here, there]),
        lambda here, there: there[here.long()],
        lambda here, there: torch.nn.Linear(3, 1).to(CARD)(there),
        lambda here, there: here.numpy(),
        lambda here, there: (here.sum() * there).sum(),
        lambda here, there: here.requires_grad_().sum().backward(there.sum().expand(1)),
    ],
)
def test_what_lies_on_the_card_does_not_meet_what_lies_beside_it(mix):
    with pretended_card():
        here, there = torch.ones(3, device="cuda"), torch.ones(3)
        with pytest.raises((RuntimeError, TypeError)):
            mix(here, there)


def test_what_is_made_from_what_lies_on_the_card_is_there_too():
    with pretended_card():
        here = torch.ones(3, device="cuda", requires_grad=True)
        layer = torch.nn.Linear(3, 2).to("cuda")
        made = [
            here[None] * 2,
            here.new_zeros(2),
            torch.zeros_like(here),
            here.new_tensor([1.0]),
            here[torch.tensor([0])],
            here * torch.tensor(2.0),
            torch.nn.functional.one_hot(here.long(), 4),
            torch.ones(3).to(here),
            layer(here),
        ]
        made[-1].sum().backward()
        made += [here.grad, layer.weight.grad]
        assert {tensor.device for tensor in made} == {CARD}
        assert {x.device.type for x in (here.cpu(), torch.ones(2), here.to("cpu"))} == {"cpu"}
    assert not torch.ones(2).is_cuda


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real card")
def test_kernels_take_arrays_of_one_device():
    layout = HashGridLayout.of(
        HashGridConfig(num_levels=2, log2_table_size=8, finest_resolution=16)
    )
    points = torch.rand(5, 3)
    table = torch.rand(layout.num_entries, layout.config.num_features)
    with pytest.raises(MissingError, match="CUDA driver"):
        backends.choose("hash_encode", "warp", CARD)
    with pretended_card():
        encoded = hash_encode(points.to(CARD), table.to(CARD), layout, backend="warp")
        assert encoded.device == CARD
        with pytest.raises(RuntimeError, match="arrays on two devices"):
            hash_encode(points.to(CARD), table, layout, backend="warp")
    with pytest.raises(MissingError, match="CUDA driver"):
        backends.choose("hash_encode", "warp", CARD)
