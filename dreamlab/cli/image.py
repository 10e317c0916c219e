"""`dreamlab image`: a picture by a rule alone, to see what the rule does."""

from pathlib import Path
from typing import Annotated

import typer

from dreamlab.cli.generate import (
    DEFAULT_QUALITY,
    NegativeOption,
    SeedOption,
    check_words,
    start,
)
from dreamlab.cli.options import (
    DeviceOption,
    OutputOption,
    Overrides,
    QualityOption,
    RecipeOption,
)
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.jobs.recipe_files import read_recipe

DEFAULT_RECIPE = "toybox-image"
EXAMPLES = """
Examples:

  dreamlab image "a red mushroom"

  dreamlab image "a red mushroom" --guidance sds stages.image.guidance.guidance_scale=30

  dreamlab image "a red mushroom" 'stages.image.pixel_gradient={policy: norm2, rgb: 4}'
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("image", epilog=EXAMPLES)(image)


def image(
    prompt: Annotated[str | None, typer.Argument(help="What to show, in quotes.")] = None,
    overrides: Overrides = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            "--guidance",
            "-g",
            metavar="NAME",
            help="The rule, instead of the recipe's; settings that it has too are kept.",
        ),
    ] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = DEFAULT_QUALITY,
    seed: SeedOption = None,
    negative: NegativeOption = None,
    folder: OutputOption = Path("runs"),
    device: DeviceOption = "auto",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Optimise a picture by the rule alone; leaves image.png and a strip of how it came to be.

    Ctrl-C stops it and keeps the picture; `dreamlab resume` goes on.
    """
    output = output_of(json, quiet)
    with reported(output):
        words = list(overrides or [])
        check_words(prompt, words, "image")
        read_recipe(recipe)  # a misspelt name is refused before the slow imports
        from dreamlab.jobs.picture import check_makes_picture
        from dreamlab.jobs.recipes import load_recipe

        config = load_recipe(
            recipe,
            quality,
            words,
            prompt=prompt or "",
            negative_prompt=negative or "",
            seed=seed or 0,
            guidance=guidance,
        )
        check_makes_picture(config)
        start(output, config, folder, device)
