import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.core.schedules import Schedule
from dreamlab.systems.losses import (
    BORDER,
    RENDER_LOSSES,
    Buffers,
    Losses,
    depth_variance,
    opacity_border,
    opacity_entropy,
    opacity_sparsity,
    orientation,
    total_variation,
)


def render_of(alpha: Tensor, **buffers: Tensor) -> Render:
    depth = buffers.pop("depth", alpha * 2)
    return Render(rgb=alpha.repeat(1, 1, 1, 3), alpha=alpha, depth=depth, **buffers)


def random_render(views: int, size: int = 16, dtype: torch.dtype = torch.float32) -> Render:
    generator = torch.Generator().manual_seed(views)

    def noise(channels: int) -> Tensor:
        shape = (views, size, size, channels)
        return torch.rand(shape, generator=generator, dtype=dtype) * 0.9 + 0.05

    return render_of(
        noise(1),
        depth=noise(1),
        normal=noise(3),
        depth_variance=noise(1),
        orientation=noise(1),
        excess=noise(1),
    )


def disc(size: int, radius: float) -> Tensor:
    axis = (torch.arange(size) + 0.5) / size - 0.5
    return ((axis[:, None] ** 2 + axis[None, :] ** 2) < radius**2).float()[None, ..., None]


def each_loss(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize("name", RENDER_LOSSES)(test)


@each_loss
def test_a_loss_does_not_depend_on_the_number_of_views(name: str) -> None:
    one = random_render(1)
    three = Render(**{key: getattr(one, key).repeat(3, 1, 1, 1) for key in BUFFERS})
    loss = RENDER_LOSSES[name]
    torch.testing.assert_close(loss(three), loss(one))


@each_loss
def test_a_loss_of_a_batch_is_the_mean_of_the_losses_of_its_views(name: str) -> None:
    batch = random_render(3)
    views = [Render(**{key: getattr(batch, key)[i : i + 1] for key in BUFFERS}) for i in range(3)]
    loss = RENDER_LOSSES[name]
    torch.testing.assert_close(loss(batch), torch.stack([loss(view) for view in views]).mean())


@each_loss
def test_the_gradient_of_a_loss_is_its_derivative(name: str) -> None:
    render = random_render(2, size=4, dtype=torch.float64)
    values = [getattr(render, key).requires_grad_() for key in BUFFERS]

    def loss(*tensors: Tensor) -> Tensor:
        return RENDER_LOSSES[name](Render(**dict(zip(BUFFERS, tensors, strict=True))))

    assert torch.autograd.gradcheck(loss, values)


BUFFERS = ("rgb", "alpha", "depth", "normal", "depth_variance", "orientation", "excess")


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_sparsity_is_the_softened_opacity(opacity: float) -> None:
    render = render_of(torch.full((2, 4, 4, 1), opacity))
    assert opacity_sparsity(render).item() == pytest.approx(math.sqrt(opacity**2 + 0.01))


@pytest.mark.parametrize("opacity", [0.1, 0.5, 0.8])
def test_entropy_is_that_of_a_coin(opacity: float) -> None:
    expected = -opacity * math.log(opacity) - (1 - opacity) * math.log(1 - opacity)
    render = render_of(torch.full((1, 4, 4, 1), opacity))
    assert opacity_entropy(render).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("opacity", [0.0, 1.0])
def test_entropy_of_filled_and_empty_views_is_nearly_zero_with_finite_gradient(
    opacity: float,
) -> None:
    alpha = torch.full((1, 4, 4, 1), opacity, requires_grad=True)
    loss = opacity_entropy(render_of(alpha))
    loss.backward()
    assert 0 <= loss.item() < 0.01
    assert alpha.grad is not None and alpha.grad.isfinite().all()


def test_the_border_loss_sees_the_frame_only() -> None:
    size = 32
    frame = round(size * BORDER)
    inside = torch.zeros(1, size, size, 1)
    inside[:, frame:-frame, frame:-frame] = 1
    assert opacity_border(render_of(inside)).item() == 0
    assert opacity_border(render_of(1 - inside)).item() == 1


@pytest.mark.parametrize("size", [64, 128])
def test_the_total_variation_of_a_disc_is_eight_radii_at_every_size(size: int) -> None:
    assert total_variation(disc(size, 0.3)).item() == pytest.approx(8 * 0.3, rel=0.02)


def test_orientation_averages_over_rays_that_hit() -> None:
    alpha = torch.zeros(2, 4, 4, 1)
    alpha[0, :2] = 0.5
    alpha[1, 0, 0] = 1.0
    facing_away = torch.where(alpha > 0, 0.25, 0.0)
    assert orientation(render_of(alpha, orientation=facing_away)).item() == pytest.approx(0.25)


def test_depth_variance_ignores_pixels_that_are_not_covered() -> None:
    alpha = torch.tensor([0.2, 0.8]).reshape(1, 1, 2, 1)
    variance = torch.tensor([100.0, 0.04]).reshape(1, 1, 2, 1)
    loss = depth_variance(render_of(alpha, depth_variance=variance))
    assert loss.item() == pytest.approx(0.04)


def test_orientation_says_what_to_do_without_normals_of_samples() -> None:
    with pytest.raises(InputError, match="normals of samples") as caught:
        orientation(render_of(torch.ones(1, 2, 2, 1)))
    assert "normals: density" in caught.value.fix


@pytest.mark.parametrize("name", ["orientation", "depth_variance"])
def test_views_that_show_nothing_cost_nothing_and_have_a_gradient(name: str) -> None:
    empty = torch.zeros(2, 4, 4, 1, requires_grad=True)
    loss = RENDER_LOSSES[name](render_of(empty, **{name: empty}))
    loss.backward()
    assert loss.item() == 0


def no_regularisers() -> dict[str, Tensor]:
    raise AssertionError("they were not asked for")


def test_a_loss_without_weight_is_not_evaluated_and_needs_no_buffers() -> None:
    late = Schedule(0.0, 2.0, 0.5, 0.6)
    losses = Losses({"orientation": late, "depth_variance": 0.0, "opacity_sparsity": 1.0})
    bare = render_of(torch.full((1, 4, 4, 1), 0.5))
    assert losses.buffers(0.2) == Buffers(normals=False, depth_variance=False)
    total, values = losses.evaluate(bare, no_regularisers, 0.2)
    assert values.keys() == {"opacity_sparsity"}
    assert total.item() == pytest.approx(math.sqrt(0.26))
    assert losses.buffers(0.9) == Buffers(normals=True, depth_variance=False)


def test_the_total_is_the_weighted_sum_and_values_are_unweighted() -> None:
    render = random_render(2)
    losses = Losses({"opacity_sparsity": 3.0, "smooth": Schedule(0.0, 4.0)})
    total, values = losses.evaluate(render, lambda: {"smooth": torch.tensor(0.5)}, 0.5)
    expected = 3.0 * opacity_sparsity(render).item() + 2.0 * 0.5
    assert total.item() == pytest.approx(expected)
    assert values["smooth"].item() == 0.5


def test_an_unknown_loss_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"orientaton.*'orientation'"):
        Losses({"orientaton": 1.0}).check_names(set())
    Losses({"smooth": 1.0}).check_names({"smooth"})
