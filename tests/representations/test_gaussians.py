"""Gaussians: what they start as and become, their volume, and density control."""

import math

import numpy as np
import pytest
import torch
import trimesh
from closeness import KERNEL_DEVICES

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.harmonics import bases_above_zero
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Refining, Representation, Splatted, Volume
from dreamlab.ops.splat.project import rotation_matrices
from dreamlab.ops.splat.query import build_index
from dreamlab.renderers.shading import unlit
from dreamlab.renderers.splat import Config as SplatConfig
from dreamlab.renderers.splat import SplatRenderer
from dreamlab.representations.density_control import MAX_COPIES, Control, share_out
from dreamlab.representations.gaussians import Config, build


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(**settings):
    control = Control(begin=0.0, end=1.0, every=1, **settings.pop("control", {}))
    defaults = {"count": 60, "max_count": 100, "control": control}
    return build(Config(**(defaults | settings)), seeded())


def test_it_starts_as_a_ball_of_grey_gaussians():
    gaussians = small(count=500, max_count=600, radius=0.4)
    for protocol in (Splatted, Volume, Refining, Representation):
        assert isinstance(gaussians, protocol)
    splats = gaussians.splats()
    assert len(splats.means) == 500 and gaussians.alive.sum() == 500
    radii = splats.means.norm(dim=1)
    assert radii.max() <= 0.4
    assert (radii < 0.2).float().mean().item() == pytest.approx(1 / 8, abs=0.05)
    assert (splats.colors == 0.5).all() and (splats.opacities - 0.1).abs().max() < 1e-6


def exact_density(splats, points):
    """The formula of `ops.splat.query`, every Gaussian at every point."""
    root = rotation_matrices(splats.quaternions) * splats.scales[:, None]
    inverse = torch.linalg.inv(root @ root.transpose(1, 2))
    d = points[:, None] - splats.means
    power = torch.einsum("pni,nij,pnj->pn", d, inverse, d)
    if splats.shapes is not None:
        power = power ** (splats.shapes / 2)
    return splats.opacities * torch.exp(-0.5 * power)


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_density_and_colour_at_points_follow_their_formula(device):
    draw = seeded(1)
    gaussians = small(opacity=0.6)
    with torch.no_grad():
        gaussians.color_logit.copy_(torch.randn(100, 3, generator=draw))
        gaussians.log_scale += torch.randn(100, 3, generator=draw) * 0.5
        splats = gaussians.splats()
        points = torch.rand(400, 3, generator=draw) * 1.2 - 0.6
        each = exact_density(splats, points)
        parts = (splats.means, splats.quaternions, splats.scales, splats.opacities, splats.colors)
        index = build_index(*(part.to(device) for part in parts), half_extent=1.0)
        there = points.to(device)
        density, color = index.density(there).cpu(), index.features_at(there).cpu()
    torch.testing.assert_close(density, each.sum(1), atol=0.01, rtol=0.01)
    dense = each.sum(1) > 0.2
    expected = (each @ splats.colors) / each.sum(1, keepdim=True)
    torch.testing.assert_close(color[dense], expected[dense], atol=0.02, rtol=0)
    far = torch.tensor([[5.0, 0, 0]])
    nearest = (splats.means - far).norm(dim=1).argmin()
    assert torch.equal(gaussians.color_at(far)[0], splats.colors[nearest])
    grid = gaussians.density_grid(5)
    assert grid[2, 2, 2].item() == pytest.approx(
        exact_density(splats, torch.zeros(1, 3)).sum().item(), abs=0.01
    )


def test_it_can_become_a_mesh_with_colours():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.5)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int64))
    gaussians = small(count=400, max_count=400)
    gaussians.adopt(mesh, lambda points: (points > 0).float() * 0.6 + 0.2)
    splats = gaussians.splats()
    assert (splats.means.norm(dim=1) - 0.5).abs().max() < 0.01
    # the short axis is the normal
    axis = rotation_matrices(splats.quaternions)[:, :, 2]
    outward = torch.nn.functional.normalize(splats.means, dim=-1)
    assert (axis * outward).sum(-1).min() > 0.98
    assert (splats.scales[:, 2] < splats.scales[:, 0]).all()
    expected = (splats.means > 0).float() * 0.6 + 0.2
    torch.testing.assert_close(splats.colors, expected, atol=1e-4, rtol=0)


