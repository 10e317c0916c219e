"""Every rule moves every representation, with the embedded prior."""

from functools import cache
from typing import Any

import pytest
import torch
from rules import CASES, encode_reference

from dreamlab.core.config import build
from dreamlab.guidance.prompts import Prompts
from dreamlab.priors.base import Prior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.components import find
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage

GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 32}
REPRESENTATIONS: dict[str, dict[str, Any]] = {
    "hashgrid": {
        "representation": {"name": "hashgrid", "grid": GRID, "hidden_width": 16},
        "renderer": {"name": "volume", "steps_per_diagonal": 32, "occupancy_resolution": 8},
    },
    "gaussians": {
        "representation": {"name": "gaussians", "count": 300, "max_count": 400, "opacity": 0.5},
        "renderer": {"name": "splat"},
    },
    "dmtet": {
        "representation": {"name": "dmtet", "resolution": 10, "grid": GRID},
        "renderer": {"name": "mesh"},
    },
}
COLORS_ALONE = {"hashgrid": set(), "gaussians": {"color"}, "dmtet": {"table", "mlp"}}
"""Groups of parameters that normals do not depend on."""
QUICK = {("csd", "gaussians", "rgb"), ("rfds_rev", "dmtet", "normal")}
ALL = [
    pytest.param(*cell, marks=[] if cell in QUICK else pytest.mark.slow)
    for case in CASES
    for representation in REPRESENTATIONS
    for cell in ((case, representation, "rgb"), (case, representation, "normal"))
]


@cache
def embedded() -> Prior:
    return load_prior(PriorConfig(), "cpu")


@pytest.mark.parametrize(("case", "representation", "sees"), ALL)
def test_a_few_steps_are_finite_and_move_the_parameters(
    case: str, representation: str, sees: str
) -> None:
    settings = {
        "steps": 2,
        "guidance": {"name": CASES[case].name, **CASES[case].options, "sees": sees},
        "milestones": [{"until": 1.0, "size": 24}],
        "prompts": {"view": "perp_neg"},
        **REPRESENTATIONS[representation],
    }
    config = build(StageConfig, settings)
    prior = embedded()
    prompts = Prompts.encode(prior, "a red mushroom", "", config.prompts)
    found = find("guidance", config.guidance)
    rule = found.module.build(found.config, prior, prompts)
    encode_reference(rule, prior, "", config.prompts)
    stage = Stage("only", config, rule, seed=0, device=torch.device("cpu"))
    stage.keep_reference()
    unseen = COLORS_ALONE[representation] if sees == "normal" else set()
    groups = {k: ps for k, ps in stage.parameter_groups().items() if k not in unseen}
    before = {name: [p.detach().clone() for p in group] for name, group in groups.items()}
    optimizer = torch.optim.Adam([p for group in groups.values() for p in group], eps=1e-15)
    for step in range(2):
        optimizer.zero_grad()
        result = stage.step(step)
        assert torch.tensor(result.loss).isfinite()
        assert result.metrics["nonfinite_fraction"] == 0
        optimizer.step()
    for name, group in groups.items():
        moved = [not torch.equal(p, old) for p, old in zip(group, before[name], strict=True)]
        assert any(moved), name
        assert all(p.isfinite().all() for p in group), name
