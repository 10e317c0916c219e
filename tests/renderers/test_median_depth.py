"""Median depth: on what is met, by its definition, for samples and for Gaussians."""

import pytest
import torch

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.protocols import Splats, TellsMedianDepth
from dreamlab.ops.volume.march import Samples
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.median_depth import depth_bins, median_of_bins, median_of_samples
from dreamlab.renderers.shading import unlit
from dreamlab.renderers.splat import Config as SplatConfig
from dreamlab.renderers.splat import SplatRenderer
from dreamlab.renderers.volume import Config as VolumeConfig
from dreamlab.renderers.volume import VolumeRenderer

SOLID = BackgroundConfig(name="solid")


def packed(counts):
    """Samples of rays with these numbers of them, each as long as its number in the ray."""
    ray = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).int()
    ends = torch.cat([torch.arange(1.0, n + 1).cumsum(0) for n in counts])
    lengths = torch.cat([torch.arange(1.0, n + 1) for n in counts])
    offsets = torch.tensor([0, *counts]).cumsum(0).int()
    return Samples(ray, ends - lengths, ends, offsets)


def test_half_of_the_weight_lies_before_the_median():
    samples = packed([4, 0, 3, 1, 2])
    weights = torch.tensor([0.1, 0.1, 0.6, 0.0, 0.0, 0.2, 0.2, 0.0, 0.3, 0.3])
    # the third of four samples goes from 3 to 6, and a third of it is missing to one half
    expected = torch.tensor([3 + 3 * 0.2 / 0.6, 0.0, 3.0, 0.0, 1.0])
    torch.testing.assert_close(median_of_samples(weights, samples), expected)


@pytest.mark.parametrize("seed", range(3))
def test_bins_tell_the_median_within_their_width(seed):
    draw = torch.Generator().manual_seed(seed)
    distance = 2 + torch.rand(1, 200, generator=draw)
    weight = torch.rand(200, generator=draw) / 150
    bins = depth_bins(distance, torch.ones(1, 200, dtype=torch.bool))
    picture = (weight[:, None] * bins[0]).sum(dim=0)[None, None, None]
    found = median_of_bins(picture, weight.sum().reshape(1, 1, 1, 1)).item()
    order = distance[0].argsort()
    reached = weight[order].cumsum(0) >= weight.sum() / 2
    exact = distance[0, order][reached][0].item()
    assert found == pytest.approx(exact, abs=1.1 / 48)


class TwoWalls:
    """A thin veil of Gaussians before an opaque wall of them, both across the whole picture."""

    def splats(self):
        axis = torch.linspace(-0.5, 0.5, 9)
        sheet = torch.cartesian_prod(axis, axis)
        veil, wall = (torch.cat([torch.full((81, 1), x), sheet], dim=1) for x in (0.6, -0.25))
        flat = torch.tensor([0.005, 0.12, 0.12])
        return Splats(
            torch.cat([veil, wall]),
            torch.tensor([[1.0, 0, 0, 0]]).expand(162, 4),
            flat.expand(162, 3),
            torch.cat([torch.full((81,), 0.06), torch.full((81,), 0.9)]),
            torch.full((162, 3), 0.5),
        )

    def observe(self, gradient, seen): ...


class Fog:
    """A veil of density before a wall, cut where cells of occupancy are; satisfies `Field`."""

    half_extent = 1.0

    def density(self, points):
        x = points[:, 0]
        return 1.5 * ((x > 0.375) & (x < 0.625)) + 80.0 * (x < -0.25)

    def density_and_color(self, points):
        return self.density(points), torch.full_like(points, 0.5)

    def normal(self, points):
        return torch.nn.functional.normalize(points, dim=-1)


def renderer_of(kind):
    if kind == "splat":
        return SplatRenderer(SplatConfig(background=SOLID), TwoWalls())
    config = VolumeConfig(background=SOLID, steps_per_diagonal=300, occupancy_resolution=16)
    made = VolumeRenderer(config, Fog())
    made.update(0, 0.0, torch.Generator().manual_seed(0))
    return made


@pytest.mark.parametrize("kind", ["splat", "volume"])
def test_behind_a_veil_the_mean_lies_on_nothing_and_the_median_on_the_wall(kind):
    cameras = turntable_cameras(1, elevation=0.0, distance=3.0, fov_y=12.0)
    made = renderer_of(kind)
    assert isinstance(made, TellsMedianDepth)
    seen = made(cameras, 8, 8, shading=unlit(cameras), training=False)
    median = made.median_depth(cameras, 8, 8)
    assert seen.alpha.min() > 0.95
    along = 3.25 / -(cameras.rays(8, 8)[1][..., :1])  # to the plane of the wall
    assert (median - along).abs().max() < 0.04
    assert (seen.depth / seen.alpha - along).abs().min() > 0.1


@pytest.mark.parametrize("kind", ["splat", "volume"])
def test_what_meets_nothing_has_no_depth(kind):
    cameras = turntable_cameras(1, elevation=0.0, distance=3.0, fov_y=120.0)
    median = renderer_of(kind).median_depth(cameras, 9, 9)
    assert median[0, 0, 0] == 0 and median[0, 4, 4] > 0
