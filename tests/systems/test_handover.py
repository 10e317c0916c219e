"""What a surface painted on a hash grid takes over from another one, and what it does not."""

from typing import Any

import pytest
import torch
from torch import Tensor
from toy_run import toy_stage

from dreamlab.core.errors import InputError
from dreamlab.representations import painted
from dreamlab.representations.dmtet import TetrahedralMesh
from dreamlab.representations.painted import Painted
from dreamlab.representations.textured_mesh import TexturedMesh
from dreamlab.systems.handover import continue_from, way_to_continue
from dreamlab.systems.stage import Stage

GRID = {"num_levels": 4, "log2_table_size": 10, "finest_resolution": 24}
DMTET = {"name": "dmtet", "resolution": 8, "grid": GRID}
TEXTURED = {"name": "textured_mesh", "grid": GRID}
POINTS = 1.6 * torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) - 0.8
BRIGHT = {"metallic": [0.0, 1.0], "roughness": [0.0, 1.0]}


@pytest.fixture
def nothing_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(painted, "fit_colors", lambda *_, **__: pytest.fail("colours were fitted"))


def stage(representation: dict[str, Any], name: str = "fine", **changes: Any) -> Stage:
    renderer = {"name": "mesh", "background": {"name": "solid"}}
    config = toy_stage(representation=representation, renderer=renderer, losses={}, **changes)
    return Stage(name, config, None, seed=0, device=torch.device("cpu"))


def surface(made: Stage) -> Any:
    assert isinstance(made.representation, Painted)
    return made.representation


def trained(representation: dict[str, Any]) -> Stage:
    """A stage whose surface and colours are no longer those of the beginning."""
    made = stage(representation, "coarse")
    shape, draw = surface(made), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for group in shape.paint_groups().values():
            for parameter in group:
                parameter.normal_(generator=draw)
        offset = shape.offset if isinstance(shape, TetrahedralMesh) else shape.body.offset
        offset.normal_(generator=draw)
        if isinstance(shape, TetrahedralMesh) and shape.field is not None:
            shape.field.layers[1].normal_(std=0.05, generator=draw)
        if isinstance(shape, TetrahedralMesh):
            shape.distance.copy_((shape.grid.positions - 0.1).norm(dim=1) - 0.55)
    shape.set_progress(1.0)
    return made


def vertices(made: Stage) -> Tensor:
    with torch.no_grad():
        return surface(made).triangles().vertices.clone()


def assert_same_colors(made: Stage, before: Stage) -> None:
    expected = surface(before).color_at(POINTS)
    assert torch.equal(surface(made).color_at(POINTS), expected) and expected.std() > 0.05


def assert_middle(values: Tensor) -> None:
    torch.testing.assert_close(values, torch.full_like(values, 0.5))


@pytest.mark.usefixtures("nothing_fitted")
@pytest.mark.parametrize("representation", [DMTET, TEXTURED | {"reach": 0.1}])
def test_a_material_that_is_added_changes_neither_shape_nor_colours(representation: dict) -> None:
    before, after = trained(representation), stage(representation | {"material": BRIGHT})
    assert way_to_continue(after, before) == "take over"
    continue_from(after, before)
    assert torch.equal(vertices(after), vertices(before))
    theirs = surface(before).state_dict()
    for name, tensor in surface(after).state_dict().items():
        assert name == "material_layer" or torch.equal(tensor, theirs[name]), name
    assert_same_colors(after, before)
    material = surface(after).material(POINTS)
    assert_middle(material.metallic)
    assert_middle(material.roughness)
    cameras = before.view_around(2)
    assert torch.equal(after.render(cameras, 16, 16).rgb, before.render(cameras, 16, 16).rgb)


