"""Claims about the soft masks of a layout's objects, the same for all three renderers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from triangle_views import sphere

from dreamlab.core.cameras import Cameras, orbit_cameras, turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.core.protocols import Splats
from dreamlab.core.regions import Regions
from dreamlab.core.render import Render
from dreamlab.core.triangles import Triangles
from dreamlab.renderers import flat, mesh, splat, volume
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.shading import unlit
from dreamlab.representations.image import Config as ImageConfig
from dreamlab.representations.image import build as build_image

CENTERS = torch.tensor([[0.0, -0.45, 0.0], [0.0, 0.45, 0.0]])
RADIUS = 0.3
COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.1, 0.9]])
LAYOUT = Layout(
    (Box("red", (0.0, -0.45, 0.0), (0.7, 0.7, 0.7)), Box("blue", (0.0, 0.45, 0.0), (0.7, 0.7, 0.7)))
)
WHITE = BackgroundConfig(name="solid")


class TwoBalls:
    """A red ball at -y and a blue one at +y, as a field, as triangles and as Gaussians."""

    half_extent = 1.0

    def __init__(self) -> None:
        self.shift = torch.zeros(3, requires_grad=True)
        self.strength = torch.tensor(30.0, requires_grad=True)

    def density(self, points: Tensor) -> Tensor:
        away = torch.cdist(points - self.shift, CENTERS).amin(dim=1) - RADIUS
        return self.strength * torch.sigmoid(-away / 0.02)

    def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(points), COLORS[(points[:, 1] > 0).long()]

    def normal(self, points: Tensor) -> Tensor:
        return torch.nn.functional.normalize(points, dim=-1)

    def triangles(self) -> Triangles:
        vertices, tri = sphere(3)
        balls = [RADIUS * vertices + center + self.shift for center in CENTERS]
        return Triangles(torch.cat(balls), torch.cat([tri, tri + len(vertices)]))

    def albedo(self, points: Tensor) -> Tensor:
        return COLORS[(points[:, 1] > 0).long()]

    def splats(self) -> Splats:
        points = self.triangles().vertices
        count = len(points)
        return Splats(
            points,
            torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4),
            torch.full((count, 3), 0.04),
            (self.strength / 50).expand(count),
            self.albedo(points),
        )

    def observe(self, gradient: Tensor, seen: Tensor) -> None:
        pass


RENDERERS: dict[str, Callable[[Any], Any]] = {
    "volume": lambda scene: volume.VolumeRenderer(
        volume.Config(steps_per_diagonal=64, background=WHITE), scene
    ),
    "mesh": lambda scene: mesh.MeshRenderer(mesh.Config(background=WHITE), scene),
    "splat": lambda scene: splat.SplatRenderer(splat.Config(background=WHITE), scene),
}
every_renderer = pytest.mark.parametrize("name", RENDERERS)


def draw(
    name: str,
    regions: Regions | None,
    scene: TwoBalls | None = None,
    cameras: Cameras | None = None,
    **options: Any,
) -> Render:
    cameras = cameras or turntable_cameras(3, distance=3.0, fov_y=40.0)
    return RENDERERS[name](scene or TwoBalls())(
        cameras,
        24,
        24,
        shading=unlit(cameras),
        **{"training": True, "generator": torch.Generator().manual_seed(0), **options},
        regions=regions,
    )


@every_renderer
@pytest.mark.parametrize("training", [True, False])
def test_masks_sum_to_the_opacity(name: str, training: bool):
    render = draw(name, Regions.of(LAYOUT), training=training)
    assert render.regions is not None and render.shown == (0, 1)
    assert render.alpha.max() > 0.5
    torch.testing.assert_close(
        render.regions.sum(dim=-1, keepdim=True), render.alpha, atol=1e-5, rtol=0
    )
    assert render.regions.min() > -1e-6


@every_renderer
def test_masks_lie_where_their_colours_are(name: str):
    """The render over white is the mixture of the two paints by their masks."""
    render = draw(name, Regions.of(LAYOUT))
    assert render.regions is not None
    expected = render.regions @ COLORS + (1 - render.alpha)
    # antialiasing, soft Gaussians and the softness of shares all act alike on both sides
    assert (render.rgb - expected).abs().mean() < 2e-3
    front = render.regions[0]
    assert front[:, :12, 0].sum() > 20 * front[:, 12:, 0].sum()
    assert front[:, 12:, 1].sum() > 20 * front[:, :12, 1].sum()


@every_renderer
def test_pictures_are_the_same_with_and_without_a_layout(name: str):
    plain, marked = draw(name, None), draw(name, Regions.of(LAYOUT))
    assert plain.regions is None and plain.excess is None and plain.shown is None
    assert torch.equal(plain.rgb, marked.rgb) and torch.equal(plain.depth, marked.depth)


@every_renderer
def test_one_object_alone_hides_the_other_which_no_longer_occludes(name: str):
    regions = Regions.of(LAYOUT)
    one = torch.ones(1)
    side = orbit_cameras(90 * one, 0 * one, 3 * one, 40 * one)  # blue stands before red
    both = draw(name, regions, cameras=side)
    red = draw(name, regions.only([0]), cameras=side)
    assert both.regions is not None and red.regions is not None and red.shown == (0,)
    assert both.regions[..., 0].sum() < 0.1 * both.regions[..., 1].sum()
    assert (red.regions[..., 1] == 0).all()
    torch.testing.assert_close(red.regions[..., :1], red.alpha, atol=1e-5, rtol=0)
    shown = red.alpha[..., 0] > 0.9
    assert shown.sum() > 10
    assert (red.rgb[shown] - COLORS[0]).abs().max() < 0.1


@pytest.mark.parametrize("training", [True, False])
def test_rays_are_clipped_to_where_the_shown_objects_can_be_and_the_picture_stays(
    training: bool, monkeypatch: pytest.MonkeyPatch
):
    regions = Regions.of(LAYOUT)

    class Asked(TwoBalls):
        def density_and_color(self, points: Tensor) -> tuple[Tensor, Tensor]:
            asked.append(points.detach())
            return super().density_and_color(points)

    def drawn(shown: Regions) -> tuple[Render, Tensor]:
        asked.clear()
        return draw("volume", shown, Asked(), training=training), torch.cat(asked)

    asked: list[Tensor] = []
    _, everywhere = drawn(regions)
    clipped, here = drawn(regions.only([0]))
    assert len(here) < 0.7 * len(everywhere), "half of the cube, and a soft border"
    assert (regions.distances(here)[:, 0] < regions.distances(here)[:, 1] + 0.2).all()
    monkeypatch.setattr(volume, "UNSEEN", -1.0)
    whole, all_points = drawn(regions.only([0]))
    assert len(all_points) == len(everywhere)
    torch.testing.assert_close(clipped.rgb, whole.rgb, atol=1e-3, rtol=0)
    torch.testing.assert_close(clipped.alpha, whole.alpha, atol=1e-3, rtol=0)


@every_renderer
def test_excess_is_nothing_inside_and_leads_back_from_outside(name: str):
    regions = Regions.of(LAYOUT)
    inside = draw(name, regions)
    assert inside.excess is not None and inside.excess.max() < 0.01
    scene = TwoBalls()
    with torch.no_grad():
        scene.shift[0] = 0.5
    outside = draw(name, regions, scene)
    assert outside.excess is not None and outside.excess.max() > 0.2
    outside.excess.mean().backward()
    if name == "volume":  # density outside becomes less
        assert scene.strength.grad is not None and scene.strength.grad > 0
    else:  # places outside move inside
        assert scene.shift.grad is not None and scene.shift.grad[0] > 0


@every_renderer
def test_a_view_does_not_depend_on_the_others_of_its_batch(name: str):
    regions = Regions.of(LAYOUT)
    cameras = turntable_cameras(3, distance=3.0, fov_y=40.0)
    together = draw(name, regions, cameras=cameras, training=False)
    assert together.regions is not None and together.excess is not None
    for i in range(3):
        alone = draw(name, regions, cameras=cameras[i : i + 1], training=False)
        assert alone.regions is not None and alone.excess is not None
        torch.testing.assert_close(alone.regions[0], together.regions[i], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.excess[0], together.excess[i], atol=1e-6, rtol=0)


def test_a_picture_has_no_regions():
    renderer = flat.build(flat.Config(), build_image(ImageConfig(size=8)))
    views = turntable_cameras(1, distance=3.0, fov_y=40.0)
    with pytest.raises(InputError, match="no places for the objects"):
        renderer(views, 8, 8, shading=unlit(views), training=False, regions=Regions.of(LAYOUT))
