"""The JSON Schema of layouts, made from the dataclasses that read them."""

from typing import Any

from dreamlab.core.config import field_docs
from dreamlab.core.layout import HALF_SIDE, MAX_BOXES, MAX_PROMPT, VIEWS, Box, Layout

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PROMPT = {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT}
REACH = {"type": "number", "minimum": -HALF_SIDE, "maximum": HALF_SIDE}
LENGTH = {"type": "number", "exclusiveMinimum": 0, "maximum": 2 * 2**0.5 * HALF_SIDE}


def layout_schema() -> dict[str, Any]:
    """Return the schema of a layout in YAML or JSON.

    That boxes lie in the cube when they are turned is checked by the reader alone.
    """
    box: dict[str, Any] = {
        "prompt": PROMPT,
        "center": {"type": "array", "items": REACH, "minItems": 3, "maxItems": 3},
        "size": {"type": "array", "items": LENGTH, "minItems": 3, "maxItems": 3},
        "yaw": {"type": "number"},
        "front": {"type": "number"},
        "views": {
            "type": "object",
            "properties": dict.fromkeys(VIEWS, PROMPT),
            "additionalProperties": False,
        },
    }
    layout: dict[str, Any] = {
        "boxes": {
            "type": "array",
            "items": {"$ref": "#/$defs/box"},
            "minItems": 1,
            "maxItems": MAX_BOXES,
        },
        "prompt": {"anyOf": [PROMPT, {"type": "null"}]},
    }
    return {
        "$schema": DIALECT,
        "title": "dreamlab layout",
        **_mapping(Layout, layout, ["boxes"]),
        "$defs": {"box": _mapping(Box, box, ["prompt", "center", "size"])},
    }


def _mapping(cls: type, properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    docs = field_docs(cls)
    described = {name: {**about, "description": docs[name]} for name, about in properties.items()}
    return {
        "type": "object",
        "required": required,
        "properties": described,
        "additionalProperties": False,
    }