def test_it_can_become_other_gaussians_as_they_are():
    source = small(count=70, color_degree=2)
    draw = seeded(7)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw))
    given = source.splats()
    for degree, kept in ((2, 8), (1, 3), (3, 8)):
        gaussians = small(color_degree=degree)
        gaussians.adopt_splats(given)
        splats = gaussians.splats()
        for name in ("means", "quaternions", "scales", "opacities", "colors"):
            torch.testing.assert_close(getattr(splats, name), getattr(given, name))
        assert splats.harmonics is not None and given.harmonics is not None
        assert torch.equal(splats.harmonics[:, :kept], given.harmonics[:, :kept])
        assert not splats.harmonics[:, kept:].any()
    with pytest.raises(InputError, match="set the representation's max_count to 70"):
        small(count=10, max_count=69).adopt_splats(given)


def test_generalised_exponentials_start_as_gaussians_and_learn_their_shape():
    plain, shaped = small(opacity=0.6), small(opacity=0.6, kernel="exponential")
    with torch.no_grad():
        for mine, theirs in zip(shaped.parameters(), plain.parameters(), strict=False):
            mine.copy_(theirs)
    points = torch.rand(50, 3, generator=seeded(1)) - 0.5
    torch.testing.assert_close(shaped.splats().shapes, torch.full((60,), 2.0))
    torch.testing.assert_close(shaped.density_grid(9), plain.density_grid(9), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(shaped.color_at(points), plain.color_at(points))
    cameras = turntable_cameras(1, distance=3.0, fov_y=40.0)
    renderer = SplatRenderer(SplatConfig(), shaped, seeded())
    render = renderer(cameras, 16, 16, shading=unlit(cameras), training=True, generator=seeded())
    render.alpha.sum().backward()
    [shape] = shaped.parameter_groups()["shape"]
    assert shape.grad is not None and shape.grad[:60].any()
    other = small(kernel="exponential")
    with torch.no_grad():
        shaped.shape_logit.copy_(torch.randn(100, generator=seeded(2)))
    other.adopt_splats(shaped.splats())
    torch.testing.assert_close(other.splats().shapes, shaped.splats().shapes)
    with pytest.raises(InputError, match="kernel to exponential"):
        plain.adopt_splats(shaped.splats())
    with torch.no_grad():
        splats = shaped.splats()
        expected = exact_density(splats, points).sum(1)
        found = build_index(
            *(splats.means, splats.quaternions, splats.scales, splats.opacities, splats.colors),
            half_extent=1.0,
            shapes=splats.shapes,
        ).density(points)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)


def test_colours_that_depend_on_the_view_are_learned_and_density_control_copies_them():
    gaussians = small(color_degree=1, control={"share": 0.1, "split_above": 10.0})
    assert [p.shape for p in gaussians.parameter_groups()["harmonics"]] == [(100, 3, 3)]
    assert "harmonics" not in small().parameter_groups()
    positions = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0]])
    gaussians.splats().colors_from(positions).select(0, 0).sum().backward()
    assert gaussians.harmonics.grad is not None and gaussians.harmonics.grad[:60].any()
    with torch.no_grad():
        gaussians.harmonics.copy_(torch.randn(100, 3, 3, generator=seeded(3)))
    before = gaussians.color_at(torch.rand(5, 3, generator=seeded(4)))
    assert (before == 0.5).all()  # the albedo alone
    observe(gaussians, torch.rand(60, generator=seeded(2)))
    for child in gaussians.refine(1, 0.5, seeded(3)).tolist():
        parents = gaussians.harmonics[:60]
        assert any(torch.equal(gaussians.harmonics[child], parent) for parent in parents)


def observe(gaussians, gradient):
    gaussians.observe(gradient, torch.ones(len(gradient), dtype=torch.bool))


