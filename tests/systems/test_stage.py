import numpy as np
import pytest
import torch
from recorder import Recorder
from torch.testing import assert_close
from toy_run import BallPrior, toy_stage

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Splatted
from dreamlab.guidance.base import GuidanceOutput
from dreamlab.guidance.pixel_weights import pixel_weights
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sds import SDS, Config
from dreamlab.representations.dmtet import TetrahedralMesh
from dreamlab.representations.textured_mesh import TexturedMesh
from dreamlab.systems.handover import continue_from
from dreamlab.systems.settings import StageConfig
from dreamlab.systems.stage import Stage

CPU = torch.device("cpu")


def make_stage(config: StageConfig | None = None, *, seed: int = 0, name: str = "nerf") -> Stage:
    prior = BallPrior()
    guidance = SDS(Config(), prior, Prompts.encode(prior, "a ball", "", PromptConfig()))
    return Stage(name, config or toy_stage(), guidance, seed=seed, device=CPU)


def gradients(stage: Stage) -> list[torch.Tensor]:
    groups = stage.parameter_groups().values()
    return [p.grad.clone() for group in groups for p in group if p.grad is not None]


def test_a_step_leaves_finite_gradients_in_every_group() -> None:
    stage = make_stage()
    result = stage.step(0)
    assert stage.parameter_groups().keys() == {"table", "mlp"}
    for group in stage.parameter_groups().values():
        for parameter in group:
            assert parameter.grad is not None
            assert parameter.grad.isfinite().all() and parameter.grad.any()
    assert {"guidance", "opacity_entropy", "opacity", "gradient_rms"} <= result.metrics.keys()
    weighted = result.metrics["guidance"] + 0.01 * result.metrics["opacity_entropy"]
    assert result.loss == pytest.approx(weighted, rel=1e-5)
    assert 0 < result.metrics["opacity"] < 1


def test_a_step_is_a_function_of_seed_stage_name_and_step() -> None:
    first, again = make_stage(), make_stage()
    assert first.step(3) == again.step(3)
    for mine, theirs in zip(gradients(first), gradients(again), strict=True):
        assert torch.equal(mine, theirs)
    losses = {make_stage(seed=seed, name=name).step(step).loss for seed, name, step in KEYS}
    assert len(losses) == len(KEYS)


KEYS = [(0, "nerf", 3), (1, "nerf", 3), (0, "other", 3), (0, "nerf", 4)]


def test_steps_taken_before_do_not_change_the_random_numbers_of_a_step() -> None:
    fresh, used = make_stage(), make_stage()
    fresh.step(0)
    used.step(0)
    used.step(1)
    used.render(used.view_around(2), 8, 8)
    for stage in (fresh, used):
        for group in stage.parameter_groups().values():
            for parameter in group:
                parameter.grad = None
    assert fresh.step(2) == used.step(2)


def test_renders_have_the_size_of_the_milestone() -> None:
    stage = make_stage(
        toy_stage(steps=4, milestones=[{"until": 0.5, "size": 8}, {"until": 1, "size": 12}])
    )
    assert [stage.step(step).metrics["size"] for step in range(4)] == [8, 8, 12, 12]


def test_buffers_are_rendered_only_while_a_loss_needs_them() -> None:
    late = {"from": 0.0, "to": 1.0, "begin": 0.5, "end": 0.5}
    renderer = toy_stage().renderer | {"normals": "density"}
    losses = {"orientation": late, "depth_variance": late}
    config = toy_stage(steps=2, losses=losses, renderer=renderer)
    recorder = Recorder()
    stage = Stage("nerf", config, recorder, seed=0, device=CPU)
    results = [stage.step(0), stage.step(1)]
    early_render, late_render = recorder.renders
    assert early_render.normal is None and early_render.depth_variance is None
    assert late_render.normal is not None and late_render.depth_variance is not None
    assert "orientation" not in results[0].metrics and "orientation" in results[1].metrics


def test_normals_are_rendered_for_guidance_that_looks_at_them() -> None:
    recorder = Recorder()
    recorder.needs_normals = True
    Stage("nerf", toy_stage(), recorder, seed=0, device=CPU).step(0)
    assert recorder.renders[0].normal is not None


