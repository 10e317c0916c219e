"""Claims about which components fit together: what is said before a run is what it would do."""

from dataclasses import replace

import pytest

from dreamlab.core.errors import InputError
from dreamlab.systems import components
from dreamlab.systems.fitting import check_object, check_rule, renderers_of
from dreamlab.systems.settings import PREVIOUS, StageConfig

SPLATS = {"name": "gaussians", "count": 20}
MESH = {"name": "dmtet", "resolution": 8}
RULE = {"name": "sds"}


def stage(representation: dict, renderer: str, guidance=RULE, **more) -> StageConfig:
    made = StageConfig(
        1, guidance, representation=representation, renderer={"name": renderer}, **more
    )
    return made.resolved()


def test_every_representation_has_a_renderer_that_shows_it():
    shown = {name: renderers_of(name) for name in components.available("representations")}
    assert all(shown.values())
    assert shown["gaussians"] == ("splat",) and shown["dmtet"] == ("mesh",)
    assert shown["image"] == shown["latent_image"] == ("flat",)


def test_a_stage_is_refused_that_its_renderer_or_its_losses_do_not_fit():
    stages = {"a": stage(SPLATS, "splat"), "b": stage(MESH, "mesh", start_from=PREVIOUS)}
    for name in stages:
        check_object(stages, name)
    with pytest.raises(InputError, match="no triangles"):
        check_object({"a": stage(SPLATS, "mesh")}, "a")
    wrong = replace(stages["a"], losses={"sign_changes": 1.0})
    with pytest.raises(InputError, match="sign_changes"):
        check_object({"a": wrong}, "a")


def test_a_stage_is_refused_that_the_one_after_it_cannot_take_over():
    after = stage(MESH, "mesh", start_from=PREVIOUS)
    stages = {"a": stage({"name": "image", "size": 8}, "flat"), "b": after}
    for name in stages:
        with pytest.raises(InputError, match="no surface"):
            check_object(stages, name)
    picture = stage({"name": "image", "size": 8}, "flat", start_from=PREVIOUS)
    with pytest.raises(InputError, match="cannot become a image"):
        check_object({"a": stage(MESH, "mesh"), "b": picture}, "b")


def test_a_rule_that_compares_needs_something_to_compare_with():
    rule = {"name": "dds", "reference_prompt": "a ball"}
    with pytest.raises(InputError, match="starts afresh"):
        check_rule({"a": stage(SPLATS, "splat", rule)}, "a")
    latents = stage({"name": "latent_image"}, "flat", rule, start_from="a.glb")
    with pytest.raises(InputError, match="latents"):
        check_rule({"a": latents}, "a")
    check_rule({"a": stage(SPLATS, "splat", rule, start_from="a.glb")}, "a")
