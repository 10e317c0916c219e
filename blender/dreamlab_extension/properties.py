"""What the panel lets users type and choose, and what a file has to remember.

The fields of the form and the refinements under way are part of the scene, so they are saved with
it; the history is a copy of the server's and is part of the window manager, which is never saved.
"""

import bpy
from bpy.props import (
    CollectionProperty,
    FloatVectorProperty,
    IntProperty,
    PointerProperty,
    StringProperty,
)

from . import state

MAX_SEED = 2**31 - 1


def _recipes(self, context, edit_text):
    return [recipe["name"] for recipe in state.session.recipes]


def _qualities(self, context, edit_text):
    chosen = (recipe for recipe in state.session.recipes if recipe["name"] == self.recipe)
    return list(next(chosen, {}).get("qualities", ()))


class DREAMLAB_PG_part(bpy.types.PropertyGroup):
    """One of the objects that a refinement replaces."""

    item: PointerProperty(type=bpy.types.Object)


class DREAMLAB_PG_refinement(bpy.types.PropertyGroup):
    """Where the model of a run belongs that refines objects of this scene."""

    ticket: StringProperty()
    run: StringProperty()
    parts: CollectionProperty(type=DREAMLAB_PG_part)
    low: FloatVectorProperty(size=3)
    high: FloatVectorProperty(size=3)


class DREAMLAB_PG_form(bpy.types.PropertyGroup):
    """The fields of the panel."""

    prompt: StringProperty(
        name="Prompt", description="What to make, in a few words", maxlen=500, options=set()
    )
    negative_prompt: StringProperty(
        name="Not", description="What it should not be", maxlen=500, options=set()
    )
    recipe: StringProperty(
        name="Recipe",
        description="How the model is made; test the connection to see what the server offers",
        default="toybox",
        search=_recipes,
        options=set(),
    )
    quality: StringProperty(
        name="Quality",
        description="How much time to spend",
        default="standard",
        search=_qualities,
        options=set(),
    )
    seed: IntProperty(
        name="Seed",
        description="Another seed gives another model; the same one repeats a run",
        min=0,
        max=MAX_SEED,
        options=set(),
    )
    refine_recipe: StringProperty(
        name="Recipe",
        description="A recipe whose first stage can start from a mesh",
        default="toybox-texture",
        search=_recipes,
        options=set(),
    )
    refinements: CollectionProperty(type=DREAMLAB_PG_refinement)


class DREAMLAB_PG_run(bpy.types.PropertyGroup):
    """A line of the history."""

    run: StringProperty()
    prompt: StringProperty()
    state: StringProperty()


class DREAMLAB_PG_history(bpy.types.PropertyGroup):
    """The newest runs on the server."""

    runs: CollectionProperty(type=DREAMLAB_PG_run)
    active: IntProperty(name="Run", options=set())


CLASSES = (
    DREAMLAB_PG_part,
    DREAMLAB_PG_refinement,
    DREAMLAB_PG_form,
    DREAMLAB_PG_run,
    DREAMLAB_PG_history,
)


def attach():
    """Give scenes the form and the window manager the history."""
    bpy.types.Scene.dreamlab = PointerProperty(type=DREAMLAB_PG_form)
    bpy.types.WindowManager.dreamlab = PointerProperty(type=DREAMLAB_PG_history)


def detach():
    """Take them away; what scenes have saved stays in their files."""
    del bpy.types.Scene.dreamlab
    del bpy.types.WindowManager.dreamlab


def show_runs(history, runs):
    """Copy the server's runs into the history, keeping the chosen one chosen."""
    index = history.active
    chosen = history.runs[index].run if index < len(history.runs) else ""
    history.runs.clear()
    for number, job in enumerate(runs):
        line = history.runs.add()
        line.run, line.prompt, line.state = job["name"], job["prompt"], job["state"]
        if line.run == chosen:
            index = number
    history.active = min(index, max(0, len(runs) - 1))