@pytest.mark.parametrize("kind", ["alpha", "facing"])
def test_pixels_take_the_guidances_gradient_by_their_weight(kind: str):
    """The loss is the sum of the squared colours c: without weights its gradient is 2 c."""

    class Sum(Recorder):
        def __call__(self, render, cameras, progress, generator):
            self.cameras = cameras
            render.rgb.retain_grad()
            super().__call__(render, cameras, progress, generator)
            return GuidanceOutput(render.rgb.square().sum())

    recorder = Sum()
    stage = Stage("nerf", toy_stage(pixel_weight=kind, losses={}), recorder, seed=0, device=CPU)
    received: list[torch.Tensor] = []
    honest = stage.renderer

    def watched(*arguments, **options):
        render = honest(*arguments, **options)
        render.rgb.register_hook(received.append)
        return render

    watched.update = honest.update
    stage.renderer = watched
    stage.focus = lambda particle: None
    stage.step(0)
    (render,) = recorder.renders
    assert render.normal is not None or kind == "alpha"
    weights = pixel_weights(render, recorder.cameras, kind)
    assert 0 < weights.max() and weights.min() < 0.5
    torch.testing.assert_close(received[0], weights * 2 * render.rgb.detach())


def test_views_may_look_from_opposite_sides() -> None:
    class Seen(Recorder):
        def __call__(self, render, cameras, progress, generator):
            self.azimuth = cameras.azimuth
            return super().__call__(render, cameras, progress, generator)

    recorder = Seen()
    config = toy_stage(views=4, cameras={"together": 2})
    Stage("nerf", config, recorder, seed=0, device=CPU).step(0)
    first, second = recorder.azimuth.unflatten(0, (2, 2)).T
    torch.testing.assert_close((second - first) % 360, torch.full((2,), 180.0))
    assert first[0] != first[1]


def test_every_view_of_a_step_has_its_own_background() -> None:
    background = {"name": "random", "random_probability": 1.0}
    renderer = toy_stage().renderer | {"background": background}
    recorder = Recorder()
    stage = Stage("nerf", toy_stage(renderer=renderer, views=3), recorder, seed=0, device=CPU)
    stage.step(0)
    corners = recorder.renders[0].rgb[:, 0, 0]
    assert len({tuple(corner.tolist()) for corner in corners}) == 3


def test_lit_views_differ_from_unlit_ones() -> None:
    shading = {"ambient_until": 0.0, "albedo": 0.0, "lambertian": 0.0, "textureless": 1.0}
    unlit, lit = Recorder(), Recorder()
    Stage("nerf", toy_stage(), unlit, seed=0, device=CPU).step(0)
    Stage("nerf", toy_stage(shading=shading), lit, seed=0, device=CPU).step(0)
    assert torch.equal(unlit.renders[0].alpha, lit.renders[0].alpha)
    assert not torch.allclose(unlit.renders[0].rgb, lit.renders[0].rgb, atol=0.05)


def shiny_stage(**changes) -> StageConfig:
    settings = {
        "representation": {
            "name": "textured_mesh",
            "grid": {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 24},
            "material": {"bump": 0.5},
        },
        "renderer": {"name": "mesh", "background": {"name": "solid"}},
        "shading": {
            "ambient_until": 0.0,
            "albedo": 0.0,
            "lambertian": 0.0,
            "textureless": 0.0,
            "pbr": 1.0,
        },
        "losses": {},
    }
    return toy_stage(**(settings | changes))


def test_a_physically_based_step_moves_colours_and_material_and_previews_stay_unlit() -> None:
    stage = make_stage(shiny_stage())
    assert stage.step(1) == make_stage(shiny_stage()).step(1)
    table, mlp = (stage.parameter_groups()[name] for name in ("table", "mlp"))
    for parameter in (*table, *mlp):
        assert parameter.grad is not None and parameter.grad.isfinite().all()
        assert parameter.grad.any()
    assert len(mlp) == 3 and mlp[2].shape[1] == 5
    render = stage.render(stage.view_around(1), 16, 16)
    middle = render.rgb[0, 7:9, 7:9]  # the ball's mid-grey
    assert (middle - 0.5).abs().max() < 0.01


@pytest.mark.parametrize(
    "representation", [toy_stage().representation, {"name": "textured_mesh"}, {"name": "gaussians"}]
)
def test_physically_based_views_of_what_has_no_material_are_refused(representation) -> None:
    renderer = {"hashgrid": "volume", "gaussians": "splat", "textured_mesh": "mesh"}
    parts = {
        "representation": representation,
        "renderer": {"name": renderer[representation["name"]]},
    }
    with pytest.raises(InputError, match=r"stages\.nerf\.shading\.pbr .* no material"):
        make_stage(shiny_stage(**parts))


def test_rendering_for_people_is_repeatable_and_without_gradient() -> None:
    stage = make_stage()
    cameras = stage.view_around(3)
    stage.step(0)
    first = stage.render(cameras, 8, 10, normals=True)
    stage.step(1)
    again = stage.render(cameras, 8, 10, normals=True)
    assert first.rgb.shape == (3, 8, 10, 3) and not first.rgb.requires_grad
    assert first.normal is not None
    assert torch.equal(first.rgb, again.rgb)


