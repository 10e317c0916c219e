"""How well the prior draws what it is told: its pictures before an independent judge.

Pictures are drawn with the ordinary Stable Diffusion pipeline for prompts of scenes that were
trained on and scenes that were held out. Each is put to the judge as multiple-choice questions, and
counts as right when the caption it was drawn from gets the best score:

    object    among all objects in the same colour and view; not asked of overhead views, from
              which a cone, an umbrella and a sphere are the same disc
    colour    among the twelve colours
    view      among front, side, back and overhead; asked of objects with a front
    order     of a relation: against the same sentence with its two items exchanged; not asked of
              "next to", which is symmetric
    binding   in a relation: against the same sentence with its two colours exchanged

The judge errs too. The same questions about true renders of the same prompts, which it has not seen
either, give its own accuracy: the ceiling that stands beside every figure.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from dreamlab.core.seeds import derive_seed
from dreamlab.priors.toybox.judge.network import Judge
from dreamlab.priors.toybox.training.sample import draw_samples, load_pipeline
from dreamlab.priors.toybox.world.captions import prompt_of
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import (
    RELATIONS,
    SUPPORTS,
    Item,
    Relation,
    Scene,
    is_held_out,
    pack,
)
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import VIEW_WORDS, Views, sample_views, view_word

Topic = Literal["object", "colour", "view", "order", "binding"]
TOPICS: tuple[Topic, ...] = get_args(Topic)
TARGETS: dict[Topic, tuple[float, float]] = {
    "object": (0.95, 0.85),
    "colour": (0.97, 0.93),
    "view": (0.90, 0.90),
}
"""Shares to be reached on seen and on held-out scenes, at a guidance scale of at most 7.5."""
MAX_CFG_SCALE = 7.5
VIEWS_PER_SAMPLE = 64
"""Random views drawn at once while looking for one that a word names."""


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """How the prior is questioned."""

    pictures: int = 200
    """Half of them of scenes that were trained on, half of held-out ones."""
    relation_share: float = 0.2
    """Share of pictures of two objects in a relation."""
    steps: int = 20
    """DDIM steps of a picture."""
    cfg_scale: float = 5.0
    """Guidance scale of the pictures, at most 7.5."""
    batch: int = 20
    """Pictures drawn at once."""
    seed: int = 7_000_001
    """Of scenes, noise and true renders."""

    def __post_init__(self) -> None:
        if self.pictures < 2 or self.pictures % 2:
            raise ValueError(f"pictures must be even and positive, got {self.pictures}")
        if not 0 <= self.relation_share <= 1:
            raise ValueError(f"relation_share must be in [0, 1], got {self.relation_share}")
        if not 1 <= self.cfg_scale <= MAX_CFG_SCALE:
            raise ValueError(f"cfg_scale must be in [1, {MAX_CFG_SCALE}], got {self.cfg_scale}")
        if self.steps < 1 or self.batch < 1:
            raise ValueError("steps and batch must be positive")


@dataclass(frozen=True)
class Task:
    """A picture to be drawn."""

    scene: Scene
    word: str
    """Of the view."""
    held_out: bool

    @property
    def prompt(self) -> str:
        """The caption that it is drawn from."""
        return _caption(self.scene, self.word)


@dataclass(frozen=True)
class Verdict:
    """The judge's answer to one question about one picture."""

    picture: int
    """Its place among the pictures."""
    task: Task
    topic: Topic
    answer: str
    """The caption with the best score."""

    @property
    def is_right(self) -> bool:
        return self.answer == self.task.prompt


@dataclass(frozen=True)
class Evaluation:
    """What was found."""

    config: EvaluateConfig
    tasks: list[Task]
    images: UInt8[ndarray, "pictures height width 3"]
    """As drawn, in the order of the tasks."""
    verdicts: list[Verdict]
    """About the pictures."""
    ceiling: list[Verdict]
    """About true renders of the same prompts."""


def evaluate(
    config: EvaluateConfig,
    prior_folder: Path,
    judge: Judge,
    *,
    device: torch.device | str = "cpu",
    on_progress: Callable[[str, float], None] = lambda part, fraction: None,
) -> Evaluation:
    """Draw pictures with a prior and put them to the judge.

    Args:
        config: which pictures, how drawn.
        prior_folder: in Stable Diffusion's layout.
        judge: what `load_judge` returned.
        device: where pictures are drawn.
        on_progress: called with what is done ("draw", "judge") and the fraction of it.
    """
    tasks = make_tasks(config)
    pipeline = load_pipeline(prior_folder, torch.device(device))
    parts: list[ndarray] = []
    for begin in range(0, len(tasks), config.batch):
        on_progress("draw", begin / len(tasks))
        prompts = [task.prompt for task in tasks[begin : begin + config.batch]]
        seed = derive_seed(config.seed, "draw", begin)
        parts.append(
            draw_samples(
                pipeline,
                prompts,
                seed=seed,
                steps=config.steps,
                cfg_scale=config.cfg_scale,
                chunk=config.batch,
            )
        )
    images = np.concatenate(parts)
    on_progress("judge", 0.0)
    drawn = torch.from_numpy(images.astype(np.float32) / 255)
    verdicts = question(tasks, drawn, judge)
    on_progress("judge", 0.5)
    ceiling = question(tasks, true_images(tasks, config.seed, images.shape[1]), judge)
    on_progress("judge", 1.0)
    return Evaluation(config, tasks, images, verdicts, ceiling)


