"""Splatting: projection against geometry, blending against its formula, backends agree."""

import math
from dataclasses import replace

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.ops.splat.project import LOW_PASS, Projected, project, rotation_matrices
from dreamlab.ops.splat.splat import splat

BACKENDS = ["reference", "warp"]


def views(count=2):
    return turntable_cameras(count, elevation=15.0, distance=3.0, fov_y=40.0)


def cloud(count=200, seed=0, dtype=torch.float32, spread=0.6):
    """Means, quaternions, scales, opacities and features of random Gaussians."""
    draw = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(count, 3, generator=draw, dtype=dtype)
    quaternions = torch.randn(count, 4, generator=draw, dtype=dtype)
    scales = 0.02 + 0.1 * torch.rand(count, 3, generator=draw, dtype=dtype)
    opacities = 0.05 + 0.9 * torch.rand(count, generator=draw, dtype=dtype)
    features = torch.rand(count, 4, generator=draw, dtype=dtype)
    return [x.requires_grad_() for x in (means, quaternions, scales, opacities, features)]


def draw_cloud(parts, size=(24, 31), backend="auto", count=2, device="cpu", shape=None):
    *geometry, features = (part.to(device) for part in parts)
    projected = project(*geometry, views(count).to(device), *size, backend=backend)
    if shape is not None:
        projected = replace(projected, shape=shape.to(device).expand(count, -1))
    features = features.expand(count, *features.shape)
    return splat(projected, features, *size, backend=backend)