def test_views_around_stay_within_the_trained_elevations() -> None:
    stage = make_stage(toy_stage(cameras={"elevation": [-5.0, 10.0]}))
    cameras = stage.view_around(4, elevation=60.0, turned=10.0)
    assert cameras.elevation.tolist() == [10.0] * 4
    assert cameras.azimuth.tolist() == pytest.approx([10.0, 100.0, -170.0, -80.0], abs=1e-3)


def test_a_loaded_state_renders_the_same_and_takes_the_same_next_step() -> None:
    first = make_stage()
    first.step(0)
    with torch.no_grad():
        for group in first.parameter_groups().values():
            for parameter in group:
                parameter.add_(0.01)
    second = make_stage(seed=0)
    second.load_state(first.state())
    assert first.step(1) == second.step(1)


def test_a_stage_can_start_from_the_object_of_the_one_before() -> None:
    first = make_stage(name="coarse")
    second = make_stage(toy_stage(start_from="previous", views=1), name="fine")
    cameras = first.view_around(2)
    first.step(0)
    tables = [stage.state()["representation.features.table"] for stage in (first, second)]
    assert not torch.equal(*tables), "the names of stages seed their initial values"
    continue_from(second, first)
    assert torch.equal(first.render(cameras, 8, 8).rgb, second.render(cameras, 8, 8).rgb)


MESH = {
    "representation": {
        "name": "dmtet",
        "resolution": 12,
        "grid": {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 24},
    },
    "renderer": {"name": "mesh", "background": {"name": "solid"}},
    "start_from": "previous",
    "losses": {"normal_consistency": 0.01},
}


def test_a_field_becomes_a_mesh_that_looks_the_same_and_learns_on() -> None:
    field, mesh = make_stage(name="coarse"), make_stage(toy_stage(**MESH), name="fine")
    for step in range(3):
        field.step(step)
        with torch.no_grad():
            for group in field.parameter_groups().values():
                for parameter in group:
                    parameter.sub_(0.003 * parameter.grad.sign())
    continue_from(mesh, field)
    cameras = field.view_around(4)
    before, after = (stage.render(cameras, 32, 32) for stage in (field, mesh))
    outlines = before.alpha > 0.5, after.alpha > 0.5
    overlap = (outlines[0] & outlines[1]).sum() / (outlines[0] | outlines[1]).sum()
    assert overlap > 0.9
    covered = (outlines[0] & outlines[1])[..., 0]
    assert (before.rgb - after.rgb)[covered].abs().mean() < 0.08
    result = mesh.step(0)
    assert {"guidance", "normal_consistency"} <= result.metrics.keys()
    for group in mesh.parameter_groups().values():
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in group)


def mesh_of(stage: Stage) -> TetrahedralMesh:
    assert isinstance(stage.representation, TetrahedralMesh)
    return stage.representation


def dmtet_stage(resolution: int, **changes) -> Stage:
    representation = MESH["representation"] | {"resolution": resolution, **changes}
    return make_stage(toy_stage(**(MESH | {"representation": representation})))


def test_a_mesh_goes_on_on_a_finer_grid_with_its_shape_and_colours(monkeypatch) -> None:
    monkeypatch.setattr("dreamlab.representations.colors.STEPS", 60)
    coarse, fine = dmtet_stage(8), dmtet_stage(16)
    shape = mesh_of(coarse)
    with torch.no_grad():
        shape.distance.copy_((shape.grid.positions - 0.1).norm(dim=1) - 0.6)
        shape.features.table.fill_(5.0)
    colors = shape.color_at(torch.zeros(1, 3))
    assert (colors - 0.5).abs().max() > 0.1, "what is handed over differs from the beginning"
    continue_from(fine, coarse)
    cameras = coarse.view_around(4)
    before, after = (stage.render(cameras, 32, 32) for stage in (coarse, fine))
    outlines = before.alpha > 0.5, after.alpha > 0.5
    assert (outlines[0] & outlines[1]).sum() / (outlines[0] | outlines[1]).sum() > 0.95
    covered = (outlines[0] & outlines[1])[..., 0]
    assert (before.rgb - after.rgb)[covered].abs().mean() < 0.02
    fine.step(0)
    gradient = mesh_of(fine).distance.grad
    assert gradient is not None and gradient.isfinite().all() and gradient.any()


