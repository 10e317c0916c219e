"""How much the network listens to each word of a caption.

For fresh images z of one plain object from a known side, and captions that are right but for one
word w (the object, the colour or the view),

    gap_w(t) = mean |v_theta(z_t, t, y_w) - v|^2 - mean |v_theta(z_t, t, y) - v|^2.

A gap of zero says that the word is not heard at noise level t. The loss itself, which is mostly the
noise that nobody can predict, hardly shows that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamlab.core.seeds import derive_seed, generator
from dreamlab.priors.toybox.model import velocity
from dreamlab.priors.toybox.tokenizer import encode
from dreamlab.priors.toybox.world.captions import prompt_of
from dreamlab.priors.toybox.world.objects.catalogue import OBJECTS
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import Item, Scene, pack, sample_simple_scene
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import sample_views, view_word

TIMES = (0.6, 0.85, 0.97)
"""Noise levels t, as fractions of the schedule; at the last one a picture tells almost nothing, so
all that is drawn comes from the caption."""
_OTHER_VIEW = {"front": "back", "back": "front", "side": "front", "overhead": "side"}


def _another(name: str, names: Sequence[str], rng: np.random.Generator) -> str:
    others = [other for other in names if other != name]
    return others[rng.integers(len(others))]


@dataclass(frozen=True)
class Probe:
    """Latents, and captions of which all but `right` have one wrong word."""

    latents: Float[Tensor, "batch c h w"]
    tokens: dict[str, Int[Tensor, "batch tokens"]]
    """By `right`, `object`, `color`, `view`."""


def make_probe(
    seed: int, count: int, *, size: int, tokenizer: Any,
    encode_images: Callable[[Float[Tensor, "batch 3 h w"]], Float[Tensor, "batch c h2 w2"]],
) -> Probe:  # fmt: skip
    """Render `count` images of single plain objects and write their captions."""
    rng = np.random.default_rng(derive_seed(seed, "probe"))
    drawn = [sample_simple_scene(rng).items[0] for _ in range(count)]
    items = [Item(item.object, item.color) for item in drawn]
    views = sample_views(rng, count)
    images = trace(
        pack([Scene((item,)) for item in items]),
        views.cameras,
        size=size,
        light=views.light_direction,
        ambient=views.ambient,
        background=views.background,
    ).rgb
    angles = zip(views.cameras.azimuth.tolist(), views.cameras.elevation.tolist(), strict=True)
    words = [view_word(*pair) for pair in angles]
    objects, colors = tuple(OBJECTS), tuple(COLORS)
    told = {
        "right": (items, words),
        "object": ([replace(i, object=_another(i.object, objects, rng)) for i in items], words),
        "color": ([replace(i, color=_another(i.color, colors, rng)) for i in items], words),
        "view": (items, [_OTHER_VIEW[word] for word in words]),
    }
    captions = {
        name: [f"{prompt_of(Scene((i,)))}, {w} view" for i, w in zip(*pair, strict=True)]
        for name, pair in told.items()
    }
    tokens = {name: encode(tokenizer, texts).long() for name, texts in captions.items()}
    return Probe(encode_images(images.permute(0, 3, 1, 2).contiguous() * 2 - 1), tokens)


@torch.no_grad()
def measure(
    unet: nn.Module, text_encoder: nn.Module, probe: Probe, alpha_bars: Float[Tensor, " timesteps"]
) -> dict[str, float]:
    """Return `loss@t` of the right captions and `object@t`, `color@t`, `view@t`, their gaps."""
    device = alpha_bars.device
    latents = probe.latents.to(device)
    noise = torch.randn(latents.shape, generator=generator(0, "probe")).to(device)
    embedded = {
        name: text_encoder(tokens.to(device)).last_hidden_state
        for name, tokens in probe.tokens.items()
    }
    result: dict[str, float] = {}
    for time in TIMES:
        step = torch.full((len(latents),), int(time * len(alpha_bars)), device=device)
        noisy, target = velocity(latents, noise, alpha_bars[step])
        losses = {
            name: (unet(noisy, step, caption).sample - target).square().mean().item()
            for name, caption in embedded.items()
        }
        right = losses.pop("right")
        result[f"loss@{time}"] = right
        result |= {f"{name}@{time}": loss - right for name, loss in losses.items()}
    return result
