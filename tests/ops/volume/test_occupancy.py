"""Occupancy grid: it finds what is there, forgets what is gone, and visits cells fairly."""

import pytest
import torch

from dreamlab.core.errors import InputError
from dreamlab.core.seeds import generator
from dreamlab.ops.volume.occupancy import OccupancyGrid

STEP = 0.02


def ball_density(radius=0.5, value=20.0):
    return lambda points: value * (points.norm(dim=-1) < radius).float()


def centres(grid):
    cells = torch.arange(grid.resolution**3)
    return grid.points_in(cells, torch.full((len(cells), 3), 0.5))


def test_everything_counts_as_occupied_before_the_first_update():
    assert OccupancyGrid(8).binary.all()


def test_points_lie_in_their_cells():
    grid = OccupancyGrid(6, half_extent=1.5)
    cells = torch.arange(6**3)
    place = torch.rand(len(cells), 3, generator=generator(0))
    index = ((grid.points_in(cells, place) + 1.5) / 0.5).floor().long()
    assert torch.equal((index[:, 0] * 6 + index[:, 1]) * 6 + index[:, 2], cells)


@pytest.mark.parametrize("half_extent", [1.0, 2.0])
def test_it_finds_a_ball(half_extent):
    grid = OccupancyGrid(32, half_extent)
    radius = 0.5 * half_extent
    for step in range(3):
        grid.update(
            ball_density(radius), step_size=STEP, warm_up=True, generator=generator(0, step)
        )
    distance = centres(grid).norm(dim=-1).view_as(grid.binary)
    diagonal = 3**0.5 * half_extent / 32
    assert grid.binary[distance < radius - diagonal].all()
    assert not grid.binary[distance > radius + diagonal].any()


def test_it_forgets_a_ball_that_was_removed():
    grid = OccupancyGrid(16)
    grid.update(ball_density(), step_size=STEP, warm_up=True, generator=generator(0))
    assert grid.binary.any()
    updates = 0
    while grid.binary.any() and updates < 200:
        grid.update(ball_density(value=0.0), step_size=STEP, warm_up=True, generator=generator(1))
        updates += 1
        if updates == 5:
            assert grid.binary.any(), "one update must not forget everything"
    # The mean falls with the cells, so they stay above it; rounding to 0 ends it in the product.
    assert grid.occupancy.max() <= 20.0 * STEP * 0.95**updates * 1.001


def test_a_removed_ball_is_forgotten_beside_one_that_stays():
    grid = OccupancyGrid(16)

    def balls(points, also_left):
        right = (points - torch.tensor([0.5, 0, 0])).norm(dim=-1) < 0.35
        left = (points + torch.tensor([0.5, 0, 0])).norm(dim=-1) < 0.35
        return 50.0 * (right | (left & also_left)).float()

    grid.update(lambda p: balls(p, True), step_size=STEP, warm_up=True, generator=generator(0))
    assert grid.binary[:7].any() and grid.binary[9:].any()
    for step in range(100):
        grid.update(
            lambda p: balls(p, False), step_size=STEP, warm_up=True, generator=generator(1, step)
        )
    assert not grid.binary[:7].any() and grid.binary[9:].any()


def test_a_ball_that_appears_after_warm_up_is_found():
    grid = OccupancyGrid(16)
    grid.update(ball_density(value=0.0), step_size=STEP, warm_up=True, generator=generator(0))
    assert not grid.binary.any()
    for step in range(40):
        grid.update(ball_density(), step_size=STEP, warm_up=False, generator=generator(1, step))
    inside = centres(grid).norm(dim=-1).view_as(grid.binary) < 0.35
    assert grid.binary[inside].float().mean() > 0.99


def test_thin_density_is_kept_if_it_is_above_the_mean():
    grid = OccupancyGrid(8)

    def faint(points):
        return 0.01 * (points[:, 0] > 0).float()

    grid.update(faint, step_size=STEP, warm_up=True, generator=generator(0))
    assert grid.binary[4:].all() and not grid.binary[:4].any()


def test_after_warm_up_a_quarter_of_the_cells_and_the_occupied_ones_are_visited():
    grid = OccupancyGrid(16)
    grid.update(ball_density(0.3), step_size=STEP, warm_up=True, generator=generator(0))
    num_occupied = int(grid.binary.sum())
    asked = []

    def density(points):
        asked.append(points)
        return torch.zeros(len(points))

    grid.update(density, step_size=STEP, warm_up=False, generator=generator(1))
    assert len(asked[0]) == 16**3 // 4 + num_occupied


def test_every_cell_is_visited_equally_often():
    grid = OccupancyGrid(8)
    grid.binary.zero_()
    visits = torch.zeros(512)

    def density(points):
        index = ((points + 1) * 4).floor().long().clamp(0, 7)
        visits.index_add_(
            0, (index[:, 0] * 8 + index[:, 1]) * 8 + index[:, 2], torch.ones(len(points))
        )
        return torch.zeros(len(points))

    draw = generator(0)
    for _ in range(400):
        grid.update(density, step_size=STEP, warm_up=False, generator=draw)
    # 100 visits are expected in each cell; the squared deviations follow a chi-squared law.
    chi_squared = ((visits - 100) ** 2 / 100).sum().item()
    assert 511 - 5 * (2 * 511) ** 0.5 < chi_squared < 511 + 5 * (2 * 511) ** 0.5


def test_a_cell_drawn_twice_decays_once_and_keeps_its_largest_density():
    grid = OccupancyGrid(1)
    grid.occupancy.fill_(1.0)
    values = torch.tensor([3.0, 7.0])

    def density(points):
        return values[: len(points)]

    # One uniform draw and the one occupied cell: the same cell twice.
    grid.update(density, step_size=0.5, warm_up=False, generator=generator(0))
    assert grid.occupancy.item() == pytest.approx(3.5)
    values = torch.zeros(2)
    grid.binary.fill_(True)
    grid.update(density, step_size=0.5, warm_up=False, generator=generator(0))
    assert grid.occupancy.item() == pytest.approx(3.5 * 0.95)


def test_state_survives_saving():
    grid = OccupancyGrid(8)
    grid.update(ball_density(), step_size=STEP, warm_up=True, generator=generator(0))
    other = OccupancyGrid(8)
    other.load_state_dict(grid.state_dict())
    assert torch.equal(other.binary, grid.binary)
    assert torch.equal(other.occupancy, grid.occupancy)


@pytest.mark.parametrize(("resolution", "half_extent"), [(0, 1.0), (8, 0.0), (8, float("nan"))])
def test_impossible_sizes_are_refused(resolution, half_extent):
    with pytest.raises(InputError, match="resolution >= 1"):
        OccupancyGrid(resolution, half_extent)
