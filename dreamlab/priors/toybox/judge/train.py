"""Training of the judge: contrastive, on groups of near misses.

A group is a scene and its near misses: the same scene from another side, in another colour, with
another object. Captions of the whole batch compete for every picture, and so do rivals of its own,
captions that are wrong in one thing alone: the view, the colour, the object, or which of two items
is which. A caption fits a picture when it names the same scene and, if it names a view, the view.
With s scores of pictures i and captions j, r_i those of picture i's rivals, P the fitting pairs,

    L = -(1/2N) sum_i [ log sum_{j in P_i} softmax(s_i, r_i)_j
                         + log sum_{j in P^T_i} softmax(s^T_i)_j ]

which is CLIP's symmetric loss (Radford et al. 2021, figure 3) with several right answers and with
hard negatives on the side of the captions (Yuksekgonul et al. 2023).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import save_file
from torch import Tensor

from dreamlab.core.run_folder import atomic_path, write_text
from dreamlab.core.seeds import derive_seed
from dreamlab.priors.toybox.judge.network import FOLDER, IMAGE_SIZE, Judge
from dreamlab.priors.toybox.world.captions import caption, vocabulary
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import SUPPORTS, Item, Scene, pack, sample_scene
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import VIEW_WORDS, sample_views, view_word


@dataclass(frozen=True, slots=True)
class JudgeConfig:
    """How the judge is trained."""

    steps: int = 2500
    """Optimisation steps."""
    groups: int = 32
    """Groups a step; each gives four pictures."""
    learning_rate: float = 1e-3
    """Peak of a cosine schedule with a short warm-up."""
    seed: int = 20_000_003
    """Seed of the judge's weights and pictures; no other training uses it."""


RIVALS = 4
"""Wrong captions of a picture's own."""


def near_misses(scene: Scene, rng: np.random.Generator) -> list[Scene]:
    """Return the scene twice (to be seen from two sides), recoloured, and with a new object."""
    return [scene, scene, _recolored(scene, rng), _with_other_object(scene, rng)]


def _recolored(scene: Scene, rng: np.random.Generator) -> Scene:
    place = int(rng.integers(len(scene.items)))
    item = scene.items[place]
    others = [name for name in COLORS if name not in (item.color, item.second_color)]
    return _with_item(scene, place, replace(item, color=str(rng.choice(others))))


def _with_other_object(scene: Scene, rng: np.random.Generator) -> Scene:
    place = int(rng.integers(len(scene.items)))
    item = scene.items[place]
    is_support = scene.relation == "on top of" and place == 1
    names = SUPPORTS if is_support else tuple(kind.name for kind in CATALOGUE)
    kind = str(rng.choice([name for name in names if name != item.object]))
    simpler = replace(item, object=kind, pattern="plain", second_color=None)
    return _with_item(scene, place, simpler)


def _with_item(scene: Scene, place: int, new: Item) -> Scene:
    return replace(scene, items=(*scene.items[:place], new, *scene.items[place + 1 :]))


def exchanges(scene: Scene) -> list[Scene]:
    """Return the relation with its two items exchanged and with their colours exchanged.

    Left out is what says the same ("next to" is symmetric) or cannot be said.
    """
    if scene.relation is None:
        return []
    first, second = scene.items
    found: list[Scene] = []
    if scene.relation == "in front of" or (
        scene.relation == "on top of" and first.object in SUPPORTS
    ):
        found.append(replace(scene, items=(second, first)))
    is_plain = first.second_color is None and second.second_color is None
    if is_plain and first.color != second.color and first.object != second.object:
        colors = (replace(first, color=second.color), replace(second, color=first.color))
        found.append(replace(scene, items=colors))
    return found


def rivals(scene: Scene, word: str, rng: np.random.Generator) -> list[str]:
    """Return `RIVALS` captions of a scene seen from `word` that are wrong in one thing alone."""
    wrong = [(other, word) for other in exchanges(scene)]
    if scene.has_front:
        views = [other for other in VIEW_WORDS if other != word]
        wrong += [(scene, str(view)) for view in rng.permutation(views)[: RIVALS - 2]]
    while len(wrong) < RIVALS:
        change = _recolored if len(wrong) % 2 else _with_other_object
        wrong.append((change(scene, rng), word))
    return [caption(other, view, rng) for other, view in wrong]


