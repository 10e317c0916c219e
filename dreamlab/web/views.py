"""What the server shows and the client gets back: plain records, JSON in and out.

Times are seconds since 1970, sizes bytes.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JobView:
    """A run as the page, the API and the client show it."""

    name: str
    """Of its folder; addresses it."""
    prompt: str
    """What is made."""
    negative_prompt: str
    """What it should not be."""
    recipe: str
    quality: str
    seed: int
    state: str
    """queued, running, paused, done, failed, stopped or cancelled."""
    phase: str
    """What it is, or was last, doing: "load prior", a stage of the recipe, "export", …"""
    step: int | None
    """Steps of this stage that are done; none outside of the stages."""
    steps: int | None
    """Steps of this stage in all."""
    progress: float
    """Part of the whole run that is done, from 0 to 1."""
    eta_s: float | None
    """Seconds until the training ends, at the present speed; none if nothing is known."""
    created: float
    """When it was asked for."""
    begun: float | None
    """When it began, the last time it did."""
    ended: float | None
    """When it ended, the last time it did."""
    reason: str
    """Why it failed, was stopped or is tried again."""
    fix: str
    """What can be done about it."""
    favourite: bool
    """Whether the user marked it."""
    priority: int
    """Higher ones are begun first."""
    url: str
    """Of this record."""


@dataclass(frozen=True, slots=True)
class FileView:
    """A file of a run that is meant for users."""

    path: str
    """In the run folder, with slashes."""
    size: int
    media_type: str
    url: str
    """Where it is had."""


@dataclass(frozen=True, slots=True)
class RecipeView:
    """A recipe as a card shows it."""

    name: str
    summary: str
    """One line."""
    prior: str
    """The diffusion model."""
    representation: str
    """What is optimised, stage by stage, with arrows between them."""
    guidance: str
    """The rules, likewise."""
    needs: dict[str, str]
    """Quality to the time and memory it takes, as measured."""
    qualities: list[str]


@dataclass(frozen=True, slots=True)
class SettingView:
    """A setting as a form shows it."""

    key: str
    """Dotted path, to be used in `settings`."""
    type: str
    """boolean, integer, number, number or schedule, text, list or mapping; "… or none"."""
    choices: list[str] | None
    """All values that it may have, if they can be listed."""
    default: Any
    """Its value in the recipe."""
    doc: str


@dataclass(frozen=True, slots=True)
class LayoutView:
    """A layout that was checked."""

    boxes: list[dict[str, Any]]
    """As the setting `layout.boxes` holds them."""
    picture: str
    """PNG in base64: the boxes from four sides."""


@dataclass(frozen=True, slots=True)
class EstimateView:
    """What a run will take."""

    seconds: float
    memory_gb: float | None
    source: str
    """Where the figures come from."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A wish that could be submitted as it is."""

    config_yaml: str
    """Every setting that the run would have."""
    unknown_words: dict[str, list[str]]
    """Words of the prompts that the model does not know, each with near ones that it does."""
    objects: list[str]
    """What each box of the run's layout holds; none: the run has no layout."""
    estimate: EstimateView | None
    """None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Health:
    """That the server is there, and what it is doing."""

    name: str
    version: str
    api: int
    running: int
    queued: int
