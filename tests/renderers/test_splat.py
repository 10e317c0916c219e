"""Claims about the splatting renderer, against closed forms and the mesh of the same ball."""

import math

import numpy as np
import pytest
import torch
import trimesh

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Splats
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.shading import headlight, unlit
from dreamlab.renderers.splat import Config, SplatRenderer, build
from dreamlab.representations.gaussians import Config as GaussianConfig
from dreamlab.representations.gaussians import build as build_gaussians

SOLID_WHITE = Config(background=BackgroundConfig(name="solid"))


class Fixed:
    """Given Gaussians, which note what they are told."""

    def __init__(self, splats):
        self._splats, self.seen = splats, []

    def splats(self):
        return self._splats

    def observe(self, gradient, seen):
        self.seen.append((gradient, seen))


def one(scale=0.1, opacity=0.8, place=(0.0, 0.0, 0.0)):
    parts = (
        torch.tensor([place]),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([[scale, scale, scale]]),
        torch.tensor([opacity]),
        torch.tensor([[0.2, 0.6, 0.4]]),
    )
    return Fixed(Splats(*(part.requires_grad_() for part in parts)))


def views(count=2):
    return turntable_cameras(count, elevation=20.0, distance=3.0, fov_y=40.0)


def evaluate(gaussians, cameras, size=33, **options):
    shading = options.pop("shading", unlit(cameras))
    renderer = SplatRenderer(SOLID_WHITE, gaussians)
    return renderer(cameras, size, size, shading=shading, training=False, **options)


def test_a_gaussian_in_the_middle_has_its_colour_and_distance_there():
    render = evaluate(one(), views(), size=129, depth_variance=True)
    middle = render.alpha[:, 64, 64]
    torch.testing.assert_close(middle, torch.full((2, 1), 0.8), atol=0.02, rtol=0)
    torch.testing.assert_close(render.depth[:, 64, 64], 3 * middle)
    expected = middle * torch.tensor([0.2, 0.6, 0.4]) + (1 - middle)
    torch.testing.assert_close(render.rgb[:, 64, 64], expected)
    assert render.depth_variance is not None and render.depth_variance.max() < 1e-4
    # at a standard deviation from the middle opacity has fallen by exp(-1/2)
    pixels = 0.1 * 129 / 2 / math.tan(math.radians(20)) / 3
    ratio = render.alpha[0, 64, 64 + round(pixels)] / middle[0]
    assert ratio.item() == pytest.approx(
        math.exp(-0.5 * round(pixels) ** 2 / (pixels**2 + 0.3)), 0.02
    )


def test_a_ball_of_flat_gaussians_looks_like_a_ball():
    ball = trimesh.creation.icosphere(subdivisions=4, radius=0.6)
    mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int64))
    generator = torch.Generator().manual_seed(0)
    gaussians = build_gaussians(GaussianConfig(count=3000, max_count=3000), generator)
    gaussians.adopt(mesh, lambda points: points * 0.5 + 0.5)
    cameras = views()
    render = evaluate(gaussians, cameras, size=48, normals=True)
    radius = 24 * math.tan(math.asin(0.6 / 3)) / math.tan(math.radians(20))
    area = render.alpha.sum(dim=(1, 2, 3))
    torch.testing.assert_close(area, torch.full((2,), math.pi * radius**2), rtol=0.15, atol=0)
    origins, directions = cameras.rays(48, 48)
    covered = render.alpha[..., 0] > 0.95
    assert covered.float().mean() > 0.2
    points = origins + directions * render.depth / render.alpha.clamp(min=1e-6)
    assert (points[covered].norm(dim=-1) - 0.6).abs().median() < 0.03
    assert render.normal is not None
    normal = torch.nn.functional.normalize(render.normal[covered], dim=-1)
    outward = torch.nn.functional.normalize(points[covered], dim=-1)
    assert (normal * outward).sum(-1).mean() > 0.95


def test_lit_gaussians_are_darker_where_they_face_away():
    cameras = views(1)
    lit = evaluate(one(), cameras, shading=headlight(cameras, "lambertian", 0.3))
    flat = evaluate(one(), cameras)
    assert lit.normal is not None
    assert (lit.rgb <= flat.rgb + 1e-6).all()


def test_gradients_and_what_the_gaussians_observe():
    gaussians, cameras = one(place=(0.0, 0.2, 0.1)), views(2)
    renderer = SplatRenderer(SOLID_WHITE, gaussians)
    generator = torch.Generator().manual_seed(0)
    render = renderer(cameras, 24, 24, shading=unlit(cameras), training=True, generator=generator)
    weight = torch.linspace(0, 1, 24)[None, None, :, None]
    (render.rgb * weight).sum().backward()
    splats = gaussians.splats()
    for part in (splats.means, splats.scales, splats.opacities, splats.colors):
        assert part.grad is not None and part.grad.any()
    [(gradient, seen)] = gaussians.seen
    assert gradient.shape == (1,) and gradient.item() > 0 and seen.all()


def test_evaluation_is_without_gradient_and_observation():
    gaussians = one()
    assert not evaluate(gaussians, views()).rgb.requires_grad
    assert not gaussians.seen


def test_it_names_what_it_cannot_draw():
    with pytest.raises(InputError, match="has no Gaussians"):
        build(Config(), object())
