"""Claims about what may be asked for from outside."""

import pytest

from dreamlab.core.errors import InputError
from dreamlab.jobs.queue.wish import MAX_CHARACTERS, MAX_SETTINGS, Changes, Wish

PLACES = [
    {"stages.texture.start_from": "/etc/passwd"},
    {"stages.texture.start_from": "model.glb"},
    {"stages[texture].start_from": "model.glb"},
    {"stages.texture": {"start_from": "model.glb"}},
    {"stages.texture": [{"start_from": "model.glb"}]},
    {"prior.model": "../models/mine"},
    {"prior.model": "owner/name"},
    {"prior.model": "~"},
    {"layout": "scene.yaml"},
    {"layout": {"boxes": "a/b"}},
    {"stages.texture.guidance.name": "os.path"},
    {"stages.texture.guidance": {"name": "antigravity.x"}},
    {"stages.texture.anything": "C:\\secrets"},
    {"stages.texture.anything": ["ok", "/etc/passwd"]},
]
MALFORMED = [
    {"export.max_faces": float("nan")},
    {"export.max_faces": float("inf")},
    {"export.height": [1.0, float("-inf")]},
    {"export.formats": "${oc.env:HOME}"},
    {"export.${x}": 1},
    {"export.formats": ["${oc.env:HOME}"]},
    {"prompt": "another"},
    {"max_faces": 3},
    {"": 3},
    {".": 3},
    {"a..b": 3},
    {"a.b": "x" * (MAX_CHARACTERS + 1)},
    {f"a.k{i}": i for i in range(MAX_SETTINGS + 1)},
    {"a.b": {"c": object()}},
]


@pytest.mark.parametrize("settings", PLACES + MALFORMED)
def test_settings_that_are_more_than_settings_are_refused(settings):
    with pytest.raises(InputError):
        Wish("a ball", settings=settings).row()
    with pytest.raises(InputError):
        Changes(settings=settings).overrides()


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.getcwd []", "!!python/name:os.system", "&a [*a]"]
)
def test_text_stays_text_whatever_it_would_be_in_yaml(tag):
    """JSON text is quoted, so neither a tag nor an alias of YAML is ever seen."""
    if "/" in tag:
        with pytest.raises(InputError, match="may name a file"):
            Wish("a ball", settings={"export.unwrap": tag}).row()
    else:
        assert Wish("a ball", settings={"export.unwrap": tag}).row().settings == {
            "export.unwrap": f'"{tag}"'
        }


@pytest.mark.parametrize("recipe", ["/etc/passwd.yaml", "../toybox.yaml", "toybox.yaml", ""])
def test_a_recipe_is_one_that_comes_with_dreamlab(recipe):
    with pytest.raises(InputError, match="unknown recipe"):
        Wish("a ball", recipe=recipe).row()


@pytest.mark.parametrize("layout", [None, "auto", "prompt", {"boxes": []}])
def test_whether_there_are_boxes_may_be_asked_for(layout):
    assert list(Wish("a ball", settings={"layout": layout}).row().settings) == ["layout"]


def test_what_is_asked_for_becomes_a_row():
    wish = Wish(
        "a ball", "blurry", seed=3, settings={"export.max_faces": 500, "export.formats": ["glb"]}
    )
    row = wish.row()
    assert (row.prompt, row.negative_prompt, row.seed, row.quality) == (
        "a ball",
        "blurry",
        3,
        "standard",
    )
    assert row.overrides == ("export.max_faces=500", 'export.formats=["glb"]')
    assert Wish("a ball", settings={"stages.x.start_from": "previous"}).row().error is None
