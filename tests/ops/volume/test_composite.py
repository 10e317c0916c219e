"""Compositing: physical properties, and that fast and reference are the same function."""

import math

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends

from dreamlab.core.errors import InputError
from dreamlab.ops.volume.composite import composite
from dreamlab.ops.volume.march import Samples

BACKENDS = ["reference", "warp"]
OUTPUTS = ("features", "alpha", "depth", "weights")


def packed(counts, dtype=torch.float32, device="cpu", seed=0):
    """Samples with given numbers per ray and uneven interval lengths and gaps."""
    draw = torch.Generator().manual_seed(seed)
    counts = torch.tensor(counts, dtype=torch.int64)
    total = int(counts.sum())
    ray_index = torch.repeat_interleave(torch.arange(len(counts)), counts).int()
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).int()
    length = 0.05 + 0.1 * torch.rand(total, generator=draw, dtype=dtype)
    ends = 1 + (length + 0.02).cumsum(0)
    parts = (ray_index, ends - length, ends, offsets)
    return Samples(*(part.to(device) for part in parts))


def example(samples, channels=5, density_scale=6.0, seed=1):
    draw = torch.Generator().manual_seed(seed)
    dtype, device = samples.t_start.dtype, samples.t_start.device
    density = torch.rand(len(samples), generator=draw, dtype=dtype) * density_scale
    features = torch.randn(len(samples), channels, generator=draw, dtype=dtype)
    return density.to(device).requires_grad_(), features.to(device).requires_grad_()


def outputs(result):
    return [getattr(result, name) for name in OUTPUTS]


COUNTS = [7, 0, 1, 40, 13, 0]


def test_reference_gradients_are_exact():
    samples = packed([3, 0, 5], dtype=torch.float64)
    density, features = example(samples, channels=2)

    def run(density, features):
        return tuple(outputs(composite(density, features, samples, backend="reference")))

    assert torch.autograd.gradcheck(run, (density, features))
    assert torch.autograd.gradgradcheck(run, (density, features))


@pytest.mark.parametrize("backend_and_device", fast_backends("composite"))
@pytest.mark.parametrize("channels", [0, 1, 5])
@pytest.mark.parametrize("early_stop", [0.0, 1e-4, 0.3])
def test_fast_and_reference_agree(backend_and_device, channels, early_stop):
    backend, device = backend_and_device
    samples = packed(COUNTS, device=device)
    density, features = example(samples, channels)
    results = {}
    for name in ("reference", backend):
        result = composite(density, features, samples, early_stop=early_stop, backend=name)
        upstream = [torch.sin(torch.arange(1.0, 1 + x.numel())).view_as(x) for x in outputs(result)]
        loss = sum((x * y.to(device)).sum() for x, y in zip(outputs(result), upstream, strict=True))
        results[name] = (result, torch.autograd.grad(loss, (density, features)))
    fast, reference = results[backend], results["reference"]
    for a, b in zip(outputs(fast[0]), outputs(reference[0]), strict=True):
        assert_values_agree(a, b)
    assert_gradients_agree(fast[1][0], reference[1][0])
    if channels:
        assert_gradients_agree(fast[1][1], reference[1][1])


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_output_alone_sends_back_the_gradient_of_the_reference(output):
    samples = packed(COUNTS)
    density, features = example(samples)
    gradients = []
    for backend in ("warp", "reference"):
        value = getattr(composite(density, features, samples, backend=backend), output)
        gradients.append(torch.autograd.grad((value**2).sum(), density)[0])
    assert_gradients_agree(*gradients)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_are_a_sub_probability(backend):
    samples = packed([30] * 20)
    density, features = example(samples, density_scale=50.0)
    result = composite(density, features, samples, early_stop=0.0, backend=backend)
    assert (result.weights >= 0).all()
    assert (result.alpha <= 1 + 1e-6).all()
    totals = torch.zeros(20).index_add(0, samples.ray_index, result.weights.detach())
    torch.testing.assert_close(totals, result.alpha.detach())


@pytest.mark.parametrize("backend", BACKENDS)
def test_constant_density_obeys_the_law_of_beer_and_lambert(backend):
    edges = torch.linspace(2, 4, 101)
    offsets = torch.tensor([0, 100], dtype=torch.int32)
    ray_index = torch.zeros(100, dtype=torch.int32)
    samples = Samples(ray_index, edges[:-1].clone(), edges[1:].clone(), offsets)
    density = torch.full((100,), 1.5)
    result = composite(density, torch.ones(100, 1), samples, early_stop=0.0, backend=backend)
    assert result.alpha.item() == pytest.approx(1 - math.exp(-3.0), rel=1e-5)
    # The mean distance of absorption, integral of t sigma exp(-sigma (t - 2)) over [2, 4].
    depth = 2 * (1 - math.exp(-3.0)) + (1 - 4 * math.exp(-3.0)) / 1.5
    assert result.depth.item() == pytest.approx(depth, rel=1e-3)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_behind_an_opaque_sample_is_seen_or_trained(backend):
    samples = packed([5])
    density = torch.tensor([0.0, 1.0, 1e5, 3.0, 2.0], requires_grad=True)
    features = torch.ones(5, 1, requires_grad=True)
    result = composite(density, features, samples, backend=backend)
    assert result.weights[0] == 0 and (result.weights[3:] == 0).all()
    assert result.alpha.item() == pytest.approx(1.0)
    gradients = torch.autograd.grad(result.depth.sum() + result.features.sum(), (density, features))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (gradients[0][3:] == 0).all() and (gradients[1][3:] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("counts", [[], [0, 0, 0]])
def test_rays_without_samples_are_empty(backend, counts):
    samples = packed(counts)
    density, features = example(samples, channels=3)
    result = composite(density, features, samples, backend=backend)
    assert result.features.shape == (len(counts), 3) and not result.features.any()
    assert not result.alpha.any() and result.weights.shape == (0,)
    (gradient,) = torch.autograd.grad(result.alpha.sum(), density)
    assert gradient.shape == (0,)


def test_splitting_over_threads_changes_no_bit():
    samples = packed([9] * 3000)
    density, features = example(samples)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            result = composite(density, features, samples, backend="warp")
            gradients = torch.autograd.grad(result.features.sum(), (density, features))
        finally:
            torch.set_num_threads(1)
        results.append((*outputs(result), *gradients))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_wrong_lengths_types_and_ranges_are_named():
    samples = packed([4, 4])
    density, features = example(samples)
    with pytest.raises(InputError, match="7 densities"):
        composite(density[:-1], features[:-1], samples)
    with pytest.raises(InputError, match="early_stop"):
        composite(density, features, samples, early_stop=1.0)
    with pytest.raises(InputError, match="needs float32"):
        composite(density.double(), features.double(), samples, backend="warp")