def make_tasks(config: EvaluateConfig) -> list[Task]:
    """Draw scenes and views: first those that were trained on, then as many held-out ones.

    Single objects come in turn from shuffles of the whole catalogue, and view words in turn, so
    that every share is as even as the number of pictures allows. Relations are seen from the front,
    which is where "in front of" can be told best.
    """
    tasks: list[Task] = []
    for held_out in (False, True):
        rng = np.random.default_rng(derive_seed(config.seed, "scenes", int(held_out)))
        count = config.pictures // 2
        num_relations = round(count * config.relation_share)
        rounds = 1 + count // len(CATALOGUE)
        objects = [int(i) for _ in range(rounds) for i in rng.permutation(len(CATALOGUE))]
        for place in range(count - num_relations):
            scene = _single(rng, CATALOGUE[objects[place]].name, held_out)
            tasks.append(Task(scene, VIEW_WORDS[place % len(VIEW_WORDS)], held_out))
        for place in range(num_relations):
            tasks.append(Task(_related(rng, RELATIONS[place % 3], held_out), "front", held_out))
    return tasks


def _single(rng: np.random.Generator, name: str, held_out: bool) -> Scene:
    scenes = [Scene((Item(name, color),)) for color in COLORS]
    allowed = [scene for scene in scenes if is_held_out(scene) == held_out]
    return allowed[rng.integers(len(allowed))]


def _related(rng: np.random.Generator, relation: Relation, held_out: bool) -> Scene:
    """Draw two different objects in two different colours."""
    names, colors = [kind.name for kind in CATALOGUE], list(COLORS)
    while True:
        first = names[rng.integers(len(names))]
        below = SUPPORTS if relation == "on top of" else names
        second = below[rng.integers(len(below))]
        a, b = rng.permutation(len(colors))[:2]
        if first == second:
            continue
        scene = Scene((Item(first, colors[a]), Item(second, colors[b])), relation)
        if is_held_out(scene) == held_out:
            return scene


def questions(task: Task) -> dict[Topic, list[str]]:
    """Return the captions to choose from, by topic; the right one is among them."""
    scene, word = task.scene, task.word
    if scene.relation is not None:
        first, second = scene.items
        exchanged = f"{_phrase(second)} {scene.relation} {_phrase(first)}, {word} view"
        recolored = (replace(first, color=second.color), replace(second, color=first.color))
        asked: dict[Topic, list[str]] = {
            "binding": [task.prompt, _caption(replace(scene, items=recolored), word)]
        }
        if scene.relation != "next to":
            asked["order"] = [task.prompt, exchanged]
        return asked
    item = scene.items[0]

    def with_item(new: Item) -> str:
        return _caption(Scene((new,)), word)

    asked = {"colour": [with_item(replace(item, color=color)) for color in COLORS]}
    if word != "overhead":
        asked["object"] = [with_item(replace(item, object=kind.name)) for kind in CATALOGUE]
    if scene.has_front:
        asked["view"] = [_caption(scene, other) for other in VIEW_WORDS]
    return asked


def _phrase(item: Item) -> str:
    return prompt_of(Scene((item,)))


def _caption(scene: Scene, word: str) -> str:
    return f"{prompt_of(scene)}, {word} view"


def question(
    tasks: Sequence[Task], images: Float[Tensor, "tasks height width 3"], judge: Judge
) -> list[Verdict]:
    """Put every question about every picture to the judge; images are sRGB in [0, 1]."""
    verdicts: list[Verdict] = []
    for picture, (task, image) in enumerate(zip(tasks, images, strict=True)):
        for topic, captions in questions(task).items():
            best = int(judge.scores(image[None], captions)[0].argmax())
            verdicts.append(Verdict(picture, task, topic, captions[best]))
    return verdicts


def true_images(tasks: Sequence[Task], seed: int, size: int) -> Float[Tensor, "tasks size size 3"]:
    """Render what the tasks ask for, each from a random view that its word names."""
    rng = np.random.default_rng(derive_seed(seed, "true renders"))
    views = [sample_view_of(task.word, rng) for task in tasks]
    images = [
        trace(
            pack([task.scene]),
            view.cameras,
            size=size,
            light=view.light_direction,
            ambient=view.ambient,
            background=view.background,
        ).rgb
        for task, view in zip(tasks, views, strict=True)
    ]
    return torch.cat(images)


def sample_view_of(word: str, rng: np.random.Generator) -> Views:
    """Draw views until one is what the word names, and return that one."""
    while True:
        views = sample_views(rng, VIEWS_PER_SAMPLE)
        cameras = views.cameras
        for i in range(VIEWS_PER_SAMPLE):
            if view_word(float(cameras.azimuth[i]), float(cameras.elevation[i])) == word:
                one = slice(i, i + 1)
                return Views(
                    cameras[one],
                    views.light_direction[one],
                    views.ambient[one],
                    views.background[one],
                )


@dataclass(frozen=True)
class Share:
    """How often an answer was right."""

    right: int
    asked: int

    @property
    def value(self) -> float | None:
        """Share of right answers; None if nothing was asked."""
        return self.right / self.asked if self.asked else None

    def __str__(self) -> str:
        return "–" if self.value is None else f"{self.value:.1%} of {self.asked}"


def share(verdicts: Sequence[Verdict], topic: Topic, held_out: bool) -> Share:
    """Count the right answers to one topic on seen or on held-out scenes."""
    some = [v for v in verdicts if v.topic == topic and v.task.held_out == held_out]
    return Share(sum(v.is_right for v in some), len(some))
