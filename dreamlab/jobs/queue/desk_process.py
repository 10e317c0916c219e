"""The process behind `Desk`: checks wishes against the components, with torch loaded.

    python -m dreamlab.jobs.queue.desk_process RUNS

Standard input has one JSON object a line, `{"do": ..., ...}`; standard output gets one for each,
`{"result": ...}` or `{"error": {"message", "fix", "code"}}`. It ends when its input does, so it
never outlives the process that asks.
"""

import base64
import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from dreamlab.core.config import build, parse_dotlist, to_plain
from dreamlab.core.errors import DreamlabError, InputError, nearest
from dreamlab.core.layout import Layout
from dreamlab.core.protocols import Adopting
from dreamlab.core.run_folder import RunFolder
from dreamlab.jobs.batch.estimate import estimate_all
from dreamlab.jobs.batch.plan import Planned, Resolver
from dreamlab.jobs.export import plan as plan_export
from dreamlab.jobs.layouts.picture import draw_layout
from dreamlab.jobs.layouts.words import layout_of
from dreamlab.jobs.parts import list_parts
from dreamlab.jobs.queue import actions, exports
from dreamlab.jobs.queue.wish import DEFAULT_QUALITY, Changes, Wish
from dreamlab.jobs.recipes import SAMPLE_PROMPT, RunConfig, words_unknown_to_prior
from dreamlab.jobs.settings import deciding, list_settings
from dreamlab.priors.load import known_models
from dreamlab.systems import components

REMEMBERED = 100
"""Wishes after which the settings that were resolved are forgotten."""


