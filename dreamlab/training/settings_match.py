"""Which settings a run must have in common with its checkpoints, and which differ.

What a step does follows from the stage definitions, the prompts, the seed and the prior; these must
be the same. What comes after the training (export), or how it is watched, is free. So is the number
of steps of a stage that is not complete: progress is a fraction of the stage, so the steps to come
are those of the longer stage, and those already made stay what they were.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dreamlab.core.config import Plain, to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.systems.settings import StageConfig

UNSET = "(not set)"
MAX_SHOWN = 6
"""Differences that an error lists."""
MAX_LENGTH = 60
"""Characters of a value that an error shows."""


def settings_to_match(
    stages: Mapping[str, StageConfig],
    prompt: str,
    negative_prompt: str,
    seed: int,
    prior: str | None,
    layout: Layout | None = None,
) -> Plain:
    """Gather the settings of a run under the keys of its config.yaml.

    Args:
        stages: resolved, in order.
        prompt: what is made.
        negative_prompt: what is avoided.
        seed: of everything random.
        prior: name of the model; None for who only reads, and cannot know it.
        layout: objects in boxes; checkpoints of runs without one do not mention it.
    """
    settings = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "seed": seed,
        "stages": {name: to_plain(config) for name, config in stages.items()},
    }
    if layout is not None:
        settings["layout"] = to_plain(layout)
    return settings if prior is None else settings | {"prior": {"model": prior}}


def check_settings(saved: Plain, given: Plain, *, stage_index: int, step: int, path: Path) -> None:
    """Refuse settings with which the checkpoint at `path` could not have been written.

    Args:
        saved: of the checkpoint.
        given: of the run now.
        stage_index: of the stage that the checkpoint was taken in.
        step: steps of that stage that were done.
        path: of the checkpoint, for the message.

    Raises:
        InputError: something that matters is different; it says what.
    """
    found = list(_differences(saved, given))
    found += _lost_steps(saved, given, stage_index, step)
    if not found:
        return
    shown = "; ".join(found[:MAX_SHOWN])
    if len(found) > MAX_SHOWN:
        shown += f"; and {len(found) - MAX_SHOWN} more"
    raise InputError(
        f"{path} was written with other settings (old -> new): {shown}.",
        "put the old values back into the run's config.yaml, or start a new run with the new ones: "
        "`dreamlab generate --config config.yaml`.",
    )


def _differences(saved: Plain, given: Plain) -> Iterator[str]:
    compared = saved if "prior" in given else {k: v for k, v in saved.items() if k != "prior"}
    for key, old, new in _walk(_without_steps(compared), _without_steps(given), ""):
        yield f"{key}: {_show(old)} -> {_show(new)}"
    names = [list(settings["stages"]) for settings in (saved, given)]
    if names[0] != names[1] and sorted(names[0]) == sorted(names[1]):
        yield f"order of the stages: {', '.join(names[0])} -> {', '.join(names[1])}"


def _without_steps(settings: Plain) -> Plain:
    stages = {
        name: {key: value for key, value in stage.items() if key != "steps"}
        for name, stage in settings["stages"].items()
    }
    return settings | {"stages": stages}


def _walk(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield the key and both values of every leaf that differs."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield path, old, new
        return
    for key in dict.fromkeys([*old, *new]):
        inner = f"{path}.{key}" if path else key
        yield from _walk(old.get(key, UNSET), new.get(key, UNSET), inner)


def _lost_steps(saved: Plain, given: Plain, stage_index: int, step: int) -> Iterator[str]:
    """Find stages whose new number of steps contradicts what was done."""
    for index, (name, old) in enumerate(list(saved["stages"].items())[: stage_index + 1]):
        if name not in given["stages"]:
            continue
        new = given["stages"][name]["steps"]
        key = f"stages.{name}.steps: {old['steps']} -> {new}"
        if index < stage_index and new != old["steps"]:
            yield f"{key} (the stage is complete)"
        elif index == stage_index and new < step:
            yield f"{key} ({step} are done)"


def _show(value: Any) -> str:
    shown = value if value is UNSET else repr(value)
    return shown if len(shown) <= MAX_LENGTH else shown[: MAX_LENGTH - 1] + "…"
