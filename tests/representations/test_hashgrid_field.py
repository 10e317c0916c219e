"""Claims about the hash-grid radiance field."""

import pytest
import torch
from torch import Tensor

from dreamlab.core.config import build as build_config
from dreamlab.core.config import to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Field, Representation
from dreamlab.core.schedules import Schedule
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.representations import hashgrid
from dreamlab.representations.hashgrid import Config, HashGridField, build

SMALL = HashGridConfig(num_levels=6, log2_table_size=12, base_resolution=4, finest_resolution=64)

TINY = HashGridConfig(
    num_levels=2, num_features=1, log2_table_size=4, base_resolution=2, finest_resolution=4
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_field(*, rough: float = 0.0, **settings) -> HashGridField:
    """Return a field; `rough` > 0 fills its table as if it had been trained."""
    field = build(Config(grid=SMALL, **settings), seeded())
    with torch.no_grad():
        field.features.table += rough * torch.randn(field.features.table.shape, generator=seeded(1))
    return field


def points_in_ball(num: int, radius: float = 0.8) -> Tensor:
    direction = torch.nn.functional.normalize(torch.randn(num, 3, generator=seeded(2)), dim=-1)
    return direction * radius * torch.rand(num, 1, generator=seeded(3)) ** (1 / 3)


def test_it_is_a_field_and_a_representation():
    field = small_field()
    assert isinstance(field, Field)
    assert isinstance(field, Representation)


def test_an_untrained_field_is_the_blob_in_grey():
    field = small_field(blob="linear", blob_scale=10.0, blob_radius=0.5)
    points = points_in_ball(200, radius=1.0)
    density, color = field.density_and_color(points)
    expected = torch.nn.functional.softplus(10 * (1 - points.norm(dim=-1) / 0.5))
    assert torch.allclose(density, expected, atol=1e-3)
    assert torch.allclose(color, torch.full_like(color, 0.5), atol=1e-3)


def test_density_is_positive_and_equals_the_one_returned_with_the_colour():
    for activation in ("softplus", "trunc_exp"):
        field = small_field(rough=1.0, activation=activation)
        points = points_in_ball(300)
        density, color = field.density_and_color(points)
        assert torch.allclose(field.density(points), density)
        assert (density > 0).all()
        assert ((color > 0) & (color < 1)).all()
        assert torch.equal(field.color_at(points), color)


def test_gradients_to_parameters_and_points_agree_with_finite_differences():
    field = build(Config(grid=TINY, hidden_width=4, backend="reference"), seeded()).double()
    points = points_in_ball(5).double().requires_grad_()
    with torch.no_grad():
        field.features.table.copy_(torch.randn(field.features.table.shape, generator=seeded(1)))
    parameters = [p for group in field.parameter_groups().values() for p in group]

    def evaluate(points: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        return field.density_and_color(points)

    assert torch.autograd.gradcheck(evaluate, (points, *parameters), fast_mode=True)


def test_groups_hold_every_parameter_once():
    field = small_field()
    groups = field.parameter_groups()
    assert set(groups) == {"table", "mlp"}
    grouped = [id(p) for group in groups.values() for p in group]
    assert sorted(grouped) == sorted(id(p) for p in field.parameters())


def test_levels_open_one_after_the_other():
    field = small_field(rough=1.0, start_level=2, all_levels_at=0.5)
    features = SMALL.num_features
    field.set_progress(0.0)
    assert torch.equal(
        field.features.level_weights, torch.tensor([1.0, 1, 0, 0, 0, 0]).repeat_interleave(features)
    )
    field.set_progress(0.25 * 5 / 4)
    expected = torch.tensor([1.0, 1, 1, 1, 0.5, 0]).repeat_interleave(features)
    assert torch.allclose(field.features.level_weights, expected)
    for progress in (0.5, 0.9, 1.0):
        field.set_progress(progress)
        assert (field.features.level_weights == 1).all()


def test_closed_levels_neither_show_nor_learn():
    field = small_field(rough=1.0, start_level=2, all_levels_at=0.5)
    field.set_progress(0.0)
    points = points_in_ball(500)
    density, color = field.density_and_color(points)
    (density.sum() + color.sum()).backward()
    learned = field.features.table.grad.abs().sum(-1) > 0
    with torch.no_grad():
        field.features.table[~learned] += 1.0
    assert torch.allclose(field.density(points), density, rtol=1e-5)
    field.set_progress(1.0)
    assert not torch.allclose(field.density(points), density, rtol=1e-2)


def test_noise_acts_in_training_with_gradient_only_and_is_a_function_of_progress():
    field = small_field(density_noise=Schedule(1.0, 0.0))
    points = points_in_ball(100)
    with torch.no_grad():
        quiet = field.density(points)
    field.set_progress(0.25)
    first, second = field.density(points), field.density(points)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, quiet)
    field.set_progress(0.5)
    field.set_progress(0.25)
    assert torch.equal(field.density(points), first)
    field.set_progress(1.0)
    assert torch.allclose(field.density(points), quiet)
    field.set_progress(0.25)
    assert torch.allclose(field.eval().density(points), quiet)


@pytest.mark.parametrize("normals", ["tetrahedral", "central", "analytic"])
def test_normals_of_the_blob_point_outwards(normals):
    field = small_field(normals=normals)
    points = points_in_ball(200)
    outward = torch.nn.functional.normalize(points, dim=-1)
    far = points.norm(dim=-1) > 0.1
    cosine = (field.normal(points) * outward).sum(-1)[far]
    assert cosine.min() > 0.99


@pytest.mark.parametrize("normals", ["tetrahedral", "central"])
def test_difference_normals_approach_the_analytic_ones(normals):
    smooth = HashGridConfig(
        num_levels=3,
        log2_table_size=12,
        base_resolution=3,
        finest_resolution=8,
        interpolation="smoothstep",
    )
    points = points_in_ball(300)

    def normals_with(method: str) -> Tensor:
        config = Config(grid=smooth, normals=method, normal_eps=2e-3, blob_scale=2.0)
        field = build(config, seeded())
        with torch.no_grad():
            field.features.table += 0.5 * torch.randn(
                field.features.table.shape, generator=seeded(1)
            )
            return field.normal(points)

    cosine = (normals_with(normals) * normals_with("analytic")).sum(-1)
    assert cosine.median() > 0.9999
    assert (cosine > 0.99).float().mean() > 0.97


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_analytic_normals_are_those_of_the_differentiated_density(backend):
    field = small_field(rough=0.5, normals="analytic", blob="gaussian", backend=backend)
    points = points_in_ball(100).requires_grad_()
    (gradient,) = torch.autograd.grad(field.density(points).sum(), points)
    expected = -torch.nn.functional.normalize(gradient, dim=-1)
    assert torch.allclose(field.normal(points), expected, atol=1e-3)


def test_gradients_of_analytic_normals_agree_with_finite_differences():
    config = Config(grid=TINY, hidden_width=4, backend="reference", normals="analytic")
    field = build(config, seeded()).double()
    points = points_in_ball(5).double()
    with torch.no_grad():
        field.features.table.copy_(torch.randn(field.features.table.shape, generator=seeded(1)))
    parameters = (field.features.table, *field.density_layers)
    assert torch.autograd.gradcheck(lambda *_: field.normal(points), parameters, fast_mode=True)


@pytest.mark.parametrize("normals", ["tetrahedral", "central", "analytic"])
def test_normals_pull_on_the_parameters(normals):
    field = small_field(rough=0.5, normals=normals)
    field.normal(points_in_ball(50)).sum().backward()
    for parameter in (field.features.table, *field.density_layers):
        assert parameter.grad is not None
        assert parameter.grad.any()


def test_density_grid_samples_the_density_at_the_nodes(monkeypatch):
    monkeypatch.setattr(hashgrid, "CHUNK", 7)
    field = small_field(rough=0.5, half_extent=1.5)
    values = field.density_grid(5)
    assert not values.requires_grad
    axis = torch.linspace(-1.5, 1.5, 5)
    for i, j, k in ((0, 0, 0), (4, 0, 2), (1, 3, 2)):
        point = torch.stack([axis[i], axis[j], axis[k]])[None]
        assert values[i, j, k] == pytest.approx(field.density(point).item(), rel=1e-4)


def test_a_grid_of_one_node_is_refused_with_a_fix():
    with pytest.raises(InputError, match="at least 2") as caught:
        small_field().density_grid(1)
    assert "raise" in caught.value.fix


def test_state_round_trip_restores_values_and_unfinished_progress():
    field = small_field(rough=1.0, start_level=2, all_levels_at=1.0)
    field.set_progress(0.3)
    fresh = build(field.config, seeded(9))
    fresh.load_state_dict(field.state_dict())
    points = points_in_ball(50)
    assert torch.equal(fresh.density(points), field.density(points))
    assert all(isinstance(value, Tensor) for value in field.state_dict().values())


def test_the_generator_decides_the_initial_parameters():
    config = Config(grid=SMALL)
    first, again, other = (build(config, seeded(seed)) for seed in (4, 4, 5))
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)


@pytest.mark.parametrize(
    "settings",
    [
        {"half_extent": 0.0},
        {"blob_radius": -1.0},
        {"hidden_width": 0},
        {"normal_eps": 0.0},
        {"density_noise": Schedule(1.0, -1.0)},
        {"start_level": 0, "all_levels_at": 0.5},
        {"start_level": 99, "all_levels_at": 0.5},
        {"all_levels_at": 2.0},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)


def test_settings_survive_a_round_trip():
    config = Config(grid=SMALL, density_noise=Schedule(1.0, 0.0, end=0.5), normals="central")
    assert build_config(Config, to_plain(config)) == config
