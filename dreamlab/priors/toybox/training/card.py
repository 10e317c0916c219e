"""The model card: the README of a folder of weights, written from measured facts only."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dreamlab.priors.toybox.model import Architecture
from dreamlab.priors.toybox.world.captions import vocabulary
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.palette import COLORS, PATTERNS
from dreamlab.priors.toybox.world.scenes import RELATIONS
from dreamlab.priors.toybox.world.views import RANGES


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What happened in a training."""

    seed: int
    """Of the data, the weights and the noise."""
    decoder_steps: int
    decoder_seconds: float
    decoder_psnr: float
    """Over renders that were not trained on, dB."""
    diffusion_steps: int
    images_seen: int
    """Images of all diffusion steps, repetitions included."""
    images_rendered: int
    """Different images of the diffusion training."""
    diffusion_seconds: float
    loss: float
    """Mean over the last hundred logged steps."""
    machine: str
    """Class of the machine: processor or accelerator and threads."""
    torch_version: str
    history: str = ""
    """What else a reader should know about how the weights came to be, in Markdown."""


def write_card(architecture: Architecture, facts: TrainingFacts, sizes: Mapping[str, int]) -> str:
    """Return the model card in Markdown.

    Args:
        architecture: sizes of the networks.
        facts: of the training.
        sizes: number of parameters by part.
    """
    front = sum(kind.has_front for kind in CATALOGUE)
    parts = "\n".join(f"| {name} | {count / 1e6:.2f} M |" for name, count in sizes.items())
    ranges = "\n".join(f"| {name} | {_shown(value)} |" for name, value in asdict(RANGES).items())
    decoder = (
        f"{facts.decoder_steps} steps, {facts.decoder_seconds / 60:.0f} min, "
        f"{facts.decoder_psnr:.1f} dB PSNR on fresh renders"
    )
    return f"""---
license: apache-2.0
pipeline_tag: text-to-image
library_name: diffusers
---

# toybox: the embedded prior

A small text-to-image diffusion model of a procedural toy world, in the Stable Diffusion layout:
`StableDiffusionPipeline.from_pretrained(<this folder>)` loads it. It exists so that text to 3D runs
on any machine with nothing downloaded. All training images were rendered by `dreamlab`; no other
data was used.

![samples](samples.png)

## World

- {len(CATALOGUE)} objects, {front} of them with a clear front that faces +x: {_names()}.
- {len(COLORS)} colours: {", ".join(COLORS)}. Patterns: {", ".join(PATTERNS)}. Two-colour objects.
- Relations: {", ".join(RELATIONS)}. Counts up to three. Sizes: small, big.
- {len(vocabulary())} words. Unknown words are tolerated and mean nothing.
- Held out from training, by rule: about 15 % of the (colour, object) and of the (object, relation,
  object) combinations (`dreamlab.priors.toybox.world.scenes.is_held_out`).

Ranges of the training views (angles in degrees, lengths in world units; objects fit the unit ball):

| range | value |
|---|---|
{ranges}

## Model

Images {architecture.image_size}x{architecture.image_size}; latents
{architecture.latent_channels}x{architecture.latent_size}x{architecture.latent_size} from a fixed
linear encoder (principal components of 4x4 patches), of mean 0 and mean variance 1; v-prediction;
cosine schedule of 1000 steps; captions of up to {architecture.tokens} tokens.

| part | parameters |
|---|---|
{parts}

## Training

| fact | value |
|---|---|
| seed of data and weights | {facts.seed} |
| decoder | {decoder} |
| text encoder and U-Net | {facts.diffusion_steps} steps, {facts.diffusion_seconds / 60:.0f} min |
| images seen (different ones) | {facts.images_seen:,} ({facts.images_rendered:,}) |
| loss at the end | {facts.loss:.4f} |
| machine | {facts.machine} |
| torch | {facts.torch_version} |

{facts.history}
The weights are an exponential moving average, stored in half precision. Repeat or continue the
training with `dreamlab toybox train`.

![loss curves](curves.png)

## Limits

It knows this world only: words, colours and views outside the lists above give arbitrary pictures.
Pictures are small ({architecture.image_size} pixels), without shadows, on plain backgrounds.
Held-out combinations and scenes of two objects come out right less often than single objects.
"""


def write_views_card(facts: Mapping[str, Any], probed: Mapping[str, float]) -> str:
    """Return the model card of weights that `multi_view` trained.

    Args:
        facts: name to value, of the training.
        probed: what its probe found at the end.
    """
    told = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    times = [name.removeprefix("loss@") for name in probed if name.startswith("loss@")]
    gaps = "\n".join(
        f"| {t} | {probed[f'loss@{t}']:.4f} | {1e3 * probed[f'strangers@{t}']:.1f} | "
        f"{1e3 * probed[f'turned@{t}']:.1f} |"
        for t in times
    )
    return f"""---
license: apache-2.0
pipeline_tag: text-to-image
library_name: diffusers
---

# toybox-views: the embedded prior, of four views at once

What makes toybox, in the folder that `base` of model_index.json names, a multi-view model of
MVDream's kind: an embedding of cameras, and self-attention over four views of an object from sides
90 degrees apart. Only the weights that differ are here. World, limits and all else: the card of the
base.

| fact | value |
|---|---|
{told}

How much the loss rises (in thousandths) where a view is beside views of other objects, and where
all cameras of a group are turned by 180 degrees, on fresh groups:

| t | loss | beside others | turned |
|---|---|---|---|
{gaps}

The weights are an exponential moving average, stored in half precision. Repeat or continue the
training with `dreamlab toybox train-views`.
"""


def _names() -> str:
    return ", ".join(f"{kind.name}*" if kind.has_front else kind.name for kind in CATALOGUE) + (
        " (* has a front)"
    )


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{end:g}" for end in value)
    return json.dumps(value)
