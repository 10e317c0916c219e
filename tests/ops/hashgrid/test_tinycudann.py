"""The hook for tiny-cuda-nn: the table passes through, and a different layout is refused.

The library itself needs CUDA; `test_hashgrid.py` compares it where it is installed. Here a module
with its interface stands in, built on our reference.
"""

import sys
from types import SimpleNamespace

import pytest
import torch

from dreamlab.core.errors import MissingError
from dreamlab.ops.hashgrid import reference, tinycudann
from dreamlab.ops.hashgrid.encode import HashGridConfig, HashGridLayout

CONFIG = HashGridConfig(num_levels=3, log2_table_size=6, base_resolution=3, finest_resolution=9)


def stand_in(shift_rows=0, extra_rows=0):
    """Return a module like tinycudann whose grid has the given deviations from ours."""

    class Encoding(torch.nn.Module):
        def __init__(self, num_inputs, settings, dtype):
            super().__init__()
            assert num_inputs == 3 and dtype == torch.float32
            config = HashGridConfig(
                num_levels=settings["n_levels"],
                num_features=settings["n_features_per_level"],
                log2_table_size=settings["log2_hashmap_size"],
                base_resolution=settings["base_resolution"],
                finest_resolution=round(
                    settings["base_resolution"]
                    * settings["per_level_scale"] ** (settings["n_levels"] - 1)
                ),
                interpolation=settings["interpolation"].lower(),
            )
            self.layout = HashGridLayout.of(config)
            rows = self.layout.num_entries + extra_rows
            self.params = torch.nn.Parameter(torch.zeros(rows * config.num_features))

        def forward(self, points):
            table = self.params.view(-1, self.layout.config.num_features)
            return reference.encode(points, table.roll(shift_rows, 0), self.layout).half()

    return SimpleNamespace(Encoding=Encoding)


@pytest.fixture(autouse=True)
def forget_modules():
    tinycudann._agreeing_module.cache_clear()
    yield
    tinycudann._agreeing_module.cache_clear()


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_the_table_and_its_gradient_pass_through(monkeypatch, interpolation):
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in())
    layout = HashGridLayout.of(
        HashGridConfig(
            num_levels=3,
            log2_table_size=6,
            base_resolution=3,
            finest_resolution=9,
            interpolation=interpolation,
        )
    )
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(20, 3, generator=draw)
    table = torch.randn(layout.num_entries, 2, generator=draw, requires_grad=True)
    encoded = tinycudann.encode(points, table, layout)
    expected = reference.encode(points, table, layout)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded, expected, rtol=1e-2, atol=1e-2)
    (gradient,) = torch.autograd.grad(encoded.sum(), table)
    (wanted,) = torch.autograd.grad(expected.sum(), table)
    torch.testing.assert_close(gradient, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("deviation", [{"shift_rows": 1}, {"extra_rows": 8}])
def test_a_different_layout_is_refused(monkeypatch, deviation):
    monkeypatch.setitem(sys.modules, "tinycudann", stand_in(**deviation))
    layout = HashGridLayout.of(CONFIG)
    with pytest.raises(MissingError, match="differently"):
        tinycudann.encode(torch.rand(4, 3), torch.zeros(layout.num_entries, 2), layout)
