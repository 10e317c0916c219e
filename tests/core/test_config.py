"""Claims about configuration: merging, building, refusing, and never failing in another way."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamlab.core.config import (
    build,
    dump_yaml,
    field_docs,
    load_yaml,
    merge,
    parse_dotlist,
    to_plain,
)
from dreamlab.core.errors import InputError
from dreamlab.core.schedules import Scalar, Schedule


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    rate: Scalar = 0.1
    """How fast."""
    kind: Literal["round", "square"] = "round"
    """Which shape,
    on two lines."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outer:
    steps: int
    """How many."""
    name: str = "untitled"
    flag: bool = False
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    listed: list[str] = dataclasses.field(default_factory=list)
    level: Literal[0, 1, 2] = 0
    path: Path | None = None
    size: int | str = 1
    weights: dict[str, Scalar] = dataclasses.field(default_factory=dict)
    inner: Inner = dataclasses.field(default_factory=Inner)
    free: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps must not be negative, got {self.steps}")


FULL = {
    "steps": 3,
    "name": "a ∆ name",
    "flag": True,
    "pair": [1, 2.5],
    "many": [1, 2, 3],
    "listed": ["x"],
    "level": 1,
    "path": "some/where",
    "size": "auto",
    "weights": {"opacity": {"from": 0, "to": 1, "end": 0.5}, "sds": 2},
    "inner": {"rate": {"from": 1.0, "to": 0.1, "ease": "log"}, "kind": "square"},
    "free": {"name": "anything", "deep": {"list": [1, None, "x"]}},
}


def test_every_kind_of_field_is_built_from_plain_values():
    built = build(Outer, FULL)
    assert built.pair == (1.0, 2.5) and isinstance(built.pair[0], float)
    assert built.many == (1, 2, 3)
    assert built.level == 1 and built.path == Path("some/where") and built.size == "auto"
    assert built.weights == {"opacity": Schedule(0.0, 1.0, end=0.5), "sds": 2.0}
    assert built.inner == Inner(Schedule(1.0, 0.1, ease="log"), "square")


def test_a_built_configuration_written_as_yaml_builds_the_same_again(tmp_path):
    built = build(Outer, FULL)
    path = tmp_path / "config.yaml"
    path.write_text(dump_yaml(to_plain(built)), encoding="utf-8")
    assert build(Outer, load_yaml(path)) == built


def test_missing_keys_take_the_defaults():
    assert build(Outer, {"steps": 1}) == Outer(1)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"steps": 1, "nmae": "x"}, ["'nmae'", "'name'"]),
        ({"steps": 1, "inner": {"rat": 1}}, ["'inner.rat'", "'rate'"]),
        ({"steps": 1, "inner": {"rate": {"form": 1, "to": 2}}}, ["'inner.rate.form'", "'from'"]),
        ({"steps": 1, "inner": {"rate": {"from": 1}}}, ["inner.rate.stop", "missing"]),
        ({}, ["'steps'", "missing"]),
        ({"steps": "many"}, ["steps", "a whole number", "'many'"]),
        ({"steps": True}, ["steps", "a whole number"]),
        ({"steps": 1.0}, ["steps", "a whole number"]),
        ({"steps": -1}, ["must not be negative", "-1"]),
        ({"steps": 1, "flag": 1}, ["flag", "true or false"]),
        ({"steps": 1, "pair": [1]}, ["pair", "2 values"]),
        ({"steps": 1, "pair": 1}, ["pair", "a list"]),
        ({"steps": 1, "pair": [1, "x"]}, ["pair[1]", "a number"]),
        ({"steps": 1, "level": 3}, ["level", "0, 1, 2"]),
        ({"steps": 1, "level": True}, ["level"]),
        ({"steps": 1, "inner": {"kind": "rond"}}, ["inner.kind", "'round'"]),
        ({"steps": 1, "inner": {"rate": float("nan")}}, ["inner.rate", "finite"]),
        ({"steps": 1, "inner": {"rate": 10**400}}, ["inner.rate"]),
        ({"steps": 10**5000}, ["steps"]),
        ({"steps": 1, "inner": {"rate": {"from": 1, "to": 2, "end": 500}}}, ["fractions"]),
        ({"steps": 1, "inner": 3}, ["inner", "mapping"]),
        ({"steps": 1, "weights": {"a": None}}, ["weights.a"]),
    ],
)
def test_what_cannot_be_built_is_refused_by_its_full_name(content, words):
    with pytest.raises(InputError) as caught:
        build(Outer, content)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_a_nested_configuration_of_a_component_is_named_with_its_path():
    with pytest.raises(InputError, match=r"stages\.nerf\.renderer\.rat"):
        build(Inner, {"rat": 1}, where="stages.nerf.renderer")


