"""Every rule moves every representation and a picture by the embedded prior, and can be resumed."""

from functools import cache
from typing import Any

import pytest
import torch
from five_steps import STEPS, begin, check
from rules import CASES

from dreamlab.core.config import build
from dreamlab.priors.base import Prior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.components import available
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.trainer import StageTrainer

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
    "image": {"representation": {"name": "image", "size": 24}, "renderer": {"name": "flat"}},
}
COLORS_ALONE = {"hashgrid": set(), "gaussians": {"color"}, "dmtet": {"table", "mlp"}}
"""Groups of parameters that normals do not depend on."""
RULES: dict[str, dict[str, Any]] = {
    **{case: {"name": chosen.name, **chosen.options} for case, chosen in CASES.items()},
    "sdedit": {"name": "sdedit", "num_steps": 10},
    "vsd": {"name": "vsd", "learning_rate": 1e-3},
    "hifa": {"name": "sds", "image_weight": 0.01},
    "pgc": {"name": "sds"},
    "sum": {
        "name": "sum",
        "rules": {
            "learned": {"name": "vsd", "learning_rate": 1e-3},
            "compared": {"name": "dds", "reference_prompt": "ugly", "latent_weight": 0.5},
            "edited": {"name": "sdedit", "num_steps": 10},
        },
    },
}
BESIDE: dict[str, dict[str, Any]] = {"pgc": {"pixel_gradient": {"policy": "norm2", "rgb": 0.1}}}
"""Settings of the stage."""
ALL = [
    *((rule, representation, "rgb") for rule in RULES for representation in REPRESENTATIONS),
    *(
        (rule, representation, "normal")
        for rule in ("sdedit", *CASES)
        for representation in COLORS_ALONE
    ),
]
QUICK = {("csd", "gaussians", "rgb"), ("sds", "image", "rgb")}


@cache
def embedded() -> Prior:
    return load_prior(PriorConfig(), "cpu")


def test_every_rule_and_every_representation_of_objects_is_in_the_matrix():
    assert {rule["name"] for rule in RULES.values()} == set(available("guidance"))
    others = {"textured_mesh", "uv_mesh", "latent_image"}  # those of a mesh, and of a picture
    assert REPRESENTATIONS.keys() == set(available("representations")) - others


@pytest.mark.parametrize(
    ("rule", "representation", "sees"),
    [pytest.param(*cell, marks=[] if cell in QUICK else pytest.mark.slow) for cell in ALL],
)
def test_five_steps_are_finite_move_the_parameters_and_are_repeated_when_resumed(
    rule: str, representation: str, sees: str
) -> None:
    config = build(
        StageConfig,
        {
            "steps": STEPS,
            "guidance": RULES[rule] | ({"sees": sees} if sees != "rgb" else {}),
            "milestones": [{"until": 1.0, "size": 24}],
            "prompts": {"view": "perp_neg"},
            **BESIDE.get(rule, {}),
            **REPRESENTATIONS[representation],
        },
    )

    def begun() -> StageTrainer:
        stage = Stage("only", config, None, seed=0, device=torch.device("cpu"))
        return begin(stage, embedded(), "a red mushroom")

    check(begun, COLORS_ALONE[representation] if sees == "normal" else ())
