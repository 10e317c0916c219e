"""A head start of the text encoder: say what a caption says.

Before any picture is seen, the average of the text encoder's output over all positions is trained
to tell the facts of a scene (objects, colours, patterns, relation, count, view, size) by one linear
layer and a cross-entropy each. A U-Net's attention begins as an average over all positions; so it
finds the meaning of captions in its first steps instead of after thousands.

The same loss goes on with a small weight while the U-Net trains (`recall_loss`): left alone, the
text encoder forgets within some hundred steps every word that the U-Net does not use yet.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from dreamlab.core.seeds import derive_seed
from dreamlab.priors.toybox.tokenizer import encode
from dreamlab.priors.toybox.world.captions import caption
from dreamlab.priors.toybox.world.objects.catalogue import OBJECT_INDEX
from dreamlab.priors.toybox.world.palette import COLORS, PATTERNS
from dreamlab.priors.toybox.world.scenes import RELATIONS, SIZES, Item, Scene, sample_scene
from dreamlab.priors.toybox.world.views import VIEW_WORDS


@dataclass(frozen=True, slots=True)
class TextConfig:
    """How the text encoder is prepared."""

    steps: int = 700
    """Optimisation steps."""
    batch: int = 192
    """Captions per step."""
    learning_rate: float = 2e-3
    """Learning rate, falling linearly to zero in the second half."""


def _place(value: str | None, options: Sequence[str]) -> int:
    """Return the place of a value among the options, counted from 1; 0 for none."""
    return 0 if value is None else list(options).index(value) + 1


_ITEM_CLASSES = (len(OBJECT_INDEX) + 1, len(COLORS) + 1, len(PATTERNS) + 1, len(COLORS) + 1, 3)
CLASSES = (*_ITEM_CLASSES, *_ITEM_CLASSES, len(RELATIONS) + 1, 4, len(VIEW_WORDS) + 1)
"""Number of classes of every fact."""


def _item_facts(item: Item | None) -> list[int]:
    if item is None:
        return [0] * len(_ITEM_CLASSES)
    return [
        OBJECT_INDEX[item.object] + 1,
        _place(item.color, tuple(COLORS)),
        _place(item.pattern, PATTERNS),
        _place(item.second_color, tuple(COLORS)),
        _place(item.size, SIZES),
    ]


def facts_of(scene: Scene, view: str | None) -> list[int]:
    """Return the class of every fact of a scene seen from a view."""
    first, second = (*scene.items, None)[:2]
    rest = [_place(scene.relation, RELATIONS), scene.count, _place(view, VIEW_WORDS)]
    return [*_item_facts(first), *_item_facts(second), *rest]


def facts_loss(
    embedded: Float[Tensor, "batch tokens width"],
    heads: nn.ModuleList,
    facts: Int[Tensor, "batch facts"],
) -> Float[Tensor, ""]:
    """Return the sum over facts of the mean cross-entropy."""
    mean = embedded.mean(dim=1)
    losses = [cross_entropy(head(mean), facts[:, i]) for i, head in enumerate(heads)]
    return torch.stack(losses).sum()


def build_heads(width: int) -> nn.ModuleList:
    """Build the linear layers that tell facts from the mean of embedded tokens of a width."""
    return nn.ModuleList(nn.Linear(width, count) for count in CLASSES)


def recall_loss(
    text_encoder: Any, heads: nn.ModuleList, tokenizer: Any, batch: int, *, seed: int, step: int
) -> Float[Tensor, ""]:
    """Return `facts_loss` of a batch of captions, a pure function of seed and step."""
    rng = np.random.default_rng(derive_seed(seed, "text", step))
    scenes = [sample_scene(rng) for _ in range(batch)]
    views = [None if rng.random() < 0.25 else str(rng.choice(VIEW_WORDS)) for _ in scenes]
    captions = [caption(s, view, rng) for s, view in zip(scenes, views, strict=True)]
    facts = torch.tensor([facts_of(s, view) for s, view in zip(scenes, views, strict=True)])
    device = text_encoder.device
    embedded = text_encoder(encode(tokenizer, captions).to(device)).last_hidden_state
    return facts_loss(embedded, heads, facts.to(device))


def train_text(
    text_encoder: Any,
    heads: nn.ModuleList,
    tokenizer: Any,
    config: TextConfig,
    *,
    seed: int,
    on_step: Callable[[int, dict[str, float]], None],
    heads_only: bool = False,
) -> None:
    """Train the text encoder and the heads in place, or the heads of a trained text encoder."""
    parameters = [*heads.parameters(), *(() if heads_only else text_encoder.parameters())]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=0.01)
    for step in range(config.steps):
        rate = min(1.0, (step + 1) / 40, 2 * (config.steps - step) / config.steps)
        optimizer.param_groups[0]["lr"] = config.learning_rate * rate
        loss = recall_loss(text_encoder, heads, tokenizer, config.batch, seed=seed, step=step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        on_step(step, {"loss": loss.item()})
