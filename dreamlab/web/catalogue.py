"""The recipes that come with dreamlab, as cards show them."""

import functools

from dreamlab.core.config import Plain
from dreamlab.jobs.recipe_files import QUALITIES, RecipeFile, list_recipes, read_recipe
from dreamlab.web.views import RecipeView

DEFAULT_STAGE = {"representation": {"name": "hashgrid"}}
"""Of a stage that says nothing else, see `systems.settings.StageConfig`."""


@functools.cache
def all_recipes() -> tuple[RecipeView, ...]:
    """Read all recipes; once, they are part of the package."""
    return tuple(_view(name, read_recipe(name)) for name in list_recipes())


def _view(name: str, recipe: RecipeFile) -> RecipeView:
    def names(part: str) -> str:
        stages: list[Plain] = [DEFAULT_STAGE | stage for stage in recipe.stages.values()]
        return " → ".join(_name(stage.get(part, {})) for stage in stages)

    return RecipeView(
        name=name,
        summary=recipe.description,
        prior=str(recipe.prior.get("model", "toybox")),
        representation=names("representation"),
        guidance=names("guidance"),
        needs=dict(recipe.cost),
        qualities=list(QUALITIES),
    )


def _name(component: Plain) -> str:
    """Name a component; a sum by its rules."""
    rules = component.get("rules", {}).values()
    return " + ".join(map(_name, rules)) or component.get("name", "")