@pytest.mark.parametrize(
    ("progress", "learned"),
    [(0.0, 0), (0.19, 0), (0.2, 1), (0.4, 2), (0.59, 2), (0.6, 3), (1.0, 3)],
)
def test_degrees_are_learned_one_after_another_and_seen_all_the_time(progress, learned):
    gaussians = small(color_degree=3, all_degrees_at=0.6)
    assert gaussians.harmonics is not None
    with torch.no_grad():
        gaussians.harmonics.copy_(torch.randn(gaussians.harmonics.shape, generator=seeded(3)))
    seen = gaussians.splats().harmonics
    gaussians.set_progress(progress)
    splats = gaussians.splats()
    assert splats.harmonics is not None and seen is not None
    assert torch.equal(splats.harmonics, seen)
    before = gaussians.harmonics.detach().clone()
    optimizer = torch.optim.Adam([gaussians.harmonics], lr=0.1, eps=1e-15)
    splats.colors_from(torch.tensor([[3.0, 1.0, 2.0]])).sum().backward()
    optimizer.step()
    moved = (gaussians.harmonics != before).any(dim=0).any(dim=-1)
    assert moved.tolist() == [index < bases_above_zero(learned) for index in range(15)]


def test_all_degrees_are_learned_from_the_beginning_unless_asked_otherwise():
    gaussians = small(color_degree=2)
    gaussians.set_progress(0.0)
    gaussians.splats().colors_from(torch.tensor([[3.0, 1.0, 2.0]])).sum().backward()
    assert gaussians.harmonics is not None and gaussians.harmonics.grad is not None
    assert gaussians.harmonics.grad[:60].abs().amax(dim=(0, 2)).all()


def test_growth_keeps_company_to_the_largest_gradients():
    gaussians = small(control={"share": 0.1, "split_above": 10.0})
    gradient = torch.rand(60, generator=seeded(2))
    observe(gaussians, gradient)
    parents = gradient.topk(6).indices
    changed = gaussians.refine(1, 0.5, seeded(3))
    assert gaussians.alive.sum() == 66
    assert sorted(changed.tolist()) == list(range(60, 66))  # clones only
    for child in range(60, 66):
        assert any(torch.equal(gaussians.mean[child], gaussians.mean[p]) for p in parents)


def test_large_gaussians_are_split_into_smaller_ones_inside_them():
    gaussians = small(control={"share": 0.1, "split_above": 1e-4})
    observe(gaussians, torch.arange(60.0))
    before = gaussians.mean[59].detach().clone()
    scale = gaussians.log_scale[59].exp().max().item()
    changed = gaussians.refine(1, 0.5, seeded(3))
    assert 59 in changed.tolist() and len(changed) == 12
    moved = (gaussians.mean[59] - before).norm().item()
    assert 0 < moved < 5 * scale
    assert gaussians.log_scale[59].exp().max().item() == pytest.approx(scale / 1.6)


def test_there_are_never_more_than_fit():
    gaussians = small(count=95, control={"share": 1.0, "split_above": 10.0})
    for step in range(1, 4):
        observe(gaussians, torch.ones(int(gaussians.alive.sum())))
        gaussians.refine(step, 0.5, seeded(step))
    assert gaussians.alive.sum() == 100


def test_faint_and_huge_gaussians_die_but_never_the_last():
    gaussians = small(control={"name": "prune"})
    with torch.no_grad():
        gaussians.opacity_logit[:10] = -8
        gaussians.log_scale[10:15] = 0.0
    assert len(gaussians.refine(1, 0.5, seeded())) == 0
    assert gaussians.alive.nonzero()[:, 0].tolist() == list(range(15, 60))
    with torch.no_grad():
        gaussians.opacity_logit.fill_(-8)
    gaussians.refine(2, 0.5, seeded())
    assert gaussians.alive.sum() == 1
    kept = small(control={"name": "none"})
    with torch.no_grad():
        kept.opacity_logit.fill_(-8)
    kept.refine(1, 0.5, seeded())
    assert kept.alive.sum() == 60