class DeskProcess:
    """Answers requests about one folder of runs."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.answers: dict[str, Callable[..., Any]] = {
            "check": self.check,
            "submit": self.submit,
            "rerun": self.rerun,
            "export": self.export,
            "settings": self.settings,
            "parts": self.parts,
            "layout": self.layout,
        }
        self._resolver, self._asked = Resolver(()), 0

    def check(self, wish: Mapping[str, Any], model: str | None) -> dict[str, Any]:
        """Resolve a wish, and say what the prior does not know and what it will take."""
        planned = self._plan(Wish(**wish), model)
        assert planned.config is not None
        (estimate,) = estimate_all([planned], [self.runs])
        layout = planned.config.layout
        return {
            "objects": [] if layout is None else [box.prompt for box in layout.boxes],
            "config_yaml": planned.config.to_yaml(),
            "unknown_words": words_unknown_to_prior(planned.config),
            "estimate": None if estimate.seconds is None else to_plain(estimate),
        }

    def submit(self, wish: Mapping[str, Any], model: str | None) -> str:
        """Queue a run; return the name of its folder."""
        planned = self._plan(Wish(**wish), model)
        assert planned.config is not None
        run = actions.submit(planned.config, self.runs, priority=planned.row.priority)
        return run.root.name

    def rerun(self, name: str, changes: Mapping[str, Any]) -> str:
        """Queue a run with the settings of another one, changed; return the name of its folder."""
        wanted = Changes(**changes)
        overrides = wanted.overrides()
        refuse_models(overrides)
        run = actions.rerun(
            RunFolder.open(self.runs / name),
            overrides,
            prompt=wanted.prompt,
            negative_prompt=wanted.negative_prompt,
            seed=wanted.seed,
            priority=wanted.priority,
        )
        return run.root.name

    def export(self, name: str, settings: Mapping[str, Any]) -> None:
        """Queue an export of a run that has ended."""
        folder = RunFolder.open(self.runs / name)
        overrides = Changes(settings=settings).overrides()
        plan_export(folder, overrides)
        exports.ask(folder, overrides)

    def settings(
        self, recipe: str, quality: str | None, prompt: str | None, settings: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """List the settings of a recipe, those of components that `settings` names too."""
        wanted = partial(
            list_settings, recipe, quality or DEFAULT_QUALITY, prompt=prompt or SAMPLE_PROMPT
        )
        overrides = Changes(settings=deciding(settings)).overrides()
        refuse_models(overrides)
        found = wanted(overrides=overrides)
        own = {each.key: each.value for each in wanted()} if overrides else {}
        return [
            {
                "key": s.key,
                "type": s.type,
                "choices": s.choices,
                "default": own.get(s.key, s.value) if s.key in settings else s.value,
                "doc": s.doc,
            }
            for s in found
        ]

    def parts(
        self, recipe: str, quality: str, settings: Mapping[str, Any], prompt: str
    ) -> list[dict[str, Any]]:
        """List what each stage of a recipe could have."""
        overrides = Changes(settings=settings).overrides()
        refuse_models(overrides)
        found = list_parts(recipe, quality, tuple(overrides), prompt)
        return [asdict(part) for part in found]

    def layout(self, boxes: list[Any] | None, prompt: str) -> dict[str, Any]:
        """Check and draw a layout."""
        found = layout_of(prompt) if boxes is None else build(Layout, {"boxes": boxes}, "layout")
        picture = io.BytesIO()
        draw_layout(found).save(picture, "PNG", optimize=True)
        plain = [
            {key: value for key, value in to_plain(box).items() if value != {}}
            for box in found.boxes
        ]
        return {"boxes": plain, "picture": base64.b64encode(picture.getvalue()).decode("ascii")}

    def _plan(self, wish: Wish, model: str | None) -> Planned:
        row = wish.row()
        refuse_models(row.overrides)
        if self._asked >= REMEMBERED:
            self._resolver, self._asked = Resolver(()), 0
        self._asked += 1
        planned = self._resolver.plan(1, row)
        if planned.error is not None:
            raise planned.error
        assert planned.config is not None
        if model is None:
            return planned
        return replace(planned, config=starting_from(planned.config, model))


def starting_from(config: RunConfig, model: str) -> RunConfig:
    """Let the first stage start from a model in a file.

    Raises:
        InputError: what it optimises cannot become a mesh.
    """
    first, stage = next(iter(config.stages.items()))
    found = components.find("representations", stage.representation, first)
    classes = (item for item in vars(found.module).values() if isinstance(item, type))
    own = (item for item in classes if item.__module__ == found.module.__name__)
    if not any(issubclass(item, Adopting) for item in own):
        raise InputError(
            f"the recipe {config.recipe!r} cannot start from a model: a {found.name} cannot become "
            "a mesh.",
            "choose a recipe that begins with gaussians, dmtet, textured_mesh or uv_mesh.",
        )
    stages = config.stages | {first: replace(stage, start_from=model)}
    return replace(config, stages=stages).resolved()


def refuse_models(overrides: Any) -> None:
    """Refuse a diffusion model that is not in the table: a folder, or anything on the hub.

    Raises:
        InputError: naming it.
    """
    prior = parse_dotlist(overrides).get("prior")
    model = prior.get("model") if isinstance(prior, dict) else prior
    name = model if model is None else str(model)
    if name is not None and name not in (known := known_models()):
        shown = str(name)[:80]
        raise InputError(f"prior.model is {shown!r}.", nearest(shown, known))


def respond(desk: DeskProcess, line: str) -> dict[str, Any]:
    """Answer one request; what goes wrong is part of the answer."""
    try:
        request = json.loads(line)
        return {"result": desk.answers[request.pop("do")](**request)}
    except DreamlabError as error:
        known = {"message": error.message, "fix": error.fix, "code": int(error.code)}
        return {"error": known}
    except Exception as error:  # one request must not end the process for all
        traceback.print_exc()
        line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        return {"error": {"message": line, "fix": "", "code": None}}


def main() -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # nothing that a library prints may come between the answers
    desk = DeskProcess(Path(sys.argv[1]))
    for line in sys.stdin:
        answers.write(json.dumps(respond(desk, line)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
