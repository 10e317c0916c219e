"""Claims about the material of a painted surface."""

import pytest
import torch
import trimesh

from dreamlab.core.config import build, to_plain
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import HasMaterial
from dreamlab.ops.hashgrid.encode import HashGridConfig
from dreamlab.representations import colors, dmtet, textured_mesh
from dreamlab.representations.painted import MaterialConfig

SMALL = HashGridConfig(log2_table_size=10, num_levels=4, base_resolution=4, finest_resolution=32)
POINTS = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) - 0.5


def small(material=None):
    config = textured_mesh.Config(grid=SMALL, material=material)
    return textured_mesh.build(config, torch.Generator().manual_seed(0))


def test_a_material_begins_in_the_middle_of_its_ranges_without_bumps():
    shape = small(MaterialConfig(metallic=(0.2, 0.6), roughness=(0.1, 0.5), bump=0.5))
    assert isinstance(shape, HasMaterial) and shape.has_material
    material = shape.material(POINTS)
    torch.testing.assert_close(material.metallic, torch.full((200, 1), 0.4))
    torch.testing.assert_close(material.roughness, torch.full((200, 1), 0.3))
    assert material.bump is not None and not material.bump.any()


def test_it_stays_in_its_ranges_whatever_the_parameters():
    shape = small(MaterialConfig(bump=0.3))
    draw = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in shape.paint_groups()["mlp"]:
            parameter.copy_(50 * torch.randn(parameter.shape, generator=draw))
        shape.features.table.normal_(generator=draw)
    material = shape.material(POINTS)
    assert material.bump is not None
    for values, low, high in (
        (material.metallic, 0.0, 0.9),
        (material.roughness, 0.08, 0.9),
        (material.bump, -0.3, 0.3),
    ):
        assert values.min() >= low - 1e-6 and values.max() <= high + 1e-6
        assert values.max() - values.min() > 0.5 * (high - low)


def test_the_albedo_is_the_same_with_and_without_a_material():
    plain, shiny = small(), small(MaterialConfig())
    assert not plain.has_material and plain.state_dict().keys() < shiny.state_dict().keys()
    torch.testing.assert_close(plain.albedo(POINTS), shiny.albedo(POINTS), rtol=0, atol=0)
    torch.testing.assert_close(shiny.material(POINTS).albedo, shiny.albedo(POINTS))
    assert shiny.material(POINTS).bump is None


def test_taking_over_colours_leaves_the_material_in_the_middle(monkeypatch):
    monkeypatch.setattr(colors, "STEPS", 20)
    monkeypatch.setattr(colors, "POINTS", 256)
    ball = trimesh.creation.icosphere(subdivisions=1, radius=0.5)
    mesh = Mesh(ball.vertices.astype("float32"), ball.faces.astype("int64"))
    shape = small(MaterialConfig())
    shape.adopt(mesh, lambda points: torch.full_like(points, 0.8))
    material = shape.material(torch.from_numpy(mesh.vertices))
    assert (material.albedo - 0.8).abs().mean() < 0.2  # from 0.3
    torch.testing.assert_close(material.roughness, torch.full_like(material.roughness, 0.49))


def test_gradients_reach_every_layer():
    shape = dmtet.build(
        dmtet.Config(grid=SMALL, resolution=6, material=MaterialConfig(bump=0.5)),
        torch.Generator().manual_seed(0),
    )
    material = shape.material(POINTS)
    assert material.bump is not None
    channels = (material.albedo, material.metallic, material.roughness, material.bump)
    sum(channel.square().sum() + channel.sum() for channel in channels).backward()
    groups = shape.paint_groups()
    assert all(p.grad is not None and p.grad.any() for p in (*groups["table"], *groups["mlp"]))


@pytest.mark.parametrize(
    "settings", [{"metallic": (0.5, 0.2)}, {"roughness": (0.0, 1.2)}, {"bump": -1.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MaterialConfig(**settings)


def test_settings_survive_a_round_trip():
    for material in (None, {}, {"roughness": [0.3, 0.9], "bump": 1.0}):
        config = build(textured_mesh.Config, {"material": material})
        assert build(textured_mesh.Config, to_plain(config)) == config
        assert (config.material is None) == (material is None)
