"""CLIP as a judge of pictures: which caption fits which picture, and how well.

    f = normalize(P_i vision(x)),  g = normalize(P_t text(c)),  similarity = f . g

Glossary: `x` picture, resized to the model's side and normalised by its mean and deviation; `c`
caption, cut to what the model reads; `P_i`, `P_t` the projections into the common space.

Source: Radford et al. 2021, "Learning transferable visual models from natural language
supervision".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from dreamlab.core.errors import InputError
from dreamlab.priors.folder import quiet, read_json

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that the published models were trained on, red, green, blue."""
CHUNK = 64
"""Pictures or captions that are embedded at once."""


class Clip:
    """Image and text encoder of a `CLIPModel` folder, in float32 on the CPU, without gradients.

    Raises:
        InputError: the folder holds another kind of model.
    """

    def __init__(self, folder: Path) -> None:
        from transformers import CLIPModel, CLIPTokenizer

        kind = read_json(folder / "config.json").get("model_type")
        if kind != "clip":
            raise InputError(
                f"{folder} holds no CLIP model but {kind or 'something unknown'}.",
                "name a folder or hub id such as openai/clip-vit-large-patch14.",
            )
        with quiet():
            model: Any = CLIPModel.from_pretrained(
                folder, use_safetensors=True, local_files_only=True
            )
            self.tokenizer: Any = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = model.float().eval().requires_grad_(False)
        self.size: int = model.config.vision_config.image_size
        preprocessor = folder / "preprocessor_config.json"
        written = read_json(preprocessor) if preprocessor.is_file() else {}
        self.mean = torch.tensor(written.get("image_mean", MEAN))
        self.deviation = torch.tensor(written.get("image_std", DEVIATION))

    @torch.no_grad()
    def embed_images(
        self, images: Float[Tensor, "images height width 3"]
    ) -> Float[Tensor, "images embedding"]:
        """Return unit vectors of square pictures, sRGB in [0, 1]."""
        pixels = ((images - self.mean) / self.deviation).permute(0, 3, 1, 2)
        side = (self.size, self.size)
        pixels = interpolate(pixels, side, mode="bicubic", antialias=True, align_corners=False)
        embedded = [
            self.model.visual_projection(self.model.vision_model(part).pooler_output)
            for part in pixels.split(CHUNK)
        ]
        return normalize(torch.cat(embedded), dim=-1)

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Float[Tensor, "captions embedding"]:
        """Return unit vectors of captions; what is longer than the model reads is cut."""
        tokens = self.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=self.model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )
        rows = zip(tokens.input_ids.split(CHUNK), tokens.attention_mask.split(CHUNK), strict=True)
        embedded = [
            self.model.text_projection(
                self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
            )
            for ids, mask in rows
        ]
        return normalize(torch.cat(embedded), dim=-1)
