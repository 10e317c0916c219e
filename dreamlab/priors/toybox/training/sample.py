"""Pictures drawn by a prior with the ordinary Stable Diffusion pipeline, as a contact sheet."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from dreamlab.core.pictures import tile
from dreamlab.core.seeds import generator
from dreamlab.priors.folder import quiet

PROMPTS: tuple[str, ...] = (
    "a red mushroom, front view",
    "a red mushroom, overhead view",
    "a blue sphere on top of a yellow cube",
    "a green cactus, side view",
    "a yellow duck, front view",
    "a yellow duck, side view",
    "a yellow duck, back view",
    "an orange car, front view",
    "a blue car, side view",
    "a striped red and white mug, side view",
    "a purple teapot",
    "a pink house, front view",
    "a brown chair, back view",
    "a brown chair, front view",
    "a white snowman, front view",
    "a green tree",
    "a grey robot, front view",
    "a cyan rocket",
    "a checkered black and white cube",
    "a dotted pink vase",
    "two green bottles",
    "three red apples",
    "a brown table, overhead view",
    "a black cat next to a blue table",
)
"""What sample sheets of the training show."""


def make_pipeline(modules: dict[str, Any], tokenizer: Any, scheduler: Any) -> Any:
    """Put modules into a `StableDiffusionPipeline` without a safety checker."""
    with quiet():
        from diffusers import StableDiffusionPipeline

        make: Any = StableDiffusionPipeline  # parts that may be None are annotated as if not
        return make(
            vae=modules["vae"],
            unet=modules["unet"],
            text_encoder=modules["text_encoder"],
            tokenizer=tokenizer,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def load_pipeline(folder: Path, device: torch.device) -> Any:
    """Load a folder in single precision."""
    with quiet():  # diffusers says that it wants an AutoencoderKL, and takes this one
        from diffusers import StableDiffusionPipeline

        pipeline = StableDiffusionPipeline.from_pretrained(
            folder, safety_checker=None, requires_safety_checker=False
        )
        return pipeline.to(device, torch.float32)


def draw_samples(
    pipeline: Any,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 25,
    cfg_scale: float = 4.0,
    chunk: int = 24,
) -> UInt8[ndarray, "batch height width 3"]:
    """Draw one picture per prompt by DDIM; each prompt has noise of its own, given by its place."""
    pipeline.set_progress_bar_config(disable=True)
    drawn: list[ndarray] = []
    for begin in range(0, len(prompts), chunk):
        part = list(prompts[begin : begin + chunk])
        generators = [generator(seed, "sample", begin + place) for place in range(len(part))]
        images = pipeline(
            part,
            num_inference_steps=steps,
            guidance_scale=cfg_scale,
            generator=generators,
            output_type="np",
        ).images
        drawn.append((images * 255 + 0.5).astype(np.uint8))
    return np.concatenate(drawn)


def sample_grid(
    pipeline: Any,
    prompts: Sequence[str] = PROMPTS,
    *,
    columns: int = 6,
    seed: int = 0,
    steps: int = 25,
    cfg_scale: float = 4.0,
) -> Image.Image:
    """Draw one picture per prompt and lay them out row by row."""
    images = draw_samples(pipeline, prompts, seed=seed, steps=steps, cfg_scale=cfg_scale)
    return tile([list(images[row : row + columns]) for row in range(0, len(images), columns)])
