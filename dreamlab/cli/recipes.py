"""`dreamlab recipes` and `dreamlab settings`: what can be run, and what can be changed."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from dreamlab.cli.options import QualityOption, RecipeOption
from dreamlab.cli.output import JsonOption, Output, QuietOption, output_of, reported
from dreamlab.jobs.recipe_files import DEFAULT_RECIPE, QUALITIES, list_recipes, read_recipe

EXAMPLES = """
Examples:

  dreamlab settings

  dreamlab settings stages.nerf.guidance --recipe dreamfusion
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("recipes")(recipes)
    app.command("settings", epilog=EXAMPLES)(settings)


def recipes(json: JsonOption = False, quiet: QuietOption = False) -> None:
    """List the recipes with what they need."""
    output = output_of(json, quiet)
    with reported(output):
        _list_recipes(output)


def _list_recipes(output: Output) -> None:
    table = Table("recipe", "what it makes, and what it takes", show_lines=True)
    for name in list_recipes():
        recipe = read_recipe(name)
        output.event("recipe", name=name, description=recipe.description, cost=recipe.cost)
        costs = [f"{q}: {recipe.cost[q]}" for q in QUALITIES if q in recipe.cost]
        default = "\n(default)" if name == DEFAULT_RECIPE else ""
        table.add_row(escape(name + default), escape("\n".join([recipe.description, *costs])))
    output.table(table)


def settings(
    prefix: Annotated[str, typer.Argument(help="Show only the keys below this one.")] = "",
    recipe: RecipeOption = DEFAULT_RECIPE,
    quality: QualityOption = "standard",
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """List every key that `generate` can change, with its value in a recipe and what it does."""
    output = output_of(json, quiet)
    with reported(output):
        from dreamlab.jobs.settings import list_settings

        table = Table("key", "value", "what it is")
        for setting in list_settings(recipe, quality, prefix):
            output.event("setting", key=setting.key, value=setting.value, doc=setting.doc)
            table.add_row(*map(escape, (setting.key, str(setting.value), setting.doc)))
        output.table(table)
