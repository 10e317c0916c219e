"""The hash encoding: its definition, and that fast and reference are the same function."""

import numpy as np
import pytest
import torch
from closeness import KERNEL_DEVICES, assert_gradients_agree, assert_values_agree, fast_backends

from dreamlab.core.errors import InputError
from dreamlab.ops.hashgrid.encode import (
    HashGridConfig,
    HashGridLayout,
    hash_encode,
    hash_point_gradient,
)

SMALL = HashGridConfig(
    num_levels=3, num_features=2, log2_table_size=6, base_resolution=3, finest_resolution=9
)


def layout_of(**changes) -> HashGridLayout:
    values = {name: getattr(SMALL, name) for name in SMALL.__slots__} | changes
    return HashGridLayout.of(HashGridConfig(**values))


def example(layout, num_points=200, dtype=torch.float32, device="cpu", spread=1.0):
    """Points, a table and a cotangent, all leaves that require gradients."""
    draw = torch.Generator().manual_seed(3)
    points = torch.rand(num_points, 3, generator=draw, dtype=dtype)
    points = 0.5 + spread * (points - 0.5)
    table = torch.randn(layout.num_entries, layout.config.num_features, generator=draw, dtype=dtype)
    cotangent = torch.randn(num_points, layout.num_outputs, generator=draw, dtype=dtype)
    return [x.to(device).requires_grad_() for x in (points, table, cotangent)]


def test_levels_fill_the_table_without_gaps_and_are_capped():
    layout = HashGridLayout.of(HashGridConfig(log2_table_size=15))
    assert layout.scales[0] == 15.0
    assert layout.scales[-1] == pytest.approx(2047, rel=1e-5)
    assert list(layout.offsets[1:]) == list(np.cumsum(layout.sizes)[:-1])
    assert layout.num_entries == sum(layout.sizes)
    assert max(layout.sizes) == 1 << 15
    for size, resolution in zip(layout.sizes, layout.resolutions, strict=True):
        assert size == 1 << 15 if resolution == 0 else resolution**3 <= size <= resolution**3 + 7
    assert layout.num_outputs == 32


def test_dense_corner_reads_the_entry_of_its_coordinates():
    layout = layout_of(num_levels=1, base_resolution=4, finest_resolution=4)
    table = torch.arange(float(layout.num_entries))[:, None].repeat(1, 2)
    x, y, z = 1, 2, 3
    point = (torch.tensor([[x, y, z]]) - 0.5) / layout.scales[0]
    expected = x + 4 * y + 16 * z
    assert hash_encode(point, table, layout, backend="reference")[0, 0] == pytest.approx(expected)


def test_hashed_corner_reads_the_entry_of_the_published_hash():
    layout = layout_of(num_levels=1, base_resolution=50, finest_resolution=50)
    assert layout.resolutions == (0,)
    table = torch.arange(float(layout.num_entries))[:, None].repeat(1, 2)
    x, y, z = 17, 31, 44
    point = (torch.tensor([[x, y, z]], dtype=torch.float64) - 0.5) / layout.scales[0]
    expected = (x ^ (y * 2654435761) ^ (z * 805459861)) % 2**32 % layout.num_entries
    encoded = hash_encode(point, table.double(), layout, backend="reference")
    assert encoded[0, 0].item() == pytest.approx(expected, abs=1e-6)


def test_interpolation_weights_sum_to_one():
    layout = layout_of(interpolation="smoothstep")
    points, table, _ = example(layout, spread=1.5)
    encoded = hash_encode(points, torch.ones_like(table), layout)
    torch.testing.assert_close(encoded, torch.ones_like(encoded))


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("backend", ["reference", "warp"])
def test_encoding_is_continuous_across_cells(backend, interpolation):
    layout = layout_of(interpolation=interpolation)
    points, table, _ = example(layout, num_points=500)
    wall = (torch.round(points.detach() * layout.scales[1]) + 0.5) / layout.scales[1]
    before = hash_encode((wall - 1e-5).contiguous(), table, layout, backend=backend)
    after = hash_encode((wall + 1e-5).contiguous(), table, layout, backend=backend)
    assert (before - after).abs().max() < 1e-2


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_reference_gradients_are_exact(interpolation):
    tiny = {"num_levels": 2, "num_features": 1, "log2_table_size": 4, "base_resolution": 2}
    layout = layout_of(**tiny, interpolation=interpolation)
    assert [size > 0 for size in layout.resolutions] == [True, False], "one level of each kind"
    points, table, cotangent = example(layout, num_points=3, dtype=torch.float64)

    def encode(points, table):
        return hash_encode(points, table, layout, backend="reference")

    def point_gradient(points, table, cotangent):
        return hash_point_gradient(points, table, cotangent, layout, backend="reference")

    assert torch.autograd.gradcheck(encode, (points, table))
    assert torch.autograd.gradcheck(point_gradient, (points, table, cotangent))


