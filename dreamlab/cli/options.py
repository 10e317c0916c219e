"""Options that several commands share, and how a shell completes them."""

from pathlib import Path
from typing import Annotated

import typer

from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.jobs.recipe_files import QUALITIES, list_recipes


def complete_recipe(incomplete: str) -> list[str]:
    """Offer the names of recipes to the shell."""
    try:
        return [name for name in list_recipes() if name.startswith(incomplete)]
    except DreamlabError:
        return []


def complete_quality(incomplete: str) -> list[str]:
    """Offer the qualities to the shell."""
    return [quality for quality in QUALITIES if quality.startswith(incomplete)]


PICTURE_SUFFIXES = (".png", ".webp")
"""Of the picture files that commands write."""


def check_picture(option: str, path: Path) -> None:
    """Refuse a picture file of another kind, before the work for it begins.

    Raises:
        InputError: the name of the file ends otherwise.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(
            f"{option} is {path}, which names no picture that can be written.",
            f"end it in {' or '.join(PICTURE_SUFFIXES)}.",
        )


RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        "-r",
        metavar="NAME",
        help="A recipe's name (see `dreamlab recipes`), or the path of a .yaml file.",
        autocompletion=complete_recipe,
    ),
]
QualityOption = Annotated[
    str,
    typer.Option(
        "--quality",
        metavar="|".join(QUALITIES),
        help="How much time to spend.",
        autocompletion=complete_quality,
    ),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where run folders are made.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, …")
]
RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN", help="A folder that `dreamlab generate` made.", show_default=False
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=1, metavar="N", help="Runs at a time; one a device if not given."
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="auto|HOST:PORT",
        help="Run rows on all nodes of the Ray cluster that this machine belongs to.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings to change, as dotted keys (see `dreamlab settings`).",
        show_default=False,
    ),
]
