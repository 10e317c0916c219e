"""Layouts as SemanticSDS has them: `raw.json` and `normalized.json`, as its planner writes them.

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

Source: SemanticSDS (Yang et al. 2024); format seen in `layouts_cache`, `main.py` and
`generate_layouts_PAL.py` of github.com/YangLing0818/SemanticSDS-3D at 1c0ea01.
"""

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