@pytest.mark.parametrize("backend_and_device", fast_backends("hash_encode"))
@pytest.mark.parametrize(
    ("num_features", "interpolation"),
    [(1, "linear"), (2, "linear"), (2, "smoothstep"), (4, "linear"), (8, "smoothstep")],
)
def test_fast_encoding_agrees_with_reference(backend_and_device, interpolation, num_features):
    backend, device = backend_and_device
    layout = layout_of(num_features=num_features, interpolation=interpolation, num_levels=4)
    points, table, cotangent = example(layout, device=device)
    results = {}
    for name in ("reference", backend):
        encoded = hash_encode(points, table, layout, backend=name)
        gradients = torch.autograd.grad((encoded * cotangent).sum(), (points, table))
        results[name] = (encoded, *gradients)
    assert_values_agree(results[backend][0], results["reference"][0], backend)
    for fast, reference in zip(results[backend][1:], results["reference"][1:], strict=True):
        assert_gradients_agree(fast, reference, backend)


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_warp_second_derivatives_agree_with_reference(device, interpolation):
    layout = layout_of(interpolation=interpolation)
    points, table, cotangent = example(layout, device=device)
    results = {}
    for name in ("reference", "warp"):
        gradient = hash_point_gradient(points, table, cotangent, layout, backend=name)
        target = torch.sin(torch.arange(gradient.numel(), device=device)).view_as(gradient)
        second = torch.autograd.grad(((gradient - target) ** 2).sum(), (points, table, cotangent))
        results[name] = (gradient, *second)
    for fast, reference in zip(results["warp"], results["reference"], strict=True):
        assert_gradients_agree(fast, reference)


def test_differentiating_the_encoding_gives_the_point_gradient_and_can_be_repeated():
    layout = layout_of()
    points, table, cotangent = example(layout)
    encoded = hash_encode(points, table, layout, backend="warp")
    (gradient,) = torch.autograd.grad((encoded * cotangent).sum(), points, create_graph=True)
    expected = hash_point_gradient(points, table, cotangent, layout, backend="warp")
    torch.testing.assert_close(gradient, expected)
    (by_autograd,) = torch.autograd.grad((gradient**2).sum(), table)
    (by_call,) = torch.autograd.grad((expected**2).sum(), table)
    torch.testing.assert_close(by_autograd, by_call)


def test_differentiating_the_table_gradient_again_is_refused():
    layout = layout_of()
    points, table, cotangent = example(layout)
    encoded = hash_encode(points, table, layout, backend="warp")
    (gradient,) = torch.autograd.grad((encoded * cotangent).sum(), table, create_graph=True)
    with pytest.raises(NotImplementedError, match="reference"):
        torch.autograd.grad((gradient**2).sum(), cotangent)


def test_points_outside_the_cube_agree_with_reference():
    layout = layout_of()
    points, table, _ = example(layout, spread=3.0)
    fast = hash_encode(points, table, layout, backend="warp")
    assert_values_agree(fast, hash_encode(points, table, layout, backend="reference"))


def test_points_that_are_not_numbers_read_nothing_out_of_bounds():
    layout = layout_of()
    _, table, _ = example(layout)
    points = torch.tensor([[float("nan"), 0.5, 0.5], [float("inf"), 0.5, 0.5], [0.5, -1e30, 0.5]])
    encoded = hash_encode(points, table, layout, backend="warp")
    assert encoded.shape == (3, layout.num_outputs)
    assert not encoded[0].isfinite().any()


@pytest.mark.parametrize("backend", ["reference", "warp"])
def test_no_points_give_no_features_and_zero_gradient(backend):
    layout = layout_of()
    _, table, _ = example(layout)
    points = torch.zeros(0, 3, requires_grad=True)
    encoded = hash_encode(points, table, layout, backend=backend)
    assert encoded.shape == (0, layout.num_outputs)
    (gradient,) = torch.autograd.grad(encoded.sum(), table)
    assert not gradient.any()


def test_splitting_over_threads_changes_no_bit():
    layout = layout_of(num_levels=5)
    points, table, cotangent = example(layout, num_points=3000)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            encoded = hash_encode(points, table, layout, backend="warp")
            gradients = torch.autograd.grad((encoded * cotangent).sum(), (points, table))
        finally:
            torch.set_num_threads(1)
        results.append((encoded, *gradients))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_wrong_tables_and_types_are_named():
    layout = layout_of()
    points, table, _ = example(layout)
    with pytest.raises(InputError, match="hash table has shape"):
        hash_encode(points, table[:-1], layout)
    with pytest.raises(InputError, match="float32 points"):
        hash_encode(points.double(), table, layout, backend="warp")


@pytest.mark.parametrize(
    "change",
    [
        {"num_features": 3},
        {"num_levels": 0},
        {"log2_table_size": 30},
        {"base_resolution": 1},
        {"finest_resolution": 2},
    ],
)
def test_impossible_sizes_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        layout_of(**change)