def test_quaternions_turn_as_they_should():
    half = math.sqrt(0.5)
    about_z = rotation_matrices(torch.tensor([half, 0.0, 0.0, half]))
    torch.testing.assert_close(about_z @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]))
    random = rotation_matrices(torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    identity = torch.eye(3).expand(50, 3, 3)
    torch.testing.assert_close(random @ random.transpose(1, 2), identity, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(random), torch.ones(50))


def test_means_fall_on_the_pixels_whose_rays_pass_through_them():
    cameras = views(3)
    origins, directions = cameras.rays(20, 26)
    points = (origins + 2.7 * directions)[:, 4, 9]
    unturned = torch.tensor([[1.0, 0, 0, 0]]).expand(3, 4)
    projected = project(points, unturned, torch.full((3, 3), 0.05), torch.ones(3), cameras, 20, 26)
    for view in range(3):
        torch.testing.assert_close(projected.mean[view, view], torch.tensor([9.5, 4.5]))
        assert projected.distance[view, view].item() == pytest.approx(2.7, rel=1e-5)


def test_covariance_is_that_of_projected_samples():
    means, quaternions, _, _, _ = cloud(1, dtype=torch.float64, spread=0.3)
    scales = torch.tensor([[0.01, 0.03, 0.02]], dtype=torch.float64)
    camera = views(1)
    one = torch.ones(1, dtype=torch.float64)
    projected = project(means, quaternions, scales, one, camera, 400, 400, backend="reference")
    draw = torch.Generator().manual_seed(1)
    samples = torch.randn(20000, 3, generator=draw, dtype=torch.float64) * scales
    points = means + samples @ rotation_matrices(quaternions)[0].T
    parts = [part.expand(len(samples), *part.shape[1:]) for part in (quaternions, scales, one)]
    many = project(points, *parts, camera, 400, 400, backend="reference")
    measured = torch.cov(many.mean[0].T) + LOW_PASS * torch.eye(2, dtype=torch.float64)
    a, b, c = projected.conic[0, 0]
    computed = torch.linalg.inv(torch.stack([torch.stack([a, b]), torch.stack([b, c])]))
    torch.testing.assert_close(computed, measured, rtol=0.05, atol=0.05)


def test_the_filter_keeps_the_sum_of_a_small_gaussian():
    """Far smaller than a pixel or several pixels large: the sum follows its area."""
    camera = views(1)
    sums = []
    for scale in (0.01, 0.04):
        projected = project(
            torch.zeros(1, 3),
            torch.tensor([[1.0, 0, 0, 0]]),
            torch.full((1, 3), scale),
            torch.full((1,), 0.5),
            camera,
            64,
            64,
        )
        _, alpha = splat(projected, torch.ones(1, 1, 1), 64, 64)
        sums.append(alpha.sum().item() / scale**2)
    assert sums[0] == pytest.approx(sums[1], rel=0.1)


def sent_back(projected, parts, seed=1):
    """Gradients of a random weighting of what is visible."""
    draw, total = torch.Generator().manual_seed(seed), torch.zeros(())
    for part in (projected.mean, projected.conic, projected.opacity, projected.distance):
        weight = torch.randn(part.shape, generator=draw).to(part)
        seen = projected.is_visible.view(*projected.is_visible.shape, *[1] * (part.dim() - 2))
        total = total + (part * weight).where(seen, 0.0).sum().cpu()
    return torch.autograd.grad(total, parts)


@pytest.mark.parametrize("backend_and_device", fast_backends("project"))
@pytest.mark.parametrize("spread", [0.3, 1.5], ids=["all in view", "beyond the borders and behind"])
def test_projection_agrees_with_the_reference(backend_and_device, spread):
    backend, device = backend_and_device
    parts = [p.detach().to(device).requires_grad_() for p in cloud(300, spread=spread)[:4]]
    results = []
    for name in ("reference", backend):
        projected = project(*parts, views(3).to(device), 24, 31, backend=name)
        results.append((projected, sent_back(projected, parts)))
    (reference, wanted), (fast, gradients) = results
    assert torch.equal(fast.is_visible, reference.is_visible)
    assert bool(fast.is_visible.all()) == (spread < 1)
    for name in ("mean", "conic", "opacity", "distance"):
        seen = reference.is_visible
        assert_values_agree(getattr(fast, name)[seen], getattr(reference, name)[seen])
    for a, b in zip(gradients, wanted, strict=True):
        assert_gradients_agree(a, b)


def test_reference_gradients_of_the_projection_are_exact():
    parts = cloud(5, dtype=torch.float64, spread=0.3)[:4]

    def run(*parts):
        p = project(*parts, views(2), 20, 26, backend="reference")
        return p.mean, p.conic, p.opacity, p.distance

    assert torch.autograd.gradcheck(run, parts)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_gaussians_blend_front_to_back(backend):
    projected = Projected(
        mean=torch.tensor([[[4.5, 4.5], [4.5, 4.5]]]),
        conic=torch.tensor([[[1.0, 0.0, 1.0], [0.25, 0.0, 0.25]]]),
        opacity=torch.tensor([[0.6, 0.8]]),
        distance=torch.tensor([[2.0, 1.0]]),
        is_visible=torch.ones(1, 2, dtype=torch.bool),
    )
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    picture, alpha = splat(projected, features, 9, 9, backend=backend)
    near = 0.8 * math.exp(-0.5 * 0.25 * 4)  # two pixels to the right
    far = 0.6 * math.exp(-0.5 * 4)
    expected = torch.tensor([far * (1 - near), near])
    torch.testing.assert_close(picture[0, 4, 6], expected)
    assert alpha[0, 4, 6].item() == pytest.approx(near + far * (1 - near), rel=1e-5)


def judged(pictures):
    """Add up pictures with weights of their own for each number."""
    weights = [torch.sin(torch.arange(1.0, 1 + p.numel())).view_as(p).to(p) for p in pictures]
    return sum((p * w).sum() for p, w in zip(pictures, weights, strict=True))


@pytest.mark.parametrize("backend_and_device", fast_backends("splat"))
@pytest.mark.parametrize("size", [(24, 31), (8, 8), (65, 40)])
@pytest.mark.parametrize("shaped", [False, True], ids=["Gaussians", "generalised"])
def test_fast_and_reference_agree(backend_and_device, size, shaped):
    backend, device = backend_and_device
    if shaped and backend == "gsplat":
        pytest.skip("gsplat draws Gaussians alone")
    parts = cloud()
    shape = torch.linspace(1.05, 6, 200).requires_grad_() if shaped else None
    results = {}
    for name in ("reference", backend):
        pictures = draw_cloud(parts, size, name, device=device, shape=shape)
        leaves = parts if shape is None else [*parts, shape]
        results[name] = pictures, torch.autograd.grad(judged(pictures), leaves)
    fast, reference = results[backend], results["reference"]
    for a, b in zip(fast[0], reference[0], strict=True):
        assert_values_agree(a, b, backend)
    for a, b in zip(fast[1], reference[1], strict=True):
        assert_gradients_agree(a, b, backend)


@pytest.mark.parametrize("size", [(8, 8), (65, 40)])
def test_two_threads_draw_what_one_does(size, monkeypatch):
    parts = cloud()
    results = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        pictures = draw_cloud(parts, size, "warp")
        results.append((pictures, torch.autograd.grad(judged(pictures), parts)))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert torch.equal(a, b)
    for a, b in zip(results[0][1], results[1][1], strict=True):
        assert_gradients_agree(a, b)


@pytest.mark.parametrize("backend_and_device", fast_backends("splat"))
@pytest.mark.parametrize("channels", [1, 9, 37])
def test_there_may_be_any_number_of_features_and_none_changes_another(backend_and_device, channels):
    backend, device = backend_and_device
    *geometry, _ = cloud(60)
    draw = torch.Generator().manual_seed(1)
    features = torch.rand(60, channels, generator=draw).requires_grad_()
    upstream = torch.randn(2, 24, 31, channels, generator=draw).to(device)
    results = []
    for name in ("reference", backend):
        picture, alpha = draw_cloud([*geometry, features], backend=name, device=device)
        gradients = torch.autograd.grad((picture * upstream).sum(), [*geometry, features])
        results.append(((picture, alpha), gradients))
    (reference, wanted), (fast, gradients) = results
    for a, b in zip(fast, reference, strict=True):
        assert_values_agree(a, b, backend)
    for a, b in zip(gradients, wanted, strict=True):
        assert_gradients_agree(a, b, backend)
    alone, _ = draw_cloud([*geometry, features[:, -1:]], backend=backend, device=device)
    torch.testing.assert_close(alone, fast[0][..., -1:])


@pytest.mark.parametrize("backend_and_device", fast_backends("splat"))
def test_the_gradient_on_the_screen_is_that_of_the_reference(backend_and_device):
    """Density control looks at dL/dmean of every view."""
    backend, device = backend_and_device
    parts = [part.detach().to(device) for part in cloud()]
    *geometry, features = parts
    results = []
    for name in ("reference", backend):
        projected = project(*geometry, views().to(device), 24, 24, backend=name)
        projected.mean.requires_grad_()
        picture, _ = splat(projected, features.expand(2, *features.shape), 24, 24, backend=name)
        weight = torch.sin(torch.arange(1.0, 1 + picture.numel())).view_as(picture).to(device)
        results.append(torch.autograd.grad((picture * weight).sum(), projected.mean)[0])
    assert_gradients_agree(results[1], results[0], backend)


@pytest.mark.parametrize("beta", [None, 3.0], ids=["Gaussians", "generalised"])
def test_reference_gradients_are_exact(beta):
    parts = cloud(4, dtype=torch.float64, spread=0.2)
    if beta is not None:
        parts.append(torch.full((4,), beta, dtype=torch.float64, requires_grad=True))

    def run(*parts):
        shape = parts[5] if beta is not None else None
        return draw_cloud(parts[:5], (4, 5), "reference", count=1, shape=shape)

    # far above 1/255 and below 0.99 everywhere, so nothing is skipped
    with torch.no_grad():
        parts[2].fill_(0.8)
        parts[3].clamp_(0.2, 0.8)
    assert torch.autograd.gradcheck(run, parts)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("beta", [1.0, 2.0, 5.0])
def test_a_generalised_exponential_falls_as_its_formula_says(backend, beta):
    projected = Projected(
        mean=torch.tensor([[[8.5, 8.5]]]),
        conic=torch.tensor([[[0.25, 0.0, 0.25]]]),
        opacity=torch.tensor([[0.8]]),
        distance=torch.ones(1, 1),
        is_visible=torch.ones(1, 1, dtype=torch.bool),
        shape=torch.tensor([[beta]]),
    )
    _, alpha = splat(projected, torch.ones(1, 1, 1), 17, 17, backend=backend)
    x = torch.arange(9.0) / 2  # in standard deviations
    expected = 0.8 * torch.exp(-0.5 * x**beta)
    expected = expected.where(expected >= 1 / 255, 0.0)
    torch.testing.assert_close(alpha[0, 8, 8:, 0], expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_opaque_wall_hides_what_is_behind(backend):
    count = 60
    projected = Projected(
        mean=torch.full((1, count, 2), 4.0),
        conic=torch.tensor([1e-6, 0.0, 1e-6]).expand(1, count, 3),
        opacity=torch.full((1, count), 0.9),
        distance=torch.arange(count, 0, -1.0)[None],
        is_visible=torch.ones(1, count, dtype=torch.bool),
    )
    features = torch.zeros(1, count, 1)
    features[:, :-5] = 1.0  # all but the five nearest
    picture, alpha = splat(projected, features, 8, 8, backend=backend)
    assert picture.abs().max() < 1.1e-4 and alpha.min() > 0.999


@pytest.mark.parametrize("backend", BACKENDS)
def test_gaussians_behind_the_camera_are_not_drawn(backend):
    camera = views(1)
    behind = 2 * camera.position
    projected = project(
        behind, torch.tensor([[1.0, 0, 0, 0]]), torch.full((1, 3), 0.5), torch.ones(1), camera, 9, 9
    )
    assert not projected.is_visible.any()
    _, alpha = splat(projected, torch.ones(1, 1, 1), 9, 9, backend=backend)
    assert not alpha.any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_gaussians_give_an_empty_picture(backend):
    parts = [part[:0] for part in cloud()]
    picture, alpha = draw_cloud(parts, backend=backend)
    assert picture.shape == (2, 24, 31, 4) and not alpha.any()


def test_views_do_not_depend_on_each_other():
    parts = cloud()
    together, _ = draw_cloud(parts, count=3)
    *geometry, features = parts
    for view in range(3):
        projected = project(*geometry, views(3)[view : view + 1], 24, 31)
        alone, _ = splat(projected, features[None], 24, 31)
        torch.testing.assert_close(together[view], alone[0])


def test_warp_needs_single_precision():
    parts = cloud(3, dtype=torch.float64)
    with pytest.raises(InputError, match="float32"):
        draw_cloud(parts, backend="warp")
