"""Claims about the geometry of boxes: a partition of space, exact distances, gradients."""

import pytest
import torch

from dreamlab.core.layout import Box, Layout
from dreamlab.core.regions import SOFTNESS, Regions, turned

LAYOUT = Layout(
    (
        Box("a", (0.0, -0.5, 0.0), (0.6, 0.4, 0.8)),
        Box("b", (0.1, 0.3, 0.1), (0.5, 0.3, 0.4), yaw=30.0),
        Box("c", (0.2, 0.3, 0.3), (0.4, 0.4, 0.4), yaw=-75.0),
    )
)


def points(count: int = 500, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_distances_are_those_to_the_nearest_of_many_points_of_the_box():
    regions, x = Regions.of(LAYOUT), points(12)
    found = regions.distances(x)
    for k in range(3):
        half, center = regions.half_sizes[k], regions.centers[k]
        axes = [torch.linspace(-float(h), float(h), 41) for h in half]
        filled = turned(torch.cartesian_prod(*axes), regions.yaw[k]) + center
        nearest = torch.cdist(x, filled).amin(dim=1)
        outside = found[:, k] > 0
        assert outside.any()
        torch.testing.assert_close(found[outside, k], nearest[outside], atol=0.02, rtol=0)
        depth = (half - (regions.to_local(x)[:, k]).abs()).amin(dim=1)
        torch.testing.assert_close(found[~outside, k], -depth[~outside])


def test_labels_part_space_and_points_belong_to_the_box_they_are_in():
    regions, x = Regions.of(LAYOUT), points()
    labels = regions.labels(x)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(len(x)))
    assert (labels[regions.distances(x)[:, 0] < -0.05][:, 0] > 0.99).all()
    deeper = regions.distances(x).argmin(dim=1)
    sure = regions.distances(x).sort(dim=1).values.diff(dim=1)[:, 0] > 5 * SOFTNESS
    assert torch.equal(labels.argmax(dim=1)[sure], deeper[sure])


def test_labels_do_not_depend_on_the_company_of_a_point():
    regions, x = Regions.of(LAYOUT), points(9)
    alone = torch.cat([regions.labels(row[None]) for row in x])
    torch.testing.assert_close(alone, regions.labels(x))


def test_hidden_objects_have_no_share_and_presences_of_all_subsets_add_up():
    regions, x = Regions.of(LAYOUT), points()
    pair = regions.only([2, 0])
    assert pair.shown == (0, 2) and not pair.is_whole and regions.is_whole
    labels = pair.labels(x)
    assert (labels[:, 1] == 0).all()
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(len(x)))
    parts = [regions.only([k]).presence(x) for k in range(3)]
    torch.testing.assert_close(sum(parts), torch.ones(len(x)))
    torch.testing.assert_close(regions.only([0, 2]).presence(x), parts[0] + parts[2])
    drawn = sum(regions.only([k]).is_drawn(x).long() for k in range(3))
    assert (torch.as_tensor(drawn) == 1).all()


def test_excess_is_zero_in_the_boxes_and_leads_back_to_them():
    regions = Regions.of(LAYOUT)
    x = points().requires_grad_()
    excess = regions.excess(x)
    (slope,) = torch.autograd.grad(excess.sum(), x)
    inside = (regions.distances(x) <= 0).any(dim=1)
    assert inside.any() and (excess[inside] == 0).all() and (excess[~inside] > 0).all()
    assert (slope[inside] == 0).all()
    torch.testing.assert_close(slope[~inside].norm(dim=1), torch.ones(int((~inside).sum())))
    back = regions.excess(x - 1.001 * excess * slope)
    assert back.max() < 1e-3


def test_gradients_of_distances_and_excess_are_right():
    found = Regions.of(LAYOUT)
    regions = Regions(
        found.centers.double(), found.half_sizes.double(), found.yaw.double(), found.shown
    )
    x = points(30).double().requires_grad_()
    assert torch.autograd.gradcheck(regions.distances, x)
    assert torch.autograd.gradcheck(regions.excess, x)


@pytest.mark.parametrize("angle", [0.0, 90.0, 37.0])
def test_turning_back_undoes_turning(angle: float):
    x, psi = points(5), torch.tensor(angle)
    torch.testing.assert_close(turned(turned(x, psi), -psi), x)
    if angle == 90.0:
        east = turned(torch.tensor([1.0, 0.0, 0.0]), psi)
        torch.testing.assert_close(east, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
