"""Claims about what a step is compared with."""

from dreamlab.evaluation.speed.main_job import plain_torch
from dreamlab.ops.backends import resolve


def chosen() -> list[str]:
    return [resolve(op, "auto", "cpu") for op in ("hash_encode", "composite", "march")]


def test_plain_torch_takes_the_place_of_the_named_kernels_and_leaves_again():
    before = chosen()
    with plain_torch("hash_encode", "composite"):
        assert chosen() == ["reference", "reference", "warp"]
    assert chosen() == before == ["warp"] * 3
