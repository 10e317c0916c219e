"""Training data: rendered scenes with captions, cached as latents and token ids in shards.

A shard is a pure function of the data seed, its index, the world and the autoencoder, so a work
folder can always be completed or made again. Shards are appended while training goes on: step s of
the diffusion may use the shards that `num_shards` says, whatever lies on disk.

The first `SINGLES` images of a shard are independent, the others come in groups of `twins`. Of the
`VARIANTS` captions of an image the last one names no view. In about one of twenty captions a
made-up word stands at a random place, so that the words of users that the world does not know do
little harm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path
from dreamlab.core.seeds import derive_seed
from dreamlab.priors.toybox.tokenizer import encode
from dreamlab.priors.toybox.training.twins import GROUP, sample_twins
from dreamlab.priors.toybox.world.captions import caption
from dreamlab.priors.toybox.world.scenes import Scene, pack, sample_scene, sample_simple_scene
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import Views, sample_views, view_word

VARIANTS = 4
NONSENSE_SHARE = 0.05
SIMPLE_SHARE = 0.7
"""Share of shards' images that show one mostly plain object: shapes are learned from these."""
SHARD_SIZE = 128
SINGLES = 64
"""Independent images of a shard; they come first."""
GROUPS = (SHARD_SIZE - SINGLES) // GROUP
"""Groups of twins of a shard."""
_CHUNK = 64

Encode = Callable[[Float[Tensor, "batch 3 height width"]], Float[Tensor, "batch c h w"]]


@dataclass(frozen=True)
class Samples:
    """Images and their captions."""

    images: Float[Tensor, "batch 3 height width"]
    """In [-1, 1], as the autoencoder takes them."""
    captions: list[list[str]]
    """`VARIANTS` per image; the last one names no view."""


def render_samples(
    seed: int, purpose: str, index: int, count: int, size: int, *, simple_share: float = 0.0
) -> Samples:
    """Render `count` training images of `size` pixels, a pure function of the arguments.

    A share of about `simple_share` shows single, mostly plain objects, the rest all of the world.
    """
    rng = np.random.default_rng(derive_seed(seed, purpose, index))
    scenes = [
        sample_simple_scene(rng) if rng.random() < simple_share else sample_scene(rng)
        for _ in range(count)
    ]
    return _render(scenes, sample_views(rng, count), size, rng)


def render_twins(seed: int, index: int, groups: int, size: int) -> Samples:
    """Render groups of twins of `size` pixels, one after the other."""
    rng = np.random.default_rng(derive_seed(seed, "twins", index))
    drawn = [sample_twins(rng, group) for group in range(groups)]
    parts = [_render(scenes, views, size, rng) for scenes, views in drawn]
    texts = [variants for part in parts for variants in part.captions]
    return Samples(torch.cat([part.images for part in parts]), texts)


def _render(scenes: list[Scene], views: Views, size: int, rng: np.random.Generator) -> Samples:
    render = trace(
        pack(scenes),
        views.cameras,
        size=size,
        light=views.light_direction,
        ambient=views.ambient,
        background=views.background,
    )
    words = [
        view_word(float(azimuth), float(elevation))
        for azimuth, elevation in zip(views.cameras.azimuth, views.cameras.elevation, strict=True)
    ]
    captions = [
        [
            insert_nonsense(caption(scene, told, rng), rng)
            for told in (*(word,) * (VARIANTS - 1), None)
        ]
        for scene, word in zip(scenes, words, strict=True)
    ]
    return Samples(render.rgb.permute(0, 3, 1, 2).contiguous() * 2 - 1, captions)


def insert_nonsense(text: str, rng: np.random.Generator) -> str:
    """With probability `NONSENSE_SHARE` insert a made-up word at a random place."""
    if rng.random() >= NONSENSE_SHARE:
        return text
    letters = rng.integers(ord("a"), ord("z") + 1, size=rng.integers(3, 9))
    words = text.split(" ")
    words.insert(int(rng.integers(len(words) + 1)), "".join(map(chr, letters)))
    return " ".join(words)


def make_shard(seed: int, index: int, *, size: int, tokenizer: Any, encode_images: Encode) -> dict:
    """Make shard `index`: `latents` [n, c, h, w] in half precision, `tokens` [n, variants, t]."""
    latents, tokens = [], []
    chunks = SHARD_SIZE // _CHUNK
    for chunk in range(chunks):
        number = index * chunks + chunk
        if chunk * _CHUNK < SINGLES:
            samples = render_samples(seed, "shard", number, _CHUNK, size, simple_share=SIMPLE_SHARE)
        else:
            samples = render_twins(seed, number, _CHUNK // GROUP, size)
        latents.append(encode_images(samples.images).half())
        texts = [text for variants in samples.captions for text in variants]
        tokens.append(encode(tokenizer, texts).to(torch.int16).reshape(_CHUNK, VARIANTS, -1))
    return {"latents": torch.cat(latents), "tokens": torch.cat(tokens)}


def num_shards(step: int, batch: int, *, first: int, last: int, reuse: float) -> int:
    """Return how many shards step `step` draws from.

    The pool starts with `first` shards and grows so that an image is used `reuse` times on average,
    up to `last` shards.
    """
    grown = first + int(step * batch / (reuse * SHARD_SIZE))
    return min(max(first, grown), last)


class ShardPool:
    """The shards of a work folder, held in memory and made on demand.

    Args:
        folder: where the shards lie; made if it is missing.
        fingerprint: names world, seed, tokenizer and autoencoder; a shard made with another one is
            refused.
        make: makes the tensors of a shard from its index.
    """

    def __init__(
        self, folder: Path, fingerprint: str, make: Callable[[int], dict[str, Tensor]]
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.fingerprint, self.make = folder, fingerprint, make
        self._shards: list[dict[str, Tensor]] = []

    def grow(self, count: int) -> None:
        """Make or read shards until there are `count`.

        Raises:
            InputError: a shard on disk was made with another seed, world or autoencoder.
        """
        while len(self._shards) < count:
            index = len(self._shards)
            path = self.folder / f"{index:05d}.safetensors"
            if not path.is_file():
                shard = self.make(index)
                with atomic_path(path) as temporary:
                    save_file(shard, temporary, metadata={"fingerprint": self.fingerprint})
            self._shards.append(self._read(path))

    def _read(self, path: Path) -> dict[str, Tensor]:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("fingerprint")
            if found != self.fingerprint:
                raise InputError(
                    f"{path} was made for {found}, this training is {self.fingerprint}.",
                    f"delete {self.folder} or choose another work folder.",
                )
            return {name: file.get_tensor(name) for name in ("latents", "tokens")}

    def draw(
        self, places: Int[Tensor, " batch"], variants: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch c h w"], Int[Tensor, "batch tokens"]]:
        """Return the latents (single precision) and token ids of images of the pool."""
        shard, row = places // SHARD_SIZE, places % SHARD_SIZE
        pairs = list(zip(shard.tolist(), row.tolist(), variants.tolist(), strict=True))
        latents = torch.stack([self._shards[s]["latents"][r] for s, r, _ in pairs])
        tokens = torch.stack([self._shards[s]["tokens"][r, v] for s, r, v in pairs])
        return latents.float(), tokens.long()

    def __len__(self) -> int:
        return len(self._shards) * SHARD_SIZE


def empty_captions(tokenizer: Any, rows: int) -> Int[Tensor, "rows tokens"]:
    """Return the token ids of the empty caption, for classifier-free guidance."""
    return encode(tokenizer, [""]).repeat(rows, 1)
