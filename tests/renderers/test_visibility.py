"""Claims about which samples are worth an evaluation."""

import torch

from dreamlab.ops.volume.composite import composite
from dreamlab.ops.volume.march import Samples
from dreamlab.renderers.visibility import OPAQUE_DEPTH, one_empty_sample, optical_depth_before


def packed(counts: list[int], step: float = 0.1) -> Samples:
    """Return samples of equal length; ray r has counts[r] of them."""
    index = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    rank = torch.cat([torch.arange(count) for count in counts])
    offsets = torch.tensor([0, *counts]).cumsum(0)
    start = 1 + rank * step
    return Samples(index.int(), start, start + step, offsets.int())


def test_optical_depth_starts_at_zero_on_every_ray_and_adds_up():
    samples = packed([3, 0, 2])
    density = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    expected = torch.tensor([0.0, 0.1, 0.3, 0.0, 0.8])
    assert torch.allclose(optical_depth_before(density, samples), expected, atol=1e-6)


def test_optical_depth_keeps_its_precision_behind_many_dense_samples():
    samples = packed([200_000, 2])
    density = torch.full((200_002,), 1000.0)
    density[-2:] = 1e-3
    assert torch.allclose(optical_depth_before(density, samples)[-1], torch.tensor(1e-4))


def test_samples_behind_the_opaque_depth_have_no_weight():
    samples = packed([60, 40])
    density = 40 * torch.rand(100, generator=torch.Generator().manual_seed(0))
    visible = optical_depth_before(density, samples) < OPAQUE_DEPTH
    weights = composite(density, torch.zeros(100, 1), samples).weights
    assert 0 < int((~visible).sum()) < 100
    assert not weights[~visible].any()
    kept = samples.keep(visible)
    again = composite(density[visible], torch.zeros(int(visible.sum()), 1), kept).weights
    assert torch.allclose(again, weights[visible], atol=1e-6)


def test_one_empty_sample_weighs_nothing_and_keeps_the_graph():
    samples = one_empty_sample(packed([0, 0, 0]))
    density = torch.tensor([5.0], requires_grad=True)
    image = composite(density, torch.ones(1, 3), samples)
    assert image.features.shape == (3, 3)
    assert not image.features.any()
    image.alpha.sum().backward()
    assert density.grad == 0
