"""Claims about stages in which each object of a layout has a representation of its own."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from recorder import Recorder
from toy_run import stop_after, toy_stage, toy_train

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.core.regions import Regions
from dreamlab.priors.base import Prior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.renderers.shading import unlit
from dreamlab.systems import surface
from dreamlab.systems.fitting import check_object
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.handover import continue_from
from dreamlab.systems.passes import moved
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.systems.surface import silhouettes, surface_of
from dreamlab.training.loop import check_stages
from dreamlab.training.stop import StopFlag
from dreamlab.training.trainer import StageTrainer

CPU = torch.device("cpu")
GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 32}
CONTROL = {"name": "grow", "begin": 0.0, "end": 1.0, "every": 2, "share": 0.3}
OBJECTS: dict[str, dict[str, Any]] = {
    "hashgrid": {
        "representation": {"name": "hashgrid", "grid": GRID, "hidden_width": 16},
        "renderer": {"name": "volume", "steps_per_diagonal": 64, "occupancy_resolution": 12},
    },
    "gaussians": {
        "representation": {
            "name": "gaussians",
            "count": 150,
            "max_count": 200,
            "opacity": 0.5,
            "control": CONTROL,
        },
        "renderer": {"name": "splat"},
    },
    "dmtet": {
        "representation": {"name": "dmtet", "resolution": 8, "grid": GRID},
        "renderer": {"name": "mesh"},
    },
}
LAYOUT = Layout(
    (
        Box("a red mushroom", (0.0, -0.35, 0.0), (0.7, 0.7, 0.9)),
        Box("a blue car", (0.1, 0.3, -0.1), (0.9, 0.7, 0.6), yaw=30.0),
    )
)
every_object = pytest.mark.parametrize("name", OBJECTS)


def settings_of(name: str, **changes: Any) -> dict[str, Any]:
    own = OBJECTS[name]
    representation = own["representation"] | {"per_object": True}
    return {
        "steps": 6,
        "views": 1,
        "guidance": {"name": "sds"},
        "milestones": [{"until": 1.0, "size": 16}],
        "passes": {"alone": 1, "scene": 1},
        "renderer": own["renderer"],
        **changes,
        "representation": representation | changes.get("representation", {}),
    }


def stage_of(
    name: str,
    judge: Any = None,
    layout: Layout | None = LAYOUT,
    called: str = "only",
    **changes: Any,
) -> Stage:
    config = build(StageConfig, settings_of(name, **changes))
    return Stage(called, config, judge, seed=0, device=CPU, layout=layout)


def objects_in(stage: Stage) -> Any:
    scene: Any = stage.representation
    return scene.objects


@cache
def embedded() -> Prior:
    return load_prior(PriorConfig(), "cpu")


@pytest.mark.parametrize(
    "name", ["hashgrid", "gaussians", pytest.param("dmtet", marks=pytest.mark.slow)]
)
def test_a_step_changes_what_it_shows_alone_and_a_loaded_state_goes_on_exactly(name: str):
    trainer, again = (
        StageTrainer(stage_of(name, Recorder(), losses={"box_excess": 1.0}), 0) for _ in range(2)
    )
    objects = objects_in(trainer.stage)
    for shown in ((0,), (1,), (0, 1), (0,)):
        if trainer.step == 2:
            snapshot = trainer.capture()
        before = [[p.detach().clone() for p in child.parameters()] for child in objects]
        _, problem = trainer.advance()
        assert problem is None
        for k, child in enumerate(objects):
            pairs = list(zip(child.parameters(), before[k], strict=True))
            assert any(not torch.equal(p, old) for p, old in pairs) == (k in shown), (shown, k)
    again.load(snapshot)
    for _ in range(2):
        again.advance()
    states = trainer.capture().tensors, again.capture().tensors
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@every_object
def test_an_object_in_its_box_looks_as_it_does_in_its_own_frame(name: str):
    """Similar frames, so opacity and colour are the same, and depth scales."""
    stage = stage_of(name)
    objects = objects_in(stage)
    regions, cameras = Regions.of(LAYOUT), stage.view_around(2, turned=20.0)
    for k, frame in enumerate(regions.frames()):
        alone = stage._build("renderer", objects[k], torch.Generator().manual_seed(0))
        own: Any = alone(cameras, 24, 24, shading=unlit(cameras), training=False)
        there = moved(cameras, frame.center, turn=float(frame.yaw), scale=float(frame.scale))
        seen = stage.render(there, 24, 24, regions=regions.only([k]))
        # a step along rays is as long in the world as in a frame, where it is coarser
        limit = 0.05 if name == "hashgrid" else 2e-3
        assert own.alpha.max() > 0.8
        assert (own.alpha - seen.alpha).abs().mean() < limit
        assert (own.depth - seen.depth / frame.scale).abs().mean() < 4 * limit
        assert seen.regions is not None
        torch.testing.assert_close(seen.regions[..., k : k + 1], seen.alpha, atol=1e-5, rtol=0)
        reference = silhouettes(stage, ((2, 20.0, 15.0),), 24, k)
        assert torch.equal(reference.alpha, seen.alpha)


@every_object
def test_regions_are_who_is_there_and_not_which_box_it_is_in(name: str):
    """Two objects in one place: boxes could not tell which of them is seen."""
    boxes = tuple(Box(f"object {k}", (0.0, 0.0, 0.0), (0.8, 0.8, 0.8)) for k in range(2))
    stage = stage_of(name, layout=Layout(boxes))
    objects = objects_in(stage)
    with torch.no_grad():
        if name == "hashgrid":
            objects[1].config = replace(objects[1].config, blob_radius=0.15)
        elif name == "dmtet":
            objects[1].distance.add_(0.15)
        else:
            objects[1].opacity_logit.fill_(-6.0)
    cameras = stage.view_around(2)
    render = stage.render(cameras, 24, 24, regions=Regions.of(Layout(boxes)))
    assert render.regions is not None
    first, second = render.regions.sum(dim=(0, 1, 2))
    assert first > 5 * second >= 0


@pytest.mark.slow
@every_object
def test_five_steps_with_the_embedded_prior_move_both_objects(name: str):
    stage = stage_of(
        name,
        steps=5,
        guidance={"name": "sds", "guidance_scale": 5.0},
        prompts={"view": "words"},
        semantic={"scene_share": 0.2},
        losses={"box_excess": 10.0},
    )
    stage.guidance = build_guidance(
        "only",
        stage.config,
        embedded(),
        prompt="a red mushroom next to a blue car",
        negative_prompt="",
        seed=0,
        layout=LAYOUT,
    )
    objects = objects_in(stage)
    before = [
        {group: [p.detach().clone() for p in ps] for group, ps in c.parameter_groups().items()}
        for c in objects
    ]
    trainer = StageTrainer(stage, 0)
    while not trainer.is_finished:
        result, problem = trainer.advance()
        assert problem is None and torch.tensor(result.loss).isfinite()
    for child, old in zip(objects, before, strict=True):
        for group, ps in child.parameter_groups().items():
            moved_ones = [
                not torch.equal(p, q) for p, q in zip(ps, old[group], strict=True) if p.numel()
            ]
            assert any(moved_ones), group
            assert all(p.isfinite().all() for p in ps), group


def plan(first: str, second: str, start_from: str | None = "previous") -> dict[str, StageConfig]:
    common = {
        "guidance": {"name": "sds", "guidance_scale": 1.0, "weighting": "x0"},
        "milestones": [{"until": 1.0, "size": 16}],
        "losses": {},
    }
    return {
        "one": toy_stage(**settings_of(first, **common)),
        "two": toy_stage(**settings_of(second, **common, start_from=start_from)),
    }


def coarsely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surface, "OUTLINE_SIZE", 24)
    monkeypatch.setattr("dreamlab.representations.colors.STEPS", 5)
    monkeypatch.setattr("dreamlab.representations.colors.POINTS", 256)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second"), [("gaussians", "dmtet"), ("hashgrid", "gaussians"), ("dmtet", "hashgrid")]
)
def test_a_resumed_run_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, second: str
):
    """Through density control of both objects, the hand-over, and a stop in the second stage."""
    coarsely(monkeypatch)
    stages = plan(first, second, None if second == "hashgrid" else "previous")
    whole = toy_train(tmp_path / "whole", stages, layout=LAYOUT)
    for at in (("one", 3), ("two", 3)):
        stop = StopFlag()
        folder = tmp_path / "-".join(map(str, at))
        toy_train(folder, stages, on_event=stop_after(stop, at), stop=stop, layout=LAYOUT)
        cut = toy_train(folder, stages, resume=True, layout=LAYOUT)
        states = whole.stage.state(), cut.stage.state()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_each_object_takes_over_that_of_the_same_number(monkeypatch: pytest.MonkeyPatch):
    """In its frame: a body that fills more of its box does so in the next stage too."""
    coarsely(monkeypatch)
    before, after = stage_of("dmtet"), stage_of("dmtet", representation={"resolution": 10})
    theirs = objects_in(before)
    with torch.no_grad():
        theirs[1].distance.sub_(0.15)
    continue_from(after, before)
    mine = objects_in(after)
    for old, new in zip(theirs, mine, strict=True):
        reach = [float(each.triangles().vertices.detach().norm(dim=1).max()) for each in (old, new)]
        assert abs(reach[0] - reach[1]) < 0.05
    assert surface_of(after, 1).vertices.max() > surface_of(after, 0).vertices.max() + 0.05
    same = stage_of("dmtet")
    continue_from(same, before)
    assert all(
        torch.equal(a, b)
        for a, b in zip(same.state().values(), before.state().values(), strict=True)
    )


def test_density_control_forgets_the_moments_of_the_right_object():
    stage = stage_of("gaussians", Recorder())
    trainer = StageTrainer(stage, 0)
    for _ in range(2):
        trainer.advance()
    objects = objects_in(stage)
    alive = [int(child.alive.sum()) for child in objects]
    stage.step(2)
    refined = stage.refine(2)
    assert len(refined) == 2
    for (parameters, rows), child, count in zip(refined, objects, alive, strict=True):
        assert {id(p) for p in parameters} == {id(p) for p in child.parameters()}
        assert len(rows) > 0 and int(child.alive.sum()) > count


def test_what_cannot_be_is_refused_before_anything_is_made():
    with pytest.raises(InputError, match="the run has no layout"):
        stage_of("gaussians", layout=None)
    each = {"name": "gaussians", "per_object": True}
    stages = {
        "one": StageConfig(1, {"name": "sds"}, representation=each, renderer={"name": "splat"}),
        "two": StageConfig(
            1,
            {"name": "sds"},
            representation={"name": "dmtet"},
            renderer={"name": "mesh"},
            start_from="previous",
        ),
    }
    with pytest.raises(InputError, match="neither cut apart nor melted together"):
        check_stages(stages, LAYOUT)
    with pytest.raises(InputError, match="neither cut apart nor melted together"):
        check_object(stages, "two", LAYOUT)
    with pytest.raises(InputError, match="the run has no layout"):
        check_stages({"one": stages["one"]})
    from_file = build(StageConfig, settings_of("gaussians", start_from="model.glb"))
    with pytest.raises(InputError, match="which is one object"):
        check_stages({"one": from_file}, LAYOUT)
    picture = {"guidance": {"name": "sds"}, "renderer": {"name": "mesh"}, "steps": 1}
    textured = {"name": "textured_mesh", "per_object": True}
    with pytest.raises(InputError, match="per_object"):
        check_stages({"one": build(StageConfig, picture | {"representation": textured})}, LAYOUT)
