"""What `dreamlab toybox evaluate` leaves behind: a table, a JSON and a sheet of the pictures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, ImageDraw

from dreamlab.core.config import to_plain
from dreamlab.core.pictures import save, tile
from dreamlab.core.run_folder import write_json, write_text
from dreamlab.priors.toybox.judge.evaluate import TARGETS, TOPICS, Evaluation, Share, Verdict, share

COLUMNS = 8
CELL = 160
PICTURE = 120
LINE_CHARACTERS = 25
"""As many as fit into a cell's width."""
RIGHT, WRONG = "white", "red"
"""Frames of pictures whose answers are all right, and of the others."""


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write evaluation.md, evaluation.json and evaluation.png; `folder` is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"evaluation.{suffix}" for suffix in ("md", "json", "png")]
    write_text(paths[0], table(evaluation))
    write_json(paths[1], to_json(evaluation))
    save(sheet(evaluation), paths[2])
    return paths


def table(evaluation: Evaluation) -> str:
    """Return the figures as Markdown, each with its ceiling and its target."""
    config = evaluation.config
    lines = [
        f"{config.pictures} pictures, {config.steps} DDIM steps, guidance scale"
        f" {config.cfg_scale:g}, seed {config.seed}. Ceiling: what the judge answers right about"
        " true renders of the same prompts.",
        "",
        "| right | seen | ceiling | target | held out | ceiling | target |",
        "|---|---|---|---|---|---|---|",
    ]
    for topic in TOPICS:
        cells: list[str] = []
        for held_out in (False, True):
            target = f"≥ {TARGETS[topic][held_out]:.0%}" if topic in TARGETS else ""
            cells.append(str(share(evaluation.verdicts, topic, held_out)))
            cells.append(str(share(evaluation.ceiling, topic, held_out)))
            cells.append(target)
        lines.append(f"| {topic} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return settings, shares and all answers that were wrong as plain values."""
    shares = {
        topic: {
            name: {
                "pictures": _plain(share(evaluation.verdicts, topic, held_out)),
                "ceiling": _plain(share(evaluation.ceiling, topic, held_out)),
                "target": TARGETS[topic][held_out] if topic in TARGETS else None,
            }
            for name, held_out in (("seen", False), ("held_out", True))
        }
        for topic in TOPICS
    }
    return {
        "settings": to_plain(evaluation.config),
        "shares": shares,
        "wrong": _mistakes(evaluation.verdicts),
        "wrong_about_true_renders": _mistakes(evaluation.ceiling),
    }


def _plain(counted: Share) -> dict[str, Any]:
    return {"right": counted.right, "asked": counted.asked, "share": counted.value}


def _mistakes(verdicts: Sequence[Verdict]) -> list[dict[str, str]]:
    return [
        {"topic": v.topic, "prompt": v.task.prompt, "answer": v.answer}
        for v in verdicts
        if not v.is_right
    ]


def sheet(evaluation: Evaluation) -> Image.Image:
    """Lay out all pictures over their prompts; those with a wrong answer have a red frame."""
    wrong = {v.picture for v in evaluation.verdicts if not v.is_right}
    pairs = zip(evaluation.tasks, evaluation.images, strict=True)
    cells = [
        _cell(image, task.prompt, WRONG if place in wrong else RIGHT)
        for place, (task, image) in enumerate(pairs)
    ]
    rows = [cells[begin : begin + COLUMNS] for begin in range(0, len(cells), COLUMNS)]
    return tile(rows, cell=CELL)


def _cell(
    image: UInt8[ndarray, "height width 3"], prompt: str, frame: str
) -> UInt8[ndarray, "cell cell 3"]:
    """Draw a picture in a frame over its prompt, in up to three lines."""
    canvas = Image.new("RGB", (CELL, CELL), "white")
    left = (CELL - PICTURE) // 2
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((left - 2, 0, left + PICTURE + 1, PICTURE + 3), fill=frame)
    picture = Image.fromarray(image).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)
    canvas.paste(picture, (left, 2))
    for number, line in enumerate(textwrap.wrap(prompt, LINE_CHARACTERS)[:3]):
        draw.text((2, PICTURE + 4 + 11 * number), line, fill="black")
    return np.asarray(canvas)
