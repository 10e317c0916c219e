"""Claims about rendering, differentiating and fitting a hash-grid field."""

import math

import pytest
import torch

from dreamlab.core.cameras import CameraRanges, Cameras, orbit_cameras, sample_cameras
from dreamlab.core.seeds import generator
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.renderers import background, volume
from dreamlab.renderers.shading import headlight, unlit
from dreamlab.renderers.volume import VolumeRenderer
from dreamlab.representations import hashgrid
from dreamlab.representations.hashgrid import HashGridField

GRID = HashGridConfig(num_levels=6, log2_table_size=13, base_resolution=8, finest_resolution=64)
WHITE = background.BackgroundConfig(name="solid")


def view(azimuth: float = 30.0) -> Cameras:
    one = torch.ones(1)
    return orbit_cameras(azimuth * one, 15.0 * one, 3.0 * one, 42.0 * one)


def field_and_renderer(
    steps: int = 96, normals: str = "depth", **settings
) -> tuple[HashGridField, VolumeRenderer]:
    field = hashgrid.build(hashgrid.Config(grid=GRID, **settings), generator(0, "field"))
    config = volume.Config(steps_per_diagonal=steps, normals=normals, background=WHITE)
    renderer = volume.build(config, field)
    renderer.update(0, 0.0, generator(0, "occupancy"))
    return field, renderer


def test_the_blob_looks_like_a_ball_of_about_the_wanted_radius():
    for radius in (0.3, 0.5):
        _, renderer = field_and_renderer(blob_scale=40.0, blob_radius=radius)
        alpha = renderer(view(), 64, 64, shading=unlit(view()), training=False).alpha
        rows = alpha[0, ..., 0].sum(dim=1).max() / 2
        silhouette = 3.0 * math.sin(math.atan(rows / 32 * math.tan(math.radians(21))))
        assert silhouette == pytest.approx(radius, rel=0.12)


@pytest.mark.parametrize("normals", ["depth", "density"])
def test_the_gradient_of_pixels_agrees_with_finite_differences(normals):
    field, renderer = field_and_renderer(normals=normals)
    with torch.no_grad():
        field.features.table += 0.3 * torch.randn(
            field.features.table.shape, generator=generator(1)
        )
    shading = headlight(view(), "lambertian", 0.4)

    def pixels() -> torch.Tensor:
        draws = generator(2, "render")
        image = renderer(view(), 10, 10, shading=shading, training=True, generator=draws)
        return (image.rgb[0, 3:7, 2:8] * torch.tensor([1.0, -2.0, 0.5])).sum()

    pixels().backward()
    for parameter in (field.features.table, *field.density_layers, *field.color_layers):
        direction = torch.randn(parameter.shape, generator=generator(3))
        direction *= 1e-3 / direction.abs().mean()
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * direction
                values.append(pixels().item())
                parameter -= sign * direction
        assert parameter.grad is not None
        expected = (parameter.grad * direction).sum().item()
        assert (values[0] - values[1]) / 2 == pytest.approx(expected, rel=0.05, abs=2e-4)


def test_a_batch_that_misses_the_object_has_zero_gradients_everywhere():
    field, renderer = field_and_renderer()
    renderer.occupancy.binary.fill_(False)
    image = renderer(view(), 8, 8, shading=unlit(view()), training=True, generator=generator(0))
    image.rgb.sum().backward()
    assert torch.equal(image.rgb, torch.ones(1, 8, 8, 3))
    for parameter in field.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()


@pytest.mark.parametrize("normals", ["depth", "density"])
def test_an_empty_batch_that_is_lit_shows_the_background_too(normals):
    _, renderer = field_and_renderer(normals=normals)
    renderer.occupancy.binary.fill_(False)
    shading = headlight(view(), "textureless", 0.1)
    image = renderer(view(), 8, 8, shading=shading, training=True, generator=generator(0))
    image.rgb.sum().backward()
    assert torch.equal(image.rgb, torch.ones(1, 8, 8, 3))


def test_a_ball_is_recovered_from_its_pictures():
    paint, radius = torch.tensor([0.9, 0.4, 0.1]), 0.6
    field, renderer = field_and_renderer()
    groups = field.parameter_groups()
    optimiser = torch.optim.Adam(
        [{"params": groups["table"], "lr": 1e-2}, {"params": groups["mlp"], "lr": 1e-2}],
        betas=(0.9, 0.99),
        eps=1e-15,
    )

    def silhouette(cameras: Cameras) -> torch.Tensor:
        origins, directions = cameras.rays(32, 32)
        closest = torch.linalg.cross(origins, directions).norm(dim=-1, keepdim=True)
        return ((radius - closest) / 0.06 + 0.5).clamp(0, 1)

    for step in range(100):
        draws = generator(0, "fit", step)
        cameras, behind = sample_cameras(CameraRanges(), 1, draws), torch.rand(3, generator=draws)
        renderer.update(step, step / 100, draws)
        image = renderer(
            cameras,
            32,
            32,
            shading=unlit(cameras),
            training=True,
            generator=draws,
            background=behind,
        )
        target = behind + silhouette(cameras) * (paint - behind)
        loss = (image.rgb - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    unseen = view(77.0)
    image = renderer(unseen, 32, 32, shading=unlit(unseen), training=False)
    truth, shape = silhouette(unseen) > 0.5, image.alpha > 0.5
    assert (truth & shape).sum() / (truth | shape).sum() > 0.9
    color = image.rgb[(truth & shape)[..., 0]].mean(dim=0)
    assert torch.allclose(color, paint, atol=0.05)
