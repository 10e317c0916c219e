"""Claims about mesh rendering, against rays and closed forms."""

import math

import pytest
import torch
from triangle_views import sphere

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Material
from dreamlab.core.triangles import Triangles
from dreamlab.ops.triangles.raycast import render_mesh
from dreamlab.renderers import mesh as mesh_renderer
from dreamlab.renderers import volume
from dreamlab.renderers.background import BackgroundConfig
from dreamlab.renderers.mesh import Config, MeshRenderer
from dreamlab.renderers.pbr import EnvironmentConfig, sample_surroundings, shade_material
from dreamlab.renderers.shading import Shading, headlight, unlit

SOLID_WHITE = Config(background=BackgroundConfig(name="solid"))


class Ball:
    """A ball of triangles, coloured by position."""

    half_extent = 1.0

    def __init__(self, radius=0.6, subdivisions=5):
        vertices, self.tri = sphere(subdivisions)
        self.vertices = (radius * vertices).requires_grad_()
        self.paint = torch.tensor([0.5, 0.4, 0.3], requires_grad=True)

    def triangles(self):
        return Triangles(self.vertices, self.tri)

    def albedo(self, points):
        return self.paint + 0.5 * points


class ShinyBall(Ball):
    """The same with a material."""

    has_material = True

    def __init__(self, **options):
        super().__init__(**options)
        self.surface = torch.tensor([0.3, 0.4], requires_grad=True)
        self.bumps = torch.tensor([0.1, 0.2, 0.0], requires_grad=True)

    def material(self, points):
        metallic, roughness = self.surface.expand(len(points), 2).split(1, dim=1)
        return Material(self.albedo(points), metallic, roughness, self.bumps.expand_as(points))


def in_neutral_light(cameras):
    light = EnvironmentConfig(name="neutral", scale=0.8)
    around = sample_surroundings(light, cameras, torch.Generator().manual_seed(0))
    return Shading("pbr", torch.zeros(len(cameras), 3), torch.ones(len(cameras)), around)


def views(count=2):
    return turntable_cameras(count, elevation=20.0, distance=3.0, fov_y=40.0)


def draw(shape, cameras, size=48, config=SOLID_WHITE, **options):
    shading = options.pop("shading", unlit(cameras))
    renderer = MeshRenderer(config, shape)
    return renderer(cameras, size, size, shading=shading, training=False, **options)


def test_pictures_are_those_of_rays():
    ball, cameras = Ball(), views()
    seen = draw(ball, cameras, normals=True)
    mesh = ball.triangles().to_mesh()
    rays = render_mesh(mesh, cameras, 48, 48, supersample=4)
    assert (seen.alpha - rays.alpha).abs().mean() < 0.003
    assert (seen.depth - rays.depth).abs().mean() < 0.01
    inside = (rays.alpha == 1)[..., 0] & (seen.alpha == 1)[..., 0]
    assert inside.float().mean() > 0.1
    assert (seen.depth - rays.depth)[inside].abs().max() < 0.02
    assert (seen.normal[inside] * rays.normal[inside]).sum(-1).min() > 0.97
    points = cameras.rays(48, 48)[0] + seen.depth * cameras.rays(48, 48)[1]
    torch.testing.assert_close(seen.rgb[inside], ball.albedo(points)[inside], atol=1e-4, rtol=0)
    assert (seen.rgb[rays.alpha[..., 0] == 0].mean()).item() == pytest.approx(1, abs=0.01)


def test_a_look_tells_triangles_positions_and_normals_of_pixels():
    ball, cameras = Ball(subdivisions=3), views()
    seen = MeshRenderer(SOLID_WHITE, ball).look(cameras, 32, 40)
    render = MeshRenderer(SOLID_WHITE, ball)(
        cameras, 32, 40, shading=unlit(cameras), training=False, normals=True
    )
    covered = seen.face >= 0
    assert seen.face.max() < len(ball.tri) and not seen.position[~covered].any()
    # the point lies in the plane of its triangle and within it
    corners = ball.vertices[ball.tri[seen.face[covered]]]
    weights = torch.linalg.solve(corners.mT, seen.position[covered][..., None])[..., 0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(weights)), atol=1e-4, rtol=0)
    assert weights.min() > -1e-4
    inside = (render.alpha == 1)[..., 0]
    origins = cameras.rays(32, 40)[0]
    distance = (seen.position - origins).norm(dim=-1, keepdim=True)
    close = (distance - render.depth).abs()[inside] < 1e-4
    assert close.float().mean() > 0.9  # but where antialiasing mixes two triangles
    assert render.normal is not None
    assert (seen.normal * render.normal).sum(-1)[inside].min() > 0.97
    seen.position.square().sum().backward()
    assert ball.vertices.grad is not None and ball.vertices.grad.any()


def test_the_outline_is_blended_with_the_background():
    ball, cameras = Ball(), views(1)
    white, black = (draw(ball, cameras, background=torch.full((3,), value)) for value in (1.0, 0.0))
    torch.testing.assert_close(white.rgb - black.rgb, (1 - white.alpha).expand_as(white.rgb))
    edge = (white.alpha > 0) & (white.alpha < 1)
    assert 20 < edge.sum() < 200


