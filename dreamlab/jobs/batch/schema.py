"""The JSON Schema of batch files, made from the dataclasses that read them."""

from typing import Any

from dreamlab.core.config import field_docs
from dreamlab.jobs.batch.files import MAX_ROWS, BatchFile
from dreamlab.jobs.batch.rows import FIELDS, LAYOUT, Row
from dreamlab.jobs.recipe_files import QUALITIES

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SETTING = r"^[^.]+(\.[^.]+)+$"
LAYOUT_DOC = (
    "Boxes with a prompt each: null for none, prompt, auto, the path of a file, or written out."
)
TYPES = {str: "string", int: "integer"}


def batch_schema() -> dict[str, Any]:
    """Return the schema of a batch file in YAML; `$defs/row` is that of a line of JSON Lines."""
    docs = field_docs(BatchFile)
    field = {name: _field(name) for name in FIELDS}
    axes = {"recipes": field["recipe"], "qualities": field["quality"], "seeds": field["seed"]}
    properties: dict[str, Any] = {
        "prompts": {
            "type": "array",
            "minItems": 1,
            "maxItems": MAX_ROWS,
            "items": {"anyOf": [field["prompt"], {"$ref": "#/$defs/row"}]},
        },
        "defaults": {"$ref": "#/$defs/keys"},
        "sweep": {
            "type": "object",
            "properties": {LAYOUT: {"type": "array", "minItems": 1}},
            "patternProperties": {SETTING: {"type": "array", "minItems": 1}},
            "additionalProperties": False,
        },
        **{name: {"type": "array", "items": item} for name, item in axes.items()},
    }
    for name, about in properties.items():
        about["description"] = docs[name]
    keys = {
        "type": "object",
        "properties": field | {LAYOUT: {"description": LAYOUT_DOC}},
        "patternProperties": {SETTING: {"description": "A setting, see `dreamlab settings`."}},
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": "dreamlab batch",
        "type": "object",
        "required": ["prompts"],
        "properties": properties,
        "additionalProperties": False,
        "$defs": {"keys": keys, "row": {**keys, "required": ["prompt"]}},
    }


def _field(name: str) -> dict[str, Any]:
    about: dict[str, Any] = {"type": TYPES[FIELDS[name]], "description": field_docs(Row)[name]}
    return about | ({"enum": list(QUALITIES)} if name == "quality" else {})
