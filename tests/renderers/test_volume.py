"""Claims about volume rendering, with fields whose images are known in closed form."""

import math

import pytest
import torch
from torch import Tensor

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.render import Render
from dreamlab.renderers import volume
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.shading import Shading, headlight, unlit
from dreamlab.renderers.volume import Config, VolumeRenderer

SOLID_WHITE = BackgroundConfig(name="solid")


class Ball:
    """A ball of constant density and colour around `center`: its images have closed forms."""

    def __init__(
        self,
        radius: float = 0.5,
        density: float = 3.0,
        *,
        half_extent: float = 1.0,
        center: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.radius = radius
        self.half_extent = half_extent
        self.center = torch.tensor(center)
        self.strength = torch.tensor(density, requires_grad=True)
        self.paint = torch.tensor([0.9, 0.4, 0.1], requires_grad=True)

    def density(self, points: Tensor) -> Tensor:
        inside = (points - self.center).norm(dim=-1) < self.radius
        return inside.to(points.dtype) * self.strength

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(points), self.paint.expand_as(points)

    def normal(self, points: Tensor) -> Tensor:
        return torch.nn.functional.normalize(points - self.center, dim=-1)

    def entry_and_exit(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return where rays enter and leave the ball; equal where they miss it."""
        along = -((origins - self.center) * directions).sum(-1)
        closest = (origins - self.center + along[..., None] * directions).norm(dim=-1)
        half_chord = (self.radius**2 - closest.square()).clamp(min=0).sqrt()
        return along - half_chord, along + half_chord


def cameras(*azimuths: float, elevation: float = 20.0) -> Cameras:
    azimuth = torch.tensor(azimuths)
    constant = torch.ones_like(azimuth)
    return orbit_cameras(azimuth, elevation * constant, 3.0 * constant, 42.0 * constant)


def renderer_of(field, *, steps: int = 512, background=SOLID_WHITE, **config) -> VolumeRenderer:
    """Return a renderer whose grid has not been refreshed yet: every cell counts as occupied."""
    return VolumeRenderer(Config(steps_per_diagonal=steps, background=background, **config), field)


def evaluate(renderer, views: Cameras, size: int = 24, **options) -> Render:
    shading = options.pop("shading", unlit(views))
    return renderer(views, size, size, shading=shading, training=False, **options)


def train(renderer, views: Cameras, size: int = 24, seed: int = 0, **options) -> Render:
    shading = options.pop("shading", unlit(views))
    generator = torch.Generator().manual_seed(seed)
    return renderer(
        views, size, size, shading=shading, training=True, generator=generator, **options
    )


def images_of(render: Render) -> list[str]:
    return [name for name, image in vars(render).items() if image is not None]


def test_opacity_of_a_ball_is_that_of_its_chord():
    ball, views = Ball(density=3.0), cameras(0.0, 130.0)
    image = evaluate(renderer_of(ball), views)
    enter, leave = ball.entry_and_exit(*views.rays(24, 24))
    expected = 1 - torch.exp(-3.0 * (leave - enter))
    step = 2 * math.sqrt(3) / 512
    assert (image.alpha[..., 0] - expected).abs().max() < 3.0 * step
    assert (image.alpha[..., 0] - expected).abs().mean() < 0.3 * step


@pytest.mark.parametrize("normals", ["depth", "density"])
def test_depth_and_normal_of_an_opaque_ball_are_those_of_its_surface(normals):
    ball, views = Ball(density=2000.0), cameras(40.0)
    image = evaluate(renderer_of(ball, normals=normals), views, normals=True)
    origins, directions = views.rays(24, 24)
    enter, leave = ball.entry_and_exit(origins, directions)
    hit = (leave - enter) > 0.1
    step = 2 * math.sqrt(3) / 512
    assert torch.allclose(image.alpha[..., 0][hit], torch.ones(int(hit.sum())), atol=1e-3)
    depth = (image.depth / image.alpha.clamp(min=1e-9))[..., 0]
    assert ((depth - enter)[hit].abs() < step).all()
    normal = (origins + enter[..., None] * directions) / ball.radius
    assert image.normal is not None
    error = (image.normal - normal)[hit].norm(dim=-1)
    assert error.median() < 0.05
    assert (error < (0.05 if normals == "density" else 0.3)).all()


def test_depth_of_a_thin_fog_is_the_middle_of_the_chord_and_its_variance_that_of_a_segment():
    ball, views = Ball(density=0.01), cameras(-70.0)
    image = evaluate(renderer_of(ball), views, depth_variance=True)
    enter, leave = ball.entry_and_exit(*views.rays(24, 24))
    hit = (leave - enter) > 0.3
    depth = (image.depth / image.alpha.clamp(min=1e-9))[..., 0]
    assert torch.allclose(depth[hit], (0.5 * (enter + leave))[hit], atol=5e-3)
    assert image.depth_variance is not None
    segment = (leave - enter).square() / 12
    assert torch.allclose(image.depth_variance[..., 0][hit], segment[hit], rtol=0.05)
    assert not image.depth_variance[..., 0][leave == enter].any()


def test_colour_is_composited_over_the_background():
    ball, views = Ball(density=2.0), cameras(0.0)
    renderer = renderer_of(ball, background=BackgroundConfig(name="solid", color=(0.2, 0.4, 0.6)))
    image = evaluate(renderer, views)
    behind = torch.tensor([0.2, 0.4, 0.6])
    expected = image.alpha * ball.paint + (1 - image.alpha) * behind
    assert torch.allclose(image.rgb, expected, atol=1e-5)
    over_black = evaluate(renderer, views, background=torch.zeros(3))
    assert torch.allclose(over_black.rgb, image.alpha * ball.paint, atol=1e-5)
    picture = torch.rand(1, 24, 24, 3, generator=torch.Generator().manual_seed(0))
    over_picture = evaluate(renderer, views, background=picture)
    assert torch.allclose(over_picture.rgb, over_black.rgb + (1 - image.alpha) * picture)


@pytest.mark.parametrize("normals", ["depth", "density"])
def test_views_rendered_together_equal_views_rendered_alone(normals):
    ball, views = Ball(center=(0.2, 0.1, -0.1)), cameras(0.0, 75.0, 200.0)
    renderer = renderer_of(ball, steps=128, normals=normals)
    shading = headlight(views, "lambertian", 0.3)
    together = evaluate(renderer, views, shading=shading, depth_variance=True)
    for i in range(3):
        one = torch.tensor([i])
        alone = evaluate(renderer, views[one], shading=shading.of(one), depth_variance=True)
        for name in images_of(together):
            assert torch.allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=1e-6)
    first = torch.tensor([0])
    with_jitter = train(renderer, views).alpha[0]
    assert torch.allclose(train(renderer, views[first]).alpha[0], with_jitter, atol=1e-6)


@pytest.mark.parametrize("normals", ["depth", "density"])
def test_chunks_do_not_show(monkeypatch, normals):
    renderer, views = renderer_of(Ball(), steps=128, normals=normals), cameras(10.0, 100.0)
    whole = evaluate(renderer, views, normals=True)
    monkeypatch.setattr(volume, "EVALUATION_RAYS", 50)
    pieces = evaluate(renderer, views, normals=True)
    for name in images_of(whole):
        assert torch.allclose(getattr(whole, name), getattr(pieces, name), atol=1e-6)


def test_leaving_out_what_is_hidden_changes_neither_image_nor_gradient():
    def render_and_differentiate(hidden_share: float) -> tuple[Tensor, Tensor, Tensor]:
        ball = Ball(density=60.0)
        renderer = renderer_of(ball, steps=128)
        renderer.hidden_share.fill_(hidden_share)
        image = train(renderer, cameras(0.0))
        assert renderer.hidden_share == pytest.approx(0.1, abs=0.05)
        (image.rgb * torch.linspace(0, 1, 24)[:, None]).sum().backward()
        assert ball.strength.grad is not None
        assert ball.paint.grad is not None
        return image.rgb.detach(), ball.strength.grad, ball.paint.grad

    everything, visible = render_and_differentiate(0.0), render_and_differentiate(0.9)
    for got, wanted in zip(visible, everything, strict=True):
        assert torch.allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_hidden_samples_are_left_out_once_they_are_many():
    ball = Ball(radius=0.9, density=60.0)
    renderer, sizes = renderer_of(ball, steps=128), []
    ball.density_and_color = lambda points: (
        sizes.append(len(points)) or (ball.density(points), ball.paint.expand_as(points))
    )
    for _ in range(3):
        train(renderer, cameras(0.0), size=8)
    assert renderer.hidden_share > volume.WORTH_PRUNING
    assert sizes[1] < 0.6 * sizes[0]
    assert sizes[2] == sizes[1]
    before = renderer.hidden_share.clone()
    evaluate(renderer, cameras(180.0))
    assert renderer.hidden_share == before


def test_skipping_empty_cells_does_not_change_the_image():
    ball, views = Ball(density=8.0, center=(0.1, -0.2, 0.3)), cameras(0.0, 90.0)
    renderer = renderer_of(ball, steps=128)
    everywhere = evaluate(renderer, views)
    for step in range(0, 1600, 16):
        renderer.update(step, 0.0, torch.Generator().manual_seed(step))
    assert 0.02 < renderer.occupancy.binary.float().mean() < 0.15
    skipping = evaluate(renderer, views)
    # A cell that holds a mere corner of the hard-edged ball may be missed.
    difference = (skipping.rgb - everywhere.rgb).abs()
    assert difference.mean() < 1e-4
    assert difference.max() < 0.1


def test_jitter_changes_samples_but_not_the_mean_image():
    ball, views = Ball(density=4.0), cameras(0.0)
    renderer = renderer_of(ball, steps=64)
    draws = torch.stack([train(renderer, views, size=12, seed=i).alpha for i in range(64)])
    assert draws.std(dim=0).max() > 1e-3
    enter, leave = ball.entry_and_exit(*views.rays(12, 12))
    expected = 1 - torch.exp(-4.0 * (leave - enter))
    assert (draws.mean(dim=0)[..., 0] - expected).abs().max() < 0.03


@pytest.mark.parametrize("normals", ["depth", "density"])
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_that_misses_everything_shows_the_background(training, normals):
    ball = Ball(density=0.0)
    renderer, views = renderer_of(ball, normals=normals), cameras(0.0, 180.0)
    renderer.occupancy.binary.fill_(False)
    image = (train if training else evaluate)(renderer, views, size=8, normals=True)
    assert torch.equal(image.rgb, torch.ones(2, 8, 8, 3))
    assert set(images_of(image)) >= {"rgb", "alpha", "depth", "normal"}
    for name in set(images_of(image)) - {"rgb"}:
        assert not getattr(image, name).any()
    assert image.rgb.requires_grad == training
    if training:
        (image.rgb.sum() + image.alpha.sum() + image.depth.sum()).backward()
        assert ball.strength.grad == 0
        assert not ball.paint.grad.any()


def test_gradients_reach_density_colour_normal_and_background():
    ball, views = Ball(density=2.0), cameras(0.0)
    background = BackgroundConfig(name="learned", random_probability=0.0)
    renderer = renderer_of(ball, steps=128, background=background)
    train(renderer, views).rgb.sum().backward()
    assert ball.strength.grad is not None and ball.strength.grad != 0
    assert ball.paint.grad is not None and (ball.paint.grad > 0).all()
    last_bias = renderer.parameter_groups()["background"][-1]
    assert last_bias.grad is not None and last_bias.grad.any()


def test_orientation_is_zero_for_outward_normals_and_counts_inward_ones():
    views = cameras(0.0)
    outward = Ball(density=500.0)
    inward = Ball(density=500.0)
    inward.normal = lambda points: -outward.normal(points)

    def orientation(ball: Ball) -> Tensor:
        renderer = renderer_of(ball, steps=128, normals="density")
        image = evaluate(renderer, views, normals=True).orientation
        assert image is not None
        return image

    assert orientation(outward).max() < 1e-3
    assert orientation(inward)[0, 12, 12] == pytest.approx(1.0, abs=0.05)
    assert evaluate(renderer_of(outward, steps=128), views, normals=True).orientation is None


@pytest.mark.parametrize("normals", ["depth", "density"])
def test_lit_views_follow_the_light(normals):
    views = cameras(0.0, elevation=0.0)
    renderer = renderer_of(Ball(density=500.0), steps=256, normals=normals)
    from_left = Shading("textureless", torch.tensor([[0.0, -1.0, 0.0]]), torch.tensor([0.1]))
    image = evaluate(renderer, views, shading=from_left, size=48)
    left, right = image.rgb[0, 24, 17], image.rgb[0, 24, 30]
    assert (left > right + 0.2).all()
    assert torch.allclose(right, torch.full((3,), 0.1), atol=0.05)
    painted = evaluate(
        renderer,
        views,
        shading=Shading("lambertian", from_left.light_direction, from_left.ambient),
        size=48,
    )
    solid = image.alpha[..., 0] > 0.999
    paint = torch.tensor([0.9, 0.4, 0.1])
    assert torch.allclose(painted.rgb[solid], image.rgb[solid] * paint, atol=1e-3)


def test_lit_faint_fog_is_as_faint_as_unlit_fog():
    views = cameras(0.0)
    renderer = renderer_of(Ball(density=0.3), steps=128)
    lit = headlight(views, "textureless", 1.0)
    image = evaluate(renderer, views, shading=lit, background=torch.zeros(3))
    assert torch.allclose(image.rgb, image.alpha.expand_as(image.rgb), atol=1e-5)


def test_an_object_at_the_border_of_a_larger_cube_is_where_it_is():
    ball = Ball(radius=0.4, density=100.0, half_extent=2.0, center=(0.0, 1.5, 0.0))
    views = orbit_cameras(
        torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor([6.0]), torch.tensor([50.0])
    )
    alpha = evaluate(renderer_of(ball, steps=256), views, size=32).alpha[0, ..., 0]
    columns = alpha.sum(0)
    middle = (columns * (torch.arange(32) + 0.5)).sum() / columns.sum()
    expected = 16 + 16 * (1.5 / 6.0) / math.tan(math.radians(25))
    assert middle == pytest.approx(expected, abs=0.3)


def test_training_without_a_generator_is_refused():
    views = cameras(0.0)
    with pytest.raises(ValueError, match="generator"):
        VolumeRenderer(Config(), Ball())(views, 4, 4, shading=unlit(views), training=True)


def test_evaluation_returns_no_gradient_and_repeats_itself():
    views = cameras(0.0)
    renderer = renderer_of(Ball(), steps=64, background=BackgroundConfig(name="learned"))
    first, second = (evaluate(renderer, views, size=8, normals=True) for _ in range(2))
    assert torch.equal(first.rgb, second.rgb)
    assert not any(getattr(first, name).requires_grad for name in images_of(first))


def test_the_grid_is_refreshed_only_when_due():
    renderer = VolumeRenderer(Config(occupancy_resolution=16, refresh_every=4), Ball())
    calls = []
    renderer.occupancy.update = lambda *_, **options: calls.append(options["warm_up"])
    for step in range(10):
        renderer.update(step, step / 10, torch.Generator().manual_seed(step))
    assert calls == [True, False, False]


def test_state_round_trip_gives_the_same_image_and_holds_no_field():
    views = cameras(15.0)
    config = BackgroundConfig(name="learned")
    renderer = renderer_of(Ball(), steps=128, background=config)
    fresh = VolumeRenderer(renderer.config, Ball())
    state = renderer.state_dict()
    assert all(key.startswith(("occupancy.", "background.", "hidden_share")) for key in state)
    fresh.load_state_dict(state)
    assert torch.equal(evaluate(fresh, views).rgb, evaluate(renderer, views).rgb)
    assert torch.equal(fresh.occupancy.binary, renderer.occupancy.binary)


@pytest.mark.parametrize(
    "settings",
    [{"steps_per_diagonal": 0}, {"occupancy_resolution": 0}, {"refresh_every": 0}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        Config(**settings)
