"""Claims about batch files: every kind says the same, and mistakes are named by place and key."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamlab.core.errors import InputError
from dreamlab.core.locations import configs_dir
from dreamlab.jobs.batch.files import read_rows
from dreamlab.jobs.batch.rows import Row


@pytest.fixture
def read(tmp_path):
    def write_and_read(name: str, content: str | bytes, **common) -> list[Row]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_rows(path, common)

    return write_and_read


def asked(row: Row) -> tuple:
    return row.prompt, row.seed, row.recipe, row.quality, row.priority, row.settings, row.error


def test_every_kind_of_file_can_say_the_same(read):
    row = {"prompt": "a red, round ball", "seed": 3, "quality": "draft", "export.max_faces": 500}
    yaml = read("a.yaml", f"prompts: [{json.dumps(row)}, a cube]")
    lines = read("a.jsonl", f"{json.dumps(row)}\n\n" + '{"prompt": "a cube"}\n')
    table = read(
        "a.csv",
        'prompt,seed,quality,export.max_faces\r\n"a red, round ball",3,draft,500\r\na cube,,,\r\n',
    )
    assert [*map(asked, yaml)] == [*map(asked, lines)] == [*map(asked, table)]
    assert asked(yaml[0])[:4] == ("a red, round ball", 3, "toybox", "draft")
    assert yaml[0].settings == {"export.max_faces": "500"}


def test_a_text_file_has_a_prompt_a_line(read):
    rows = read("a.txt", "\ufeffa ball\n\n# a remark\n  a cube  \r\n", quality="high")
    assert [(row.prompt, row.where, row.quality) for row in rows] == [
        ("a ball", "line 1", "high"),
        ("a cube", "line 4", "high"),
    ]


MATRIX = """
defaults: {quality: draft, stages.nerf.steps: 5}
prompts:
  - a ball
  - {prompt: a cube, seed: 9}
recipes: [toybox, toybox-nerf]
sweep:
  export.max_faces: [100, 200]
