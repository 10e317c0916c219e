"""The catalogue is large enough, unambiguous, and its fronts can be told from its backs."""

import numpy as np
import pytest
import torch

from dreamlab.core.cameras import orbit_cameras
from dreamlab.priors.toybox.world.captions import _plurals, _singulars
from dreamlab.priors.toybox.world.objects.catalogue import (
    CATALOGUE,
    COMPOSITE_NAMES,
    OBJECTS,
    PRIMITIVE_NAMES,
)
from dreamlab.priors.toybox.world.objects.parts import Part, mirrored
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import Item, Scene, pack
from dreamlab.priors.toybox.world.tracer import trace


def test_the_catalogue_has_enough_primitives_composites_and_fronts() -> None:
    assert len(PRIMITIVE_NAMES) >= 12
    assert len(COMPOSITE_NAMES) >= 40
    fronts = sum(OBJECTS[name].has_front for name in COMPOSITE_NAMES)
    assert 2 * fronts >= len(COMPOSITE_NAMES)


def test_no_noun_means_two_objects() -> None:
    nouns = [noun for kind in CATALOGUE for noun in {*_singulars(kind), *_plurals(kind)}]
    assert len(nouns) == len(set(nouns))


def test_natural_colors_can_be_named() -> None:
    assert {kind.natural for kind in CATALOGUE} <= {None, *COLORS}


@pytest.mark.parametrize("name", list(OBJECTS))
def test_every_object_shows_its_main_color(name: str) -> None:
    # the main colour covers at least an eighth of what is seen from the front and the side
    images = _look(name, "purple", [30.0, 100.0])
    purple = np.array(COLORS["purple"])
    seen = images.alpha[..., 0].numpy() == 1
    albedo = images.rgb.numpy()[seen]
    assert (np.abs(albedo - purple).max(-1) < 0.02).mean() > 0.125


@pytest.mark.parametrize("name", [kind.name for kind in CATALOGUE if kind.has_front])
def test_fronts_differ_from_backs(name: str) -> None:
    front, back = _look(name, "red", [0.0, 180.0]).rgb.numpy()
    seen = max(int((image < 0.99).any(-1).sum()) for image in (front, back))
    # a symmetric object looks the same from behind after a flip
    changed = (np.abs(front - back[:, ::-1]).max(-1) > 0.15).sum()
    assert changed > 0.04 * seen


def test_mirroring_a_part_reflects_its_outline() -> None:
    part = Part("wedge", (0.3, 0.2, 0.1), (0.5, 0.2, 0.3), rotation=(20.0, 30.0, 40.0))
    one, other = (np.array(sorted(p.outline().round(9).tolist())) for p in mirrored(part))
    reflected = np.array(sorted((one * [1, -1, 1]).round(9).tolist()))
    np.testing.assert_allclose(other, reflected, atol=1e-8)


@pytest.mark.parametrize(
    "wrong", [{"shape": "blob"}, {"paint": "mauve"}, {"size": (1.0, 0.0, 1.0)}]
)
def test_a_part_that_cannot_be_drawn_is_refused(wrong: dict) -> None:
    right = {"shape": "box", "center": (0, 0, 0), "size": (1.0, 1.0, 1.0)}
    with pytest.raises(ValueError, match="must be"):
        Part(**(right | wrong))


def _look(name: str, color: str, azimuths: list[float]):
    n = len(azimuths)
    ones = torch.ones(n)
    cameras = orbit_cameras(torch.tensor(azimuths), 15 * ones, 3 * ones, 40 * ones)
    return trace(
        pack([Scene((Item(name, color),))]),
        cameras,
        size=48,
        light=torch.tensor([[0.0, 0.0, 1.0]]).repeat(n, 1),
        ambient=ones,  # no shading: rgb is the albedo
        background=torch.ones(n, 3),
    )
