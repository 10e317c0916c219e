"""Hash encoding on tiny-cuda-nn, for CUDA machines where its Python package is installed.

Its grid has the table layout and the formulas of `dreamlab.ops.hashgrid.encode`, so the same table
is handed to it. Whether that holds for the version installed is checked once a layout, by value:
this backend runs only where it agrees with the reference.

Source: https://github.com/NVlabs/tiny-cuda-nn, `include/tiny-cuda-nn/encodings/grid.h`.
"""

import functools
import importlib
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.errors import MissingError
from dreamlab.ops.hashgrid import reference
from dreamlab.ops.hashgrid.encode import HashGridLayout, growth_factor

TOLERANCE = 1e-2
"""Largest error against the reference, relative to the table's values; it allows half precision."""


def encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    layout: HashGridLayout,
) -> Float[Tensor, "points outputs"]:
    """Encode points; see `dreamlab.ops.hashgrid.encode.hash_encode`.

    Raises:
        MissingError: the installed tinycudann disagrees with the reference.
    """
    return _run(_agreeing_module(layout, points.device), points, table)


def _run(module: nn.Module, points: Tensor, table: Tensor) -> Tensor:
    output = torch.func.functional_call(module, {"params": table.flatten()}, (points,))
    return output.to(points.dtype)


@functools.lru_cache(maxsize=8)
def _agreeing_module(layout: HashGridLayout, device: torch.device) -> nn.Module:
    """Build the module of a layout and compare it with the reference at random points."""
    # The import is dynamic because the package is on no index, so nothing can declare it.
    tinycudann: Any = importlib.import_module("tinycudann")
    config = layout.config
    module = tinycudann.Encoding(
        3,
        {
            "otype": "Grid",
            "type": "Hash",
            "n_levels": config.num_levels,
            "n_features_per_level": config.num_features,
            "log2_hashmap_size": config.log2_table_size,
            "base_resolution": config.base_resolution,
            "per_level_scale": growth_factor(config),
            "interpolation": config.interpolation.capitalize(),
        },
        dtype=torch.float32,
    ).to(device)
    if not _agrees(module, layout, device):
        raise MissingError(
            "The installed tinycudann lays out its hash grid differently from dreamlab.",
            "Use backend 'warp', which needs no installation.",
        )
    return module


def _agrees(module: nn.Module, layout: HashGridLayout, device: torch.device) -> bool:
    shape = (layout.num_entries, layout.config.num_features)
    if sum(parameter.numel() for parameter in module.parameters()) != shape[0] * shape[1]:
        return False
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(256, 3, generator=draw).to(device)
    table = (torch.rand(shape, generator=draw) * 2 - 1).to(device)
    expected = reference.encode(points, table, layout)
    with torch.no_grad():
        return bool((_run(module, points, table) - expected).abs().max() <= TOLERANCE)