def test_the_same_grid_goes_on_as_it_is_even_if_a_schedule_of_it_has_changed() -> None:
    first, second = dmtet_stage(8), dmtet_stage(8, all_levels_at=0.5)
    with torch.no_grad():
        mesh_of(first).offset.normal_(generator=torch.Generator().manual_seed(0))
    continue_from(second, first)
    mine, theirs = mesh_of(second).parameters(), mesh_of(first).parameters()
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_a_given_mesh_goes_on_triangle_for_triangle_though_loading_resizes_it() -> None:
    painted = shiny_stage().representation
    config = shiny_stage(representation=painted | {"material": None}, shading={})
    first, second = make_stage(config), make_stage(config, seed=1)
    corners = np.array([[0, 0, 0.5], [0.5, 0, 0], [0, 0.5, 0], [-0.5, -0.5, 0]], dtype=np.float32)
    tri = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    assert isinstance(first.representation, TexturedMesh)
    first.representation.body.become(Mesh(corners, tri))
    continue_from(second, first)
    mine, theirs = (stage.representation.state_dict() for stage in (second, first))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_gaussians_go_on_as_they_are_where_there_is_room_for_more_and_for_harmonics() -> None:
    splat = {"renderer": {"name": "splat", "background": {"name": "solid"}}, "losses": {}}
    few = {"name": "gaussians", "count": 40, "max_count": 40}
    first = make_stage(toy_stage(representation=few, **splat))
    more = few | {"max_count": 60, "color_degree": 1}
    second = make_stage(toy_stage(representation=more, **splat), seed=1)
    continue_from(second, first)
    mine, theirs = second.representation, first.representation
    assert isinstance(mine, Splatted) and isinstance(theirs, Splatted)
    before, after = theirs.splats(), mine.splats()
    assert torch.equal(before.means, after.means)
    for name in ("scales", "opacities", "colors"):
        assert_close(getattr(after, name), getattr(before, name))
    assert after.harmonics is not None and not after.harmonics.any()
    less = make_stage(toy_stage(representation=few | {"count": 30, "max_count": 30}, **splat))
    with pytest.raises(InputError, match="max_count to 40"):
        continue_from(less, first)


def test_a_mesh_that_has_vanished_cannot_be_handed_on() -> None:
    first, second = dmtet_stage(8), dmtet_stage(12)
    with torch.no_grad():
        mesh_of(first).distance.fill_(1.0)
    with pytest.raises(InputError, match="no triangles"):
        continue_from(second, first)


def test_a_mesh_cannot_become_a_field() -> None:
    first = make_stage(toy_stage(**MESH), name="coarse")
    second = make_stage(toy_stage(start_from="previous"), name="fine")
    with pytest.raises(InputError, match="a dmtet cannot become a hashgrid"):
        continue_from(second, first)


def test_a_state_of_other_settings_is_refused_with_their_path() -> None:
    small = make_stage()
    representation = small.config.representation | {"hidden_width": 24}
    wide = make_stage(toy_stage(representation=representation))
    with pytest.raises(InputError, match=r"stages\.nerf\.representation"):
        wide.load_state(small.state())
    with pytest.raises(InputError, match=r"stages\.nerf\.representation"):
        continue_from(wide, small)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(InputError, match="opacity_entropi"):
        make_stage(toy_stage(losses={"opacity_entropi": 1.0}))


def test_a_step_is_about_one_particle_and_one_particle_alone_begins_as_the_first_of_many() -> None:
    single, many = make_stage(), make_stage(toy_stage(particles=3))
    table = "representation.features.table"
    assert torch.equal(single.state()[table], many.state()[table])
    assert not torch.equal(many.state()[table], many.state()[f"particle2.{table}"])
    groups = many.parameter_groups()
    assert len(groups["table"]) == 3 * len(single.parameter_groups()["table"])
    step = next(step for step in range(50) if many.particle_at(step) == 2)
    many.step(step)
    per_particle = len(groups["mlp"]) // 3
    touched = [p.grad is not None for p in groups["mlp"][::per_particle]]
    assert touched == [False, False, True]
    many.focus(0)
    after = make_stage(toy_stage(particles=2, start_from="previous"), name="fine")
    continue_from(after, many)
    assert torch.equal(after.state()[f"particle1.{table}"], many.state()[f"particle1.{table}"])


def test_without_guidance_a_stage_can_be_rendered_but_takes_no_steps() -> None:
    stage = Stage("nerf", toy_stage(), None, seed=0, device=CPU)
    assert stage.render(stage.view_around(1), 8, 8).rgb.isfinite().all()
    with pytest.raises(ValueError, match="without guidance"):
        stage.step(0)