def test_later_layers_win_mappings_merge_and_lists_are_replaced():
    merged = merge({"a": {"x": 1, "y": [1, 2]}, "b": 1}, {"a": {"y": [3]}}, {"b": 2})
    assert merged == {"a": {"x": 1, "y": [3]}, "b": 2}


def test_merging_changes_none_of_its_layers():
    first, second = {"a": {"x": 1}}, {"a": {"x": 2}}
    merge(first, second)
    assert first == {"a": {"x": 1}}


def test_dotted_assignments_become_a_nested_mapping_of_yaml_values():
    assignments = ["stages.nerf.steps=300", "name=a b", "pair=[1, 2.5]", "inner.rate={from: 1}"]
    assert parse_dotlist(assignments) == {
        "stages": {"nerf": {"steps": 300}},
        "name": "a b",
        "pair": [1, 2.5],
        "inner": {"rate": {"from": 1}},
    }


def test_a_value_may_hold_equals_signs():
    assert parse_dotlist(["name=a=b"]) == {"name": "a=b"}


@pytest.mark.parametrize("bad", ["steps", "=3", ".=3", "a..b=3", "a=[1", "a={b", "a=${c}", "[=3"])
def test_a_malformed_assignment_is_refused_by_name(bad):
    with pytest.raises(InputError) as caught:
        parse_dotlist([bad])
    assert caught.value.fix


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(InputError, match="cannot read"):
            load_yaml(path)


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2",
        "- 1\n- 2",
        "just text",
        "1",
        "3: 4",
        "a: 1\na: 2",
        "a: ${missing}",
        "a: ${oc.env:HOME}",
        "${oc.env:HOME}: 1",
        "a: 1\nb: ${a}",
        "a: !!python/object/apply:os.getcwd []",
        "a: 2001-01-01",
        "a: " + "[" * 3000,
        "a: " + "[" * 300 + "]" * 300,
        "a: &a [*a]",
        BOMB,
        "\x00",
        "a: \ud800",
        "a: 0x" + "f" * 6000,
    ],
    ids=lambda text: text[:20],
)
def test_hostile_yaml_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError) as caught:
        build(Outer, load_yaml(path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@settings(FUZZ, max_examples=60)
@given(st.text(max_size=200))
def test_any_text_builds_or_is_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "config.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    built_or_refused(lambda: load_yaml(path))


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.binary()
)
KEYS = st.sampled_from([f.name for f in dataclasses.fields(Outer)]) | st.text(max_size=8)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6), inner, max_size=4)
        | st.dictionaries(st.sampled_from(["rate", "kind", "from", "to", "ease"]), inner)
    ),
    max_leaves=12,
)


@settings(FUZZ, max_examples=60)
@given(st.dictionaries(KEYS, TREES, max_size=6), st.dictionaries(KEYS, TREES, max_size=3))
def test_any_two_layers_build_or_are_refused(first, second):
    built_or_refused(lambda: merge({"steps": 1}, first, second))


@settings(FUZZ, max_examples=60)
@given(st.lists(st.text(max_size=30) | st.builds("{}={}".format, KEYS, st.text(max_size=20))))
def test_any_assignments_build_or_are_refused(assignments):
    built_or_refused(lambda: parse_dotlist(assignments))


def built_or_refused(load: Any) -> None:
    """Claim that loading and building gives an Outer that round-trips, or an InputError."""
    try:
        built = build(Outer, load())
    except InputError as error:
        assert error.message and error.fix
    else:
        assert isinstance(built, Outer)


def test_field_docs_are_read_from_the_source():
    assert field_docs(Inner) == {"rate": "How fast.", "kind": "Which shape, on two lines."}
    assert field_docs(Outer) == {"steps": "How many."}


def test_written_yaml_keeps_the_order_of_the_keys():
    text = dump_yaml({"b": 1, "a": {"z": 2, "y": [1]}})
    assert text == textwrap.dedent(
        """\
        b: 1
        a:
          z: 2
          'y':
          - 1
        """
    )