@dataclass(frozen=True)
class JudgeBatch:
    """Pictures, captions, which of them fit, and captions that fit none."""

    images: Float[Tensor, "batch 64 64 3"]
    captions: list[str]
    fits: Bool[Tensor, "batch batch"]
    rivals: list[str]
    """`RIVALS` of every picture, picture by picture."""


def make_batch(config: JudgeConfig, step: int) -> JudgeBatch:
    """Make the batch of a step, a pure function of the seed and the step."""
    rng = np.random.default_rng(derive_seed(config.seed, "judge", step))
    scenes: list[Scene] = []
    while len(scenes) < 4 * config.groups:
        scenes += near_misses(sample_scene(rng, held_out=bool(rng.random() < 0.15)), rng)
    views = sample_views(rng, len(scenes))
    cameras = views.cameras
    words = [
        view_word(float(a), float(e))
        for a, e in zip(cameras.azimuth, cameras.elevation, strict=True)
    ]
    told = [word if rng.random() < 0.8 else None for word in words]
    texts = [caption(scene, word, rng) for scene, word in zip(scenes, told, strict=True)]
    images = trace(
        pack(scenes),
        cameras,
        size=IMAGE_SIZE,
        light=views.light_direction,
        ambient=views.ambient,
        background=views.background,
    )
    wrong = [
        text for scene, word in zip(scenes, words, strict=True) for text in rivals(scene, word, rng)
    ]
    same = torch.tensor([[a == b for b in scenes] for a in scenes])
    seen = torch.tensor([[t is None or w == t for t in told] for w in words])
    return JudgeBatch(images.rgb, texts, same & seen, wrong)


def contrastive_loss(
    scores: Float[Tensor, "batch batch"],
    fits: Bool[Tensor, "batch batch"],
    rival_scores: Float[Tensor, "batch rivals"],
) -> Float[Tensor, ""]:
    """Evaluate the loss of the module docstring; every row and column must have a fitting pair."""

    def one_side(s: Tensor, p: Tensor, all_scores: Tensor) -> Tensor:
        right = s.masked_fill(~p, -torch.inf).logsumexp(dim=1)
        return (all_scores.logsumexp(dim=1) - right).mean()

    with_rivals = torch.cat([scores, rival_scores], dim=1)
    return 0.5 * (one_side(scores, fits, with_rivals) + one_side(scores.T, fits.T, scores.T))


def batch_loss(judge: Judge, batch: JudgeBatch) -> Float[Tensor, ""]:
    """Return the loss of a batch, differentiable to the judge's weights."""
    images = judge.image_encoder(batch.images)
    captions = judge.caption_encoder(judge.tokenize([*batch.captions, *batch.rivals]))
    own, wrong = captions.split([len(images), len(batch.rivals)])
    wrong = wrong.unflatten(0, (len(images), RIVALS))
    scale = judge.log_temperature.exp()
    rival_scores = scale * torch.einsum("ic,irc->ir", images, wrong)
    return contrastive_loss(scale * images @ own.T, batch.fits, rival_scores)


def train_judge(
    config: JudgeConfig, folder: Path = FOLDER, on_step: Callable[[int, float], None] | None = None
) -> Judge:
    """Train a judge and save it in `folder`; `on_step` gets each step and its loss."""
    torch.manual_seed(derive_seed(config.seed, "weights"))
    judge = Judge(vocabulary())
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps, pct_start=0.08
    )
    for step in range(config.steps):
        batch = make_batch(config, step)
        loss = batch_loss(judge, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            judge.log_temperature.clamp_(0.0, 4.6)
        if on_step is not None:
            on_step(step, loss.item())
    save_judge(judge, folder)
    return judge.eval().requires_grad_(False)


def save_judge(judge: Judge, folder: Path) -> None:
    """Write the weights in half precision, and the word list."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.half() for name, tensor in judge.state_dict().items()}
    with atomic_path(folder / "judge.safetensors") as temporary:
        save_file(tensors, temporary)
    write_text(folder / "words.json", json.dumps(judge.word_list))