@pytest.mark.usefixtures("nothing_fitted")
def test_on_a_finer_grid_colours_and_material_are_exact_and_bumps_begin_at_zero() -> None:
    before = trained(DMTET | {"material": BRIGHT})
    after = stage(DMTET | {"resolution": 12, "material": BRIGHT | {"bump": 0.5}})
    continue_from(after, before)
    assert_same_colors(after, before)
    mine, theirs = (surface(made).material(POINTS) for made in (after, before))
    torch.testing.assert_close(mine.metallic, theirs.metallic)
    torch.testing.assert_close(mine.roughness, theirs.roughness)
    assert theirs.metallic.std() > 0.05 and not mine.bump.any() and theirs.bump is None
    gap = torch.cdist(vertices(after), vertices(before)).amin(dim=1)
    assert gap.max() < 0.6 * surface(before).grid.spacing


@pytest.mark.usefixtures("nothing_fitted")
def test_a_textured_mesh_takes_triangles_and_colours_of_a_tetrahedral_one_as_they_are() -> None:
    before, after = trained(DMTET), stage(TEXTURED | {"material": {}})
    continue_from(after, before)
    assert torch.equal(vertices(after), vertices(before))
    assert torch.equal(surface(after).body.tri, surface(before).triangles().tri.long())
    assert_same_colors(after, before)


@pytest.mark.usefixtures("nothing_fitted")
@pytest.mark.parametrize("reach", [0.0, 0.02])
def test_with_another_reach_vertices_stay_where_they_are_and_begin_anew(reach: float) -> None:
    before, after = trained(TEXTURED | {"reach": 0.1}), stage(TEXTURED | {"reach": reach})
    assert isinstance(after.representation, TexturedMesh)
    continue_from(after, before)
    assert torch.equal(vertices(after), vertices(before))
    assert not surface(after).body.offset.any() and surface(before).body.offset.any()
    assert_same_colors(after, before)


@pytest.mark.usefixtures("nothing_fitted")
@pytest.mark.parametrize(
    ("first", "second"),
    [(None, GRID), (GRID, None), (GRID, GRID | {"finest_resolution": 48})],
    ids=["field for parameters", "parameters for a field", "another field"],
)
def test_distances_of_vertices_and_those_of_a_field_take_over_from_each_other_exactly(
    first: dict | None, second: dict | None
) -> None:
    before = trained(DMTET | {"distance_grid": first})
    after = stage(DMTET | {"distance_grid": second})
    assert way_to_continue(after, before) == "take over"
    continue_from(after, before)
    assert torch.equal(vertices(after), vertices(before))
    assert_same_colors(after, before)


def test_another_deformation_does_not_read_offsets_as_other_places() -> None:
    before, after = trained(DMTET), stage(DMTET | {"deformation": 0.45})
    continue_from(after, before)
    assert not surface(after).offset.any(), "the grid begins unmoved, with the mesh's distances"
    gap = torch.cdist(vertices(after), vertices(before)).amin(dim=1)
    assert gap.max() < 0.6 * surface(before).grid.spacing


@pytest.mark.parametrize(
    "changed", [{"grid": GRID | {"finest_resolution": 48}}, {"hidden_width": 16}]
)
def test_another_hash_grid_is_fitted_to_the_colours_and_nothing_else_is_lost(
    changed: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    monkeypatch.setattr(painted, "fit_colors", lambda *given, **_: fitted.append(given))
    before, after = trained(DMTET), stage(DMTET | changed)
    continue_from(after, before)
    ((_, _, _, color_at),) = fitted
    assert torch.equal(color_at(POINTS), surface(before).color_at(POINTS))
    assert torch.equal(vertices(after), vertices(before))


def test_a_field_that_would_read_the_tensors_as_another_object_is_refused() -> None:
    def field(**changes: Any) -> Stage:
        config = toy_stage(representation=toy_stage().representation | changes)
        return Stage("nerf", config, None, seed=0, device=torch.device("cpu"))

    assert way_to_continue(field(all_levels_at=0.5), field()) == "load"
    with pytest.raises(InputError, match="another blob_radius would make another object"):
        way_to_continue(field(blob_radius=0.6), field())