seeds: [0, 1]
"""


def test_a_matrix_multiplies_prompts_and_axes_but_not_what_a_row_sets_itself(read):
    rows = read("a.yaml", MATRIX, recipe="dreamfusion")
    assert len(rows) == 2 * 2 * 2 + 2 * 2
    assert [row.seed for row in rows[:4]] == [0, 1, 0, 1], "seeds vary fastest"
    assert {row.seed for row in rows[8:]} == {9}
    assert {row.recipe for row in rows} == {"toybox", "toybox-nerf"}
    assert all(row.quality == "draft" and row.settings["stages.nerf.steps"] == "5" for row in rows)
    assert {row.settings["export.max_faces"] for row in rows} == {"100", "200"}


def test_numbers_are_read_as_in_recipes(read):
    (row,) = read("a.yaml", "prompts: [a]\ndefaults: {a.b: 1e-3, a.c: 2., a.d: 010}")
    assert [float(value) for value in row.settings.values()][:2] == [0.001, 2.0]


@pytest.mark.slow
def test_ten_thousand_prompts_fit_into_a_file(read):
    rows = read("a.yaml", "prompts:\n" + "".join(f"  - ball {i}\n" for i in range(10_001)))
    assert len(rows) == 10_001 and rows[-1].prompt == "ball 10000"


def test_a_setting_keeps_its_type(read):
    values = {"a.b": [1, {"c": None}], "a.c": "text", "a.d": 1e-05, "a.e": True}
    (row,) = read("a.jsonl", json.dumps({"prompt": "a ball", **values}))
    assert {key: json.loads(value) for key, value in row.settings.items()} == values


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.yaml", "promts: [a]", ["promts", "prompts"]),
        ("a.yaml", "prompts: []", ["no rows"]),
        ("a.yaml", "- a", ["mapping"]),
        ("a.yaml", "prompts: [a]\nseeds: [x]", ["seed", "'x'"]),
        ("a.yaml", "prompts: [a]\nsweep: {seed: [1]}", ["seed", "seeds"]),
        ("a.yaml", "prompts: [a]\nsweep: {a.b: 3}", ["sweep.a.b", "list"]),
        ("a.yaml", "prompts: [a]\ndefaults: {sed: 1}", ["sed", "seed"]),
        ("a.yaml", "prompts: ['${oc.env:HOME}']", ["interpolation"]),
        ("a.yaml", "prompts: [a]\nsweep: {'a.${oc.env:HOME}': [1]}", ["interpolation"]),
        ("a.yaml", "prompts: !!python/object/apply:os.getcwd []", ["YAML"]),
        ("a.yaml", "prompts: [&a x, *a]", ["aliases"]),
        ("a.yaml", "prompts: [a]\nprompts: [b]", ["twice"]),
        ("a.yaml", f"prompts: {['a'] * 400}\nseeds: {[1] * 400}", ["100000 rows"]),
        ("a.csv", "promt,seed\na,1\n", ["prompt"]),
        ("a.csv", "prompt,sed\na,1\n", ["sed", "seed"]),
        ("a.csv", "prompt,prompt\na,1\n", ["twice"]),
        ("a.csv", 'prompt\n"a\n', ["line"]),
        ("a.txt", "# nothing\n", ["no rows"]),
        ("a.txt", b"\xff\xfe", ["UTF-8"]),
        ("a.xls", "a", [".csv"]),
        ("a.pkl", "a", [".csv"]),
    ],
)
def test_what_makes_a_file_unreadable_is_named_with_the_fix(read, name, content, words):
    with pytest.raises(InputError) as caught:
        read(name, content)
    said = f"{caught.value.message} {caught.value.fix}"
    assert all(word in said for word in words), said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "bad", "words"),
    [
        ("a.yaml", "{prompt: a, sed: 1}", ["prompts[1]", "sed", "seed"]),
        ("a.yaml", "{seed: 1}", ["prompts[1]", "no prompt"]),
        ("a.yaml", "17", ["prompts[1]", "text"]),
        ("a.yaml", "{prompt: a, seed: 1.5}", ["prompts[1]", "seed", "whole"]),
        ("a.yaml", "[a]", ["prompts[1]", "text"]),
        ("a.jsonl", "{", ["line 2", "JSON"]),
        ("a.jsonl", "[1]", ["line 2", "object"]),
        ("a.jsonl", '{"prompt": "a", "prompt": "b"}', ["line 2", "twice"]),
        ("a.jsonl", '{"prompt": "a", "a.b": NaN}', ["line 2", "a.b"]),
        ("a.jsonl", '{"prompt": "a", "a.b": "${oc.env:HOME}"}', ["line 2", "a.b"]),
        ("a.jsonl", '{"prompt": "${oc.env:HOME}"}', ["line 2", "prompt"]),
        ("a.jsonl", '{"prompt": "a", "seed": ' + "9" * 400 + "}", ["line 2", "seed", "huge"]),
        ("a.jsonl", '{"prompt": "a", "x.y": ' + "[" * 5000 + "]" * 5000 + "}", ["line 2"]),
        ("a.csv", "a,x", ["line 3", "seed", "'x'"]),
        ("a.csv", "a,1,2", ["line 3", "3 cells"]),
        ("a.csv", ",1", ["line 3", "no prompt"]),
    ],
)
def test_a_bad_row_keeps_its_reason_and_harms_no_other(read, name, bad, words):
    whole = {
        "a.yaml": f"prompts:\n  - good\n  - {bad}\n  - fine\n",
        "a.jsonl": f'{{"prompt": "good"}}\n{bad}\n{{"prompt": "fine"}}\n',
        "a.csv": f"prompt,seed\ngood,1\n{bad}\nfine,2\n",
    }
    first, broken, last = read(name, whole[name])
    assert (first.prompt, last.prompt) == ("good", "fine")
    assert first.error is None and last.error is None
    said = str(broken.error)
    assert all(word in said for word in words), said
    assert len(said.splitlines()) == 1 and "/root" not in said


FUZZ = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@FUZZ
@given(st.sampled_from(["a.yaml", "a.csv", "a.jsonl", "a.txt"]), st.text(max_size=80))
def test_any_text_is_read_to_rows_or_refused(read, name, text):
    prefix = {"a.yaml": "prompts:\n", "a.csv": "prompt,seed\n"}.get(name, "")
    for content in (text, prefix + text):
        try:
            rows = read(name, content.encode("utf-8", "surrogatepass"))
        except InputError as error:
            assert error.fix
        else:
            assert rows and all(row.error or row.prompt for row in rows)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


@FUZZ
@given(st.dictionaries(st.sampled_from(["prompt", "seed", "a.b", "x"]), JSON))
def test_any_object_is_a_row_or_has_an_error(read, content):
    (row,) = read("a.jsonl", json.dumps(content))
    assert isinstance(row.prompt, str) and (row.error is None or row.error.fix)


def test_the_example_files_can_be_read():
    examples = list((configs_dir() / "batches").iterdir())
    assert len(examples) >= 2
    for path in examples:
        assert all(row.error is None for row in read_rows(path))
