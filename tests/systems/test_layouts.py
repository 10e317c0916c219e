"""Claims about stages with a layout: where they begin, what they show, that they move."""

from functools import cache
from typing import Any

import pytest
import torch
from five_steps import begin, check
from recorder import Recorder
from rules import CASES

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.core.regions import Regions
from dreamlab.priors.base import Prior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.renderers.shading import unlit
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.trainer import StageTrainer

CPU = torch.device("cpu")
GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 32}
OBJECTS: dict[str, dict[str, Any]] = {
    "hashgrid": {
        "representation": {"name": "hashgrid", "grid": GRID, "hidden_width": 16},
        "renderer": {"name": "volume", "steps_per_diagonal": 48, "occupancy_resolution": 16},
    },
    "gaussians": {
        "representation": {"name": "gaussians", "count": 600, "max_count": 700, "opacity": 0.5},
        "renderer": {"name": "splat"},
    },
    "dmtet": {
        "representation": {"name": "dmtet", "resolution": 20, "grid": GRID},
        "renderer": {"name": "mesh"},
    },
}
LAYOUT = Layout(
    (
        Box("a red mushroom", (0.0, -0.45, 0.0), (0.7, 0.7, 0.9)),
        Box("a blue car", (0.1, 0.4, -0.1), (0.9, 0.6, 0.5), yaw=30.0),
    )
)
every_object = pytest.mark.parametrize("name", OBJECTS)


def stage_of(name: str, judge: Any = None, layout: Layout | None = LAYOUT, **changes: Any) -> Stage:
    settings = {
        "steps": 5,
        "guidance": {"name": "sds"},
        "milestones": [{"until": 1.0, "size": 32}],
        **OBJECTS[name],
        **changes,
    }
    config = build(StageConfig, settings)
    return Stage("only", config, judge, seed=0, device=CPU, layout=layout)


@every_object
def test_a_stage_begins_with_a_body_in_the_middle_of_each_box(name: str):
    stage = stage_of(name)
    regions, cameras = Regions.of(LAYOUT), stage.view_around(2)
    render = stage.renderer(
        cameras, 32, 32, shading=unlit(cameras), training=False, regions=regions
    )
    assert render.regions is not None and render.excess is not None
    areas = render.regions.mean(dim=(0, 1, 2))
    assert (areas > 0.01).all() and float(areas.max() / areas.min()) < 4
    if name != "hashgrid":  # softplus leaves a little fog around its balls
        assert render.excess.max() < 0.02
    for k, box in enumerate(LAYOUT.boxes):
        around = regions.only([k])
        alone = stage.renderer(
            cameras, 32, 32, shading=unlit(cameras), training=False, regions=around
        )
        place = (alone.depth / alone.alpha.clamp(min=1e-3))[0]
        where = alone.alpha[0, ..., 0] > 0.5
        assert where.any()
        center = torch.tensor(box.center)
        distance = (cameras.position[0] - center).norm()
        assert (place[where].mean() - distance).abs() < box.radius


@every_object
def test_without_a_layout_nothing_changes(name: str):
    plain, marked = stage_of(name, layout=None), stage_of(name)
    assert plain.regions is None
    recorder = Recorder()
    plain.guidance = recorder
    plain.step(0)
    assert recorder.renders[0].regions is None and recorder.renders[0].shown is None
    names = {n: p.shape for n, p in plain.state().items()}
    assert names == {n: p.shape for n, p in marked.state().items()}


def test_analytic_normals_know_the_bodies_in_the_boxes():
    field: Any = stage_of(
        "hashgrid",
        representation=OBJECTS["hashgrid"]["representation"] | {"normals": "analytic"},
    ).representation
    points = torch.rand(60, 3, generator=torch.Generator().manual_seed(0)) * 1.4 - 0.7
    step = 1e-3
    raw = lambda x: field._smooth_raw(x)  # noqa: E731
    axes = step * torch.eye(3)
    found = torch.stack([(raw(points + e) - raw(points - e)) / (2 * step) for e in axes], dim=1)
    expected = -torch.nn.functional.normalize(found, dim=1)
    alike = (field.normal(points) * expected).sum(dim=1)
    assert alike.median() > 0.999 and (alike > 0.9).float().mean() > 0.9


@every_object
def test_steps_show_what_the_round_says_and_resume_exactly(name: str):
    recorder = Recorder()
    passes = {"alone": 1, "scene": 1}
    stage = stage_of(name, recorder, passes=passes)
    results = [stage.step(step) for step in range(4)]
    assert [render.shown for render in recorder.renders] == [(0,), (1,), (0, 1), (0,)]
    again = stage_of(name, Recorder(), passes=passes)
    again.load_state(stage.state())
    assert again.step(3) == results[3]
    for k in (0, 1):
        alone = recorder.renders[k]
        assert alone.regions is not None and alone.alpha.mean() > 0.01
        assert (alone.regions[..., 1 - k] == 0).all()


def test_the_loss_of_boxes_needs_a_layout_and_pulls_inwards():
    with pytest.raises(InputError, match="'box_excess' needs a layout"):
        stage_of("gaussians", layout=None, losses={"box_excess": 1.0})
    stage_of("gaussians", layout=None, losses={"box_excess": 0.0})
    stage = stage_of("gaussians", Recorder(), losses={"box_excess": 100.0})
    gaussians: Any = stage.representation
    with torch.no_grad():
        gaussians.mean[:, 2] += 0.6
    optimizer = torch.optim.Adam([gaussians.mean], lr=0.02)
    excess = []
    for step in range(5):
        optimizer.zero_grad()
        excess.append(stage.step(step).metrics["box_excess"])
        optimizer.step()
    assert excess[-1] < 0.8 * excess[0]


@cache
def embedded() -> Prior:
    return load_prior(PriorConfig(), "cpu")


QUICK = {("sds", "gaussians")}
RULES: dict[str, dict[str, Any]] = {
    **{case: {"name": chosen.name, **chosen.options} for case, chosen in CASES.items()},
    "sdedit": {"name": "sdedit", "num_steps": 10},
    "vsd": {"name": "vsd", "learning_rate": 1e-3},
    "vsd under pgc": {"name": "vsd", "learning_rate": 1e-3},
}
CLIPPED: dict[str, Any] = {"pixel_gradient": {"policy": "norm2", "rgb": 0.1}}
ALL = [
    pytest.param(case, name, marks=[] if (case, name) in QUICK else pytest.mark.slow)
    for case in RULES
    for name in OBJECTS
]


@pytest.mark.parametrize(("case", "name"), ALL)
def test_five_steps_in_a_layout_move_everything_and_are_repeated_when_resumed(case: str, name: str):
    """In rounds of both objects alone and the scene; the second round is where it is resumed."""

    def begun() -> StageTrainer:
        stage = stage_of(
            name,
            guidance=RULES[case],
            prompts={"view": "perp_neg"},
            semantic={"scene_share": 0.2},
            passes={"alone": 1, "scene": 1},
            losses={"box_excess": 10.0},
            milestones=[{"until": 1.0, "size": 24}],
            **(CLIPPED if "pgc" in case else {}),
        )
        return begin(stage, embedded(), "a red mushroom next to a blue car")

    check(begun)
