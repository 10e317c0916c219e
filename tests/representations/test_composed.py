"""Claims about objects that each have a representation of their own, put together in the world."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dreamlab.core.config import build
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.core.protocols import (
    Composed,
    ComposedField,
    ComposedShape,
    Field,
    HasMaterial,
    Representation,
    Shape,
    Splatted,
    Volume,
)
from dreamlab.core.regions import OBJECT, Regions
from dreamlab.ops.splat.project import rotation_matrices
from dreamlab.representations import dmtet, gaussians, hashgrid, image
from dreamlab.representations.composed import ComposedFields, compose

GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 32}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "hashgrid": (hashgrid, {"grid": GRID, "hidden_width": 16}),
    "dmtet": (dmtet, {"resolution": 8, "grid": GRID}),
    "gaussians": (gaussians, {"count": 60, "max_count": 90, "opacity": 0.5}),
}
LAYOUT = Layout(
    (
        Box("left", (0.0, -0.2, 0.1), (0.6, 0.9, 0.5), yaw=25.0),
        Box("right", (0.1, 0.25, -0.1), (0.7, 0.5, 0.8), yaw=-70.0),
    )
)
REGIONS = Regions.of(LAYOUT)
POINTS = 1.6 * torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) - 0.8
every_kind = pytest.mark.parametrize("name", KINDS)


def composed(name: str, **changes: Any) -> Any:
    module, settings = KINDS[name]
    draw = torch.Generator().manual_seed(3)
    config = build(module.Config, settings | changes)
    return compose([module.build(config, draw) for _ in LAYOUT.boxes], REGIONS)


class Puff(nn.Module):
    """A field of known formulas: peak exp(-|u|^2), colours that follow u."""

    half_extent = 1.0

    def __init__(self, peak: float, blue: float) -> None:
        super().__init__()
        self.peak = nn.Parameter(torch.tensor(peak))
        self.blue = nn.Parameter(torch.tensor(blue))

    def density(self, points: Tensor) -> Tensor:
        return self.peak * torch.exp(-points.square().sum(dim=-1))

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        color = torch.stack([(points[:, 0] + 1) / 2, (points[:, 1] + 1) / 2], dim=1)
        blue = self.blue.expand(len(points), 1)
        return self.density(points), torch.cat([color, blue], dim=1)

    def normal(self, points: Tensor) -> Tensor:
        return torch.nn.functional.normalize(points, dim=-1)


def puffs() -> tuple[ComposedFields, list[Puff]]:
    children = [Puff(3.0, 0.2), Puff(8.0, 0.7)]
    return ComposedFields(children, REGIONS), children


def local(point: Tensor, box: Box) -> tuple[Tensor, float]:
    """The point in the frame of a box, written out, and the scale of the frame."""
    scale = max(box.size) / 2 / OBJECT
    x, y, z = ((a - b) / scale for a, b in zip(point.tolist(), box.center, strict=True))
    cos, sin = math.cos(math.radians(box.yaw)), math.sin(math.radians(box.yaw))
    return torch.tensor([cos * x + sin * y, -sin * x + cos * y, z]), scale


def test_frames_are_similar_to_the_world_and_hold_their_box():
    for frame, box in zip(REGIONS.frames(), LAYOUT.boxes, strict=True):
        torch.testing.assert_close(frame.to_local(frame.to_world(POINTS)), POINTS)
        expected = torch.stack([local(point, box)[0] for point in POINTS[:50]])
        torch.testing.assert_close(frame.to_local(POINTS[:50]), expected)
        corners = frame.to_local(torch.tensor(box.corners()))
        torch.testing.assert_close(corners.abs().amax(), torch.tensor(OBJECT))
        assert frame.box.distances(corners).abs().max() < 1e-6
        world = frame.turn(POINTS) * frame.scale + frame.center
        torch.testing.assert_close(world, frame.to_world(POINTS))


def test_densities_add_and_colours_mix_by_density():
    field, children = puffs()
    density, color, shares = field.of_objects(POINTS)
    total, mixed = torch.zeros(len(POINTS)), torch.zeros(len(POINTS), 3)
    for k, (child, box) in enumerate(zip(children, LAYOUT.boxes, strict=True)):
        for row, point in enumerate(POINTS):
            u, scale = local(point, box)
            if u.abs().max() > 1:
                continue
            own = float(child.peak.detach()) * math.exp(-float(u.square().sum())) / scale
            paint = torch.tensor([(u[0] + 1) / 2, (u[1] + 1) / 2, child.blue.detach()])
            total[row] += own
            mixed[row] += own * paint
            torch.testing.assert_close(
                shares[row, k] * density[row], torch.tensor(own), rtol=1e-4, atol=1e-5
            )
    torch.testing.assert_close(density, total, rtol=1e-4, atol=1e-5)
    seen = total > 1e-3
    assert 100 < seen.sum() < len(seen), "some points are in no cube"
    torch.testing.assert_close(color[seen], mixed[seen] / total[seen, None], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shares[seen].sum(dim=1), torch.ones(int(seen.sum())))
    torch.testing.assert_close(field.density(POINTS), density)
    for one, other in zip(field.density_and_color(POINTS), (density, color), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(field.color_at(POINTS), color)


def test_normals_are_those_of_the_density():
    """Both puffs are balls in similar frames, whose gradients add with their scales."""
    field, _ = puffs()
    alone = field.only([0])
    points = POINTS[alone.density(POINTS) > 0].requires_grad_()
    (slope,) = torch.autograd.grad(alone.density(points).sum(), points)
    expected = -torch.nn.functional.normalize(slope, dim=-1)
    torch.testing.assert_close(alone.normal(points), expected, rtol=1e-4, atol=1e-4)
    both = field.normal(POINTS)
    assert ((both.norm(dim=1) - 1).abs() < 1e-4).logical_or(both.norm(dim=1) == 0).all()


def test_a_gradient_reaches_only_the_child_that_owns_the_point():
    field, children = puffs()
    frames = REGIONS.frames()
    in_one = frames[0].to_world(torch.tensor([[0.0, -0.9, 0.0], [0.1, -0.7, 0.3]]))
    assert (frames[1].to_local(in_one).abs() > 1).any(dim=1).all()
    density, color = field.density_and_color(in_one)
    (density.sum() + color.sum()).backward()
    assert children[0].peak.grad is not None and children[0].peak.grad > 0
    for parameter in children[1].parameters():
        assert parameter.grad is None or (parameter.grad == 0).all()
    assert children[0].blue.grad is not None
    torch.testing.assert_close(children[0].blue.grad, torch.tensor(2.0))


def test_excess_thins_what_lies_outside_of_its_own_box_and_no_other():
    """In the box of one, the other's density is too much, and the first one's is not."""
    field, children = puffs()
    distances, shares = REGIONS.distances(POINTS), field.of_objects(POINTS)[2]
    is_mixed = (distances[:, 0] < 0) & (distances[:, 1] > 0.02) & (shares > 0.05).all(dim=1)
    assert is_mixed.any()
    density, _, shares = field.of_objects(POINTS[is_mixed])
    marks = REGIONS.marks(POINTS[is_mixed], shares)
    expected = shares.detach()[:, 1] * distances[is_mixed, 1]
    torch.testing.assert_close(marks["excess"][:, 0].detach(), expected)
    assert not marks["regions"].requires_grad
    (density * marks["excess"][:, 0]).sum().backward()
    first, second = children[0].peak.grad, children[1].peak.grad
    assert first is not None and second is not None
    assert second > 1e-3 and abs(first) < 1e-5


@every_kind
def test_each_kind_satisfies_the_protocols_of_one_and_of_several(name: str):
    scene = composed(name)
    assert isinstance(scene, Composed) and isinstance(scene, Representation)
    assert not isinstance(scene, Volume), "surfaces are those of the objects"
    kind = {"hashgrid": Field, "dmtet": Shape, "gaussians": Splatted}[name]
    assert [isinstance(scene, each) for each in (Field, Shape, Splatted)] == [
        kind is each for each in (Field, Shape, Splatted)
    ]
    assert isinstance(scene, ComposedField) == (name == "hashgrid")
    assert isinstance(scene, ComposedShape) == (name == "dmtet")
    assert isinstance(scene.only([1]), type(scene))
    colors = scene.color_at(POINTS)
    assert colors.shape == POINTS.shape and colors.min() >= 0 and colors.max() <= 1


@every_kind
def test_the_state_is_that_of_the_objects_and_is_restored_exactly(name: str):
    first, second = composed(name), composed(name)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    first.set_progress(0.25)
    second.load_state_dict(first.state_dict())
    assert all(n.startswith(("objects.0.", "objects.1.")) for n in first.state_dict())
    assert torch.equal(first.color_at(POINTS), second.color_at(POINTS))
    groups = first.parameter_groups()
    assert groups.keys() == first.objects[0].parameter_groups().keys()
    assert {id(p) for group in groups.values() for p in group} == {
        id(p) for p in first.parameters()
    }


@every_kind
def test_what_is_not_shown_takes_no_gradient_and_counts_for_nothing(name: str):
    scene = composed(name)
    alone = scene.only([1])
    if name == "hashgrid":
        density, color, shares = alone.of_objects(POINTS)
        assert (shares[:, 0] == 0).all() and (shares[:, 1] > 0.99).any()
        loss = density.sum() + color.sum()
    elif name == "dmtet":
        mesh, both = alone.triangles(), scene.triangles()
        assert mesh.owner is not None and (mesh.owner == 1).all()
        assert both.owner is not None and len(both.tri) > len(mesh.tri) > 0
        loss = mesh.vertices.square().sum() + alone.regularisers()["laplacian"]
    else:
        splats = alone.splats()
        assert splats.owner is not None and (splats.owner == 1).all()
        loss = splats.means.square().sum() + alone.regularisers()["opacity_mean"]
    loss.backward()
    assert all(p.grad is None for p in scene.objects[0].parameters())
    assert any(p.grad is not None and p.grad.any() for p in scene.objects[1].parameters())


@pytest.mark.parametrize("name", ["dmtet", "gaussians"])
def test_regularisers_are_means_over_the_objects_shown(name: str):
    scene = composed(name)
    with torch.no_grad():
        for parameter in scene.objects[1].parameters():
            parameter.mul_(0.9)
    own = [child.regularisers() for child in scene.objects]
    for key, value in scene.regularisers().items():
        torch.testing.assert_close(value, (own[0][key] + own[1][key]) / 2)
        torch.testing.assert_close(scene.only([1]).regularisers()[key], own[1][key])


def test_meshes_are_placed_and_their_triangles_know_their_object():
    scene = composed("dmtet")
    mesh = scene.triangles()
    assert mesh.owner is not None
    for k, frame in enumerate(REGIONS.frames()):
        own = scene.objects[k].triangles()
        mine = mesh.tri[mesh.owner == k]
        corners = frame.to_world(own.vertices)[own.tri]
        torch.testing.assert_close(mesh.vertices[mine], corners)
        # the body fills what a single one does of its cube: 0.5 of 0.8
        inside = frame.box.distances(own.vertices.detach())[:, 0]
        assert (inside < 0).all()


def test_points_of_crossing_surfaces_have_the_colours_of_their_own_object():
    scene = composed("dmtet", material={"bump": 0.5})
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in scene.parameters():
            if parameter.dim() == 2 and parameter.shape[1] != 3:
                parameter.copy_(torch.randn(parameter.shape, generator=draw))
    assert isinstance(scene, HasMaterial) and scene.has_material
    points = POINTS[:40]
    owner = torch.arange(40) % 2
    paint = scene.painted_by(owner)
    albedo, material = paint.albedo(points), paint.material(points)
    torch.testing.assert_close(material.albedo, albedo)
    assert material.bump is not None
    for k, frame in enumerate(REGIONS.frames()):
        rows = owner == k
        own = scene.objects[k].material(frame.to_local(points[rows]))
        assert own.bump is not None and own.bump.abs().max() > 0.01
        torch.testing.assert_close(albedo[rows], own.albedo)
        torch.testing.assert_close(material.metallic[rows], own.metallic)
        torch.testing.assert_close(material.roughness[rows], own.roughness)
        torch.testing.assert_close(material.bump[rows], frame.turn(own.bump))
    swapped = scene.painted_by(1 - owner).albedo(points)
    assert (swapped - albedo).abs().max() > 0.05


def test_gaussians_are_turned_and_scaled_as_their_frames_are():
    """Covariances, which do not depend on the sign of quaternions, are s^2 R C R^T."""

    def covariance(splats: Any) -> Tensor:
        axes = rotation_matrices(splats.quaternions) * splats.scales[:, None]
        return axes @ axes.transpose(1, 2)

    scene = composed("gaussians")
    with torch.no_grad():
        for child in scene.objects:
            child.log_scale += torch.tensor([0.5, 0.0, -0.5])
    splats = scene.splats()
    assert splats.owner is not None
    for k, (frame, box) in enumerate(zip(REGIONS.frames(), LAYOUT.boxes, strict=True)):
        own, rows = scene.objects[k].splats(), splats.owner == k
        cos, sin = math.cos(math.radians(box.yaw)), math.sin(math.radians(box.yaw))
        turn = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        expected = frame.scale**2 * turn @ covariance(own) @ turn.T
        torch.testing.assert_close(covariance(splats)[rows], expected, rtol=1e-4, atol=1e-7)
        assert (REGIONS.distances(splats.means[rows].detach())[:, k] < 0).all()


def test_each_object_takes_note_of_its_own_gaussians():
    scene = composed("gaussians")
    count = len(scene.splats().means)
    scene.observe(torch.arange(count) + 1.0, torch.ones(count, dtype=torch.bool))
    sums = [child.control.gradient_sum for child in scene.objects]
    assert torch.equal(torch.cat([own[:60] for own in sums]), torch.arange(count) + 1.0)
    alone = scene.only([1])
    alone.splats()
    alone.observe(torch.ones(60), torch.ones(60, dtype=torch.bool))
    assert torch.equal(sums[0][:60], torch.arange(60) + 1.0)
    assert torch.equal(sums[1][:60], torch.arange(60) + 62.0)


def test_what_cannot_be_put_together_is_refused():
    pictures = [image.build(image.Config(size=8)) for _ in LAYOUT.boxes]
    with pytest.raises(InputError, match=r"cannot be a .* for each object"):
        compose(pictures, REGIONS)
    with pytest.raises(InputError, match=r"half_extent is 0\.7"):
        composed("hashgrid", half_extent=0.7)


def test_where_no_cube_is_there_is_nothing():
    scene = composed("hashgrid")
    density, color, shares = scene.of_objects(torch.full((4, 3), 0.99))
    assert not density.any() and not color.any() and not shares.any()
    (density.sum() + color.sum()).backward()
    assert not any(p.grad is not None and p.grad.any() for p in scene.parameters())
