"""Layouts as SemanticSDS has them: those of its planner, and those in its configs.

The planner writes `raw.json` and `normalized.json`:

    user_prompt: ...                        the scene; may be left out
    scene_models:
      - name: ...
        stable diffusion prompt: ...        what the object is
        dimensions: {x, y, z}               edges
        position: {x, y, z}                 middle
        parts_in_local_01_coords:           may be left out
          - {prompt: ..., min_corner: [x, y, z], max_corner: [x, y, z]}

Its axes are ours: x towards the observer, y to their right, z up, and fronts towards x. Units are
centimetres or shares of the scene's radius. Every part is a region with a prompt of its own, as it
is there: a part from a to b in [0, 1]^3 of an object with middle p and edges s is the box from
p + s (a - 1/2) to p + s (b - 1/2). An object without parts is one box.

What follows from these numbers (`scale`, `parts_in_global_coords`) or is not what is trained
(`parts_in_complementary_format`, `name`) is known and not read.

A config (`conf/*.yaml`) holds the same beside everything that a run has, of which nothing is read:

    init:
      subinit:
        - bbox_dimensions: [x, y, z]        edges; without them the object counts as a cube
          xyz_offset: [x, y, z]             middle
          part_space_ratios: [[a, b], ...]  corners of the parts in [0, 1]^3
          part_specific_guidance_prompts:   one for each part
            - {prompt: ..., ...}

Source: SemanticSDS (Yang et al. 2024); format seen in `layouts_cache`, `conf`, `main.py` and
`generate_layouts_PAL.py` of github.com/YangLing0818/SemanticSDS-3D at 1c0ea01.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dreamlab.core.errors import InputError, nearest
from dreamlab.core.layout import Layout
from dreamlab.jobs.layouts.blocks import LARGEST, Block, arrange, block_at, read_numbers

MODELS, PARTS, SPLIT = "scene_models", "parts_in_local_01_coords", "parts_in_complementary_format"
PROMPT = "stable diffusion prompt"
OF_SCENE = (MODELS, "user_prompt")
OF_MODEL = (
    "name",
    PROMPT,
    "dimensions",
    "position",
    "scale",
    PARTS,
    SPLIT,
    "parts_in_global_coords",
)
OF_PART = ("prompt", "min_corner", "max_corner")
AXES = ("x", "y", "z")
INIT, OBJECTS = "init", "subinit"
RATIOS, TOLD = "part_space_ratios", "part_specific_guidance_prompts"
KEYS = [re.compile(rf"^{key}:", re.MULTILINE) for key in (INIT, f" +{OBJECTS}")]


def is_semantic_sds(content: Mapping[str, Any]) -> bool:
    """Whether a mapping is such a layout, as far as its keys tell."""
    return MODELS in content


def read_semantic_sds(content: Mapping[str, Any], where: str) -> Layout:
    """Turn the content of a file into a layout; `where` names it in messages.

    Raises:
        InputError: a key is unknown or missing, or a number or a prompt is refused.
    """
    _check_keys(content, OF_SCENE, (MODELS,), where)
    blocks: list[Block] = []
    for index, model in enumerate(_items(content[MODELS], f"{where}: {MODELS}")):
        blocks += _blocks(model, f"{where}: {MODELS}[{index}]")
    prompt = content.get("user_prompt")
    if prompt is not None and not isinstance(prompt, str):
        raise InputError(f"{where}: user_prompt must be text.", "write it in quotes.")
    return arrange(blocks, prompt, where)


def is_config(text: str) -> bool:
    """Whether a text is a config of SemanticSDS, as far as its keys tell."""
    return all(key.search(text) for key in KEYS)


def read_config(content: Mapping[str, Any], where: str) -> Layout:
    """Turn the content of a config into a layout; `where` names it in messages.

    Raises:
        InputError: a key that is read is missing, or a number or a prompt is refused.
    """
    init = content.get(INIT)
    objects = _items(init.get(OBJECTS) if isinstance(init, dict) else None, f"{where}: {OBJECTS}")
    blocks: list[Block] = []
    for index, item in enumerate(objects):
        blocks += _blocks_of_config(item, f"{where}: {OBJECTS}[{index}]")
    return arrange(blocks, None, where)


def _blocks_of_config(item: Any, where: str) -> list[Block]:
    """Return the parts of an object of a config."""
    if not isinstance(item, dict):
        raise InputError(f"{where} must hold a mapping of names to values.", "change it.")
    ratios, told = (_items(item.get(key), f"{where}.{key}") for key in (RATIOS, TOLD))
    if len(ratios) != len(told):
        raise InputError(f"{where} has {len(ratios)} parts and {len(told)} prompts.", "change it.")
    size = read_numbers(
        item.get("bbox_dimensions", [1, 1, 1]), 3, f"{where}.bbox_dimensions", low=0.0
    )
    middle = read_numbers(item.get("xyz_offset", [0, 0, 0]), 3, f"{where}.xyz_offset")
    corner = [m - s / 2 for m, s in zip(middle, size, strict=True)]
    blocks = []
    for index, (ends, prompt) in enumerate(zip(ratios, told, strict=True)):
        place = f"{where}.{RATIOS}[{index}]"
        if not isinstance(ends, list) or len(ends) != 2 or not isinstance(prompt, dict):
            raise InputError(f"{place} must be two corners, with a prompt.", "change it.")
        part = {"prompt": prompt.get("prompt"), "min_corner": ends[0], "max_corner": ends[1]}
        blocks.append(_part(part, corner, size, place))
    return blocks


def _blocks(model: Any, where: str) -> list[Block]:
    """Return the parts of an object, or all of it as one."""
    _check_keys(model, OF_MODEL, (PROMPT, "dimensions", "position"), where)
    size = _vector(model["dimensions"], f"{where}.dimensions", low=0.0)
    middle = _vector(model["position"], f"{where}.position")
    corner = [m - s / 2 for m, s in zip(middle, size, strict=True)]
    if PARTS not in model:
        if SPLIT in model:
            raise InputError(
                f"{where} is split, but has no {PARTS}.", "add them, or remove the split."
            )
        return [block_at(model[PROMPT], corner, size, where)]
    parts = enumerate(_items(model[PARTS], f"{where}.{PARTS}"))
    return [_part(part, corner, size, f"{where}.{PARTS}[{index}]") for index, part in parts]


def _part(part: Any, corner: Sequence[float], size: Sequence[float], where: str) -> Block:
    _check_keys(part, OF_PART, OF_PART, where)
    a, b = (
        read_numbers(part[end], 3, f"{where}.{end}", low=0.0, high=1.0)
        for end in ("min_corner", "max_corner")
    )
    low = [c + s * x for c, s, x in zip(corner, size, a, strict=True)]
    edges = [s * (y - x) for s, x, y in zip(size, a, b, strict=True)]
    return block_at(part["prompt"], low, edges, where)


def _vector(value: Any, where: str, *, low: float = -LARGEST) -> tuple[float, ...]:
    _check_keys(value, AXES, AXES, where)
    return read_numbers([value[axis] for axis in AXES], 3, where, low=low)


def _items(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise InputError(f"{where} must be a list with something in it.", "change it.")
    return value


def _check_keys(content: Any, known: Sequence[str], needed: Sequence[str], where: str) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where} must hold a mapping of names to values.", "change it.")
    for key in content:
        if key not in known:
            raise InputError(
                f"{where} has an unknown key {str(key)[:80]!r}.", nearest(str(key), known)
            )
    for key in needed:
        if key not in content:
            raise InputError(f"{where} has no {key!r}.", f"add {key!r}.")