@pytest.mark.parametrize("copies", [2, 3, MAX_COPIES])
def test_copies_look_as_one_did(copies):
    """Blended front to back at their common mean, and summed over a line through it."""
    o = torch.tensor([0.7])
    new, shrink = share_out(o, torch.tensor([copies]))
    assert (1 - (1 - new) ** copies).item() == pytest.approx(0.7, rel=1e-5)
    x = torch.linspace(-8, 8, 4001)
    one = (o * torch.exp(-0.5 * x**2)).sum()
    alpha = new * torch.exp(-0.5 * (x / shrink) ** 2)
    many = (1 - (1 - alpha) ** copies).sum()
    assert (many / one).item() == pytest.approx(1, abs=0.01)


def test_relocation_brings_dead_gaussians_to_opaque_ones():
    gaussians = small(control={"name": "relocate", "share": 0.3})
    with torch.no_grad():
        gaussians.opacity_logit[:40] = -3.0  # faint, but not dead
        gaussians.opacity_logit[40:60] = 2.0
    changed = gaussians.refine(1, 0.5, seeded(5))
    assert gaussians.alive.sum() == 78
    newcomers = range(60, 78)
    assert set(newcomers) <= set(changed.tolist())
    near_opaque = [
        any(torch.equal(gaussians.mean[i], gaussians.mean[j]) for j in range(40, 60))
        for i in newcomers
    ]
    assert sum(near_opaque) > 14


def test_rounds_come_when_they_are_due():
    control = Control(begin=0.2, end=0.6, every=10, share=0.5, split_above=10.0)
    gaussians = build(Config(count=10, max_count=50, control=control), seeded())
    grown = []
    for step in range(0, 100, 5):
        observe(gaussians, torch.ones(int(gaussians.alive.sum())))
        if len(gaussians.refine(step, step / 100, seeded())):
            grown.append(step)
    assert grown == [20, 30, 40, 50, 60][: len(grown)] and len(grown) >= 3


@pytest.mark.parametrize("name", ["grow", "relocate"])
@pytest.mark.parametrize("prune_until", [0.0, 0.8])
def test_a_last_phase_prunes_alone(name, prune_until):
    control = Control(
        name=name, begin=0.0, end=0.4, prune_until=prune_until, every=1, split_above=10.0
    )
    gaussians = build(Config(count=50, max_count=100, opacity=0.9, control=control), seeded())
    counts = []
    for step in range(1, 11):
        with torch.no_grad():  # one more is faint in every step
            gaussians.opacity_logit[torch.nonzero(gaussians.alive)[0]] = -8
        observe(gaussians, torch.ones(int(gaussians.alive.sum())))
        gaussians.refine(step, step / 10, seeded(step))
        counts.append(int(gaussians.alive.sum()))
    assert counts[3] > 60
    last = [counts[3] - i for i in (1, 2, 3, 4)] if prune_until else [counts[3]] * 4
    assert counts[4:8] == last and counts[8:] == [counts[7]] * 2


def test_a_saved_state_goes_on_as_the_first():
    first, second = small(), small()
    observe(first, torch.rand(60, generator=seeded(1)))
    second.load_state_dict(first.state_dict())
    for gaussians in (first, second):
        gaussians.refine(1, 0.5, seeded(4))
    assert torch.equal(first.alive, second.alive)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_needles_are_anisotropic_and_discs_are_not():
    gaussians = small()
    with torch.no_grad():
        gaussians.log_scale.copy_(torch.tensor([0.0, 0.0, -3.0]))
    assert gaussians.regularisers()["anisotropy"].item() == 0
    with torch.no_grad():
        gaussians.log_scale.copy_(torch.tensor([0.0, -3.0, -3.0]))
    assert gaussians.regularisers()["anisotropy"].item() == pytest.approx(3)
    assert gaussians.regularisers()["opacity_mean"].item() == pytest.approx(0.1)
    expected = (1 + 2 * math.exp(-3)) / 3
    assert gaussians.regularisers()["scale_mean"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 0},
        {"count": 20, "max_count": 10},
        {"radius": 2.0},
        {"opacity": 1.0},
        {"color_degree": 4},
        {"all_degrees_at": 1.5},
    ],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)


@pytest.mark.parametrize(
    "settings", [{"every": 0}, {"begin": 0.9, "end": 0.1}, {"share": 0.0}, {"prune_until": 1.5}]
)
def test_wrong_control_is_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Control(**settings)