def test_a_headlight_darkens_towards_the_outline():
    cameras = views(1)
    lit = draw(Ball(), cameras, shading=headlight(cameras, "textureless", 0.2))
    assert lit.normal is not None
    middle = lit.rgb[0, 24, 24]
    torch.testing.assert_close(middle, torch.ones(3), atol=0.02, rtol=0)
    covered = lit.alpha[0, ..., 0] == 1
    lambert = 0.2 + 0.8 * (
        lit.normal[0][covered] @ torch.nn.functional.normalize(cameras.position[0], dim=-1)
    ).clamp(min=0)
    torch.testing.assert_close(lit.rgb[0][covered][:, 0], lambert, atol=1e-4, rtol=0)


def test_physically_based_pictures_are_the_material_in_the_light_of_each_view():
    ball, cameras = ShinyBall(), views()
    shading = in_neutral_light(cameras)
    seen = draw(ball, cameras, shading=shading)
    assert seen.normal is not None and shading.surroundings is not None
    inside = seen.alpha[..., 0] == 1
    view_of = torch.nonzero(inside)[:, 0]
    origins, directions = (rays[inside] for rays in cameras.rays(48, 48))
    expected = shade_material(
        ball.material(origins + seen.depth[inside] * directions),
        seen.normal[inside],
        -directions,
        shading.surroundings.of(view_of),
    )
    close = (seen.rgb[inside] - expected).abs().amax(dim=1) < 2e-3
    assert close.float().mean() > 0.97  # but where antialiasing mixes two triangles
    assert torch.equal(seen.alpha, draw(ball, cameras).alpha)


def test_physically_based_pictures_have_gradients_to_material_and_shape():
    ball, cameras = ShinyBall(subdivisions=3), views(1)
    generator = torch.Generator().manual_seed(0)
    renderer = MeshRenderer(SOLID_WHITE, ball, generator)
    render = renderer(
        cameras, 24, 24, shading=in_neutral_light(cameras), training=True, generator=generator
    )
    (render.rgb * render.alpha).sum().backward()
    for tensor in (ball.paint, ball.surface, ball.bumps, ball.vertices):
        assert tensor.grad is not None and tensor.grad.isfinite().all()
        assert tensor.grad.abs().max() > 1e-3


def test_a_mesh_without_a_material_is_not_shaded_physically():
    cameras = views(1)
    with pytest.raises(InputError, match="this Ball has no material"):
        draw(Ball(), cameras, shading=in_neutral_light(cameras))


def test_gradients_reach_shape_paint_and_background():
    ball, cameras = Ball(subdivisions=3), views(1)
    generator = torch.Generator().manual_seed(0)
    config = Config(background=BackgroundConfig(name="learned", random_probability=0.0))
    renderer = MeshRenderer(config, ball, generator)
    render = renderer(cameras, 24, 24, shading=unlit(cameras), training=True, generator=generator)
    (grown,) = torch.autograd.grad(render.alpha.sum(), ball.vertices, retain_graph=True)
    assert (grown * ball.vertices).sum() > 0  # outwards is more
    (render.rgb.square().sum()).backward()
    assert ball.paint.grad.abs().min() > 0
    assert set(renderer.parameter_groups()) == {"background"}
    assert any(p.grad is not None and p.grad.any() for p in renderer.parameters())


def test_evaluation_has_no_gradient_and_views_are_independent():
    ball, cameras = Ball(subdivisions=3), views(3)
    together = draw(ball, cameras, size=20)
    assert not together.rgb.requires_grad
    alone = [draw(ball, cameras[i : i + 1], size=20).rgb for i in range(3)]
    torch.testing.assert_close(together.rgb, torch.cat(alone))


def test_wide_pictures_keep_a_ball_round():
    cameras = views(1)
    renderer = MeshRenderer(SOLID_WHITE, Ball())
    alpha = renderer(cameras, 30, 50, shading=unlit(cameras), training=False).alpha[0, ..., 0]
    rows, columns = (alpha.sum(axis) for axis in (1, 0))
    assert rows.max().item() == pytest.approx(columns.max().item(), abs=1.0)
    expected = math.asin(0.6 / 3)
    radius = math.tan(expected) / math.tan(math.radians(20)) * 15
    assert columns.max().item() / 2 == pytest.approx(radius, abs=0.6)


def test_no_triangles_show_the_background():
    ball = Ball()
    ball.tri = ball.tri[:0]
    render = draw(ball, views(1), size=8)
    assert not render.alpha.any() and (render.rgb == 1).all()


def test_a_renderer_names_what_it_cannot_draw():
    with pytest.raises(InputError, match="cannot draw a object, which has no triangles"):
        mesh_renderer.build(Config(), object())
    with pytest.raises(InputError, match="cannot draw a Ball, which has no density"):
        volume.build(volume.Config(), Ball())


def test_training_needs_a_generator():
    cameras = views(1)
    with pytest.raises(ValueError, match="generator"):
        MeshRenderer(Config(), Ball())(
            cameras,
            8,
            8,
            shading=Shading("albedo", torch.zeros(1, 3), torch.ones(1)),
            training=True,
        )
