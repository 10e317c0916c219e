"""An independent judge of pictures: a small image-text dual encoder.

It says which of several captions fits a picture best (as CLIP does, Radford et al. 2021) and is
trained on the toybox world with seeds, data and weights of its own, so it shares nothing with the
diffusion model that it judges.

Glossary: `f` image embedding, `g` caption embedding, both unit vectors; `tau` inverse temperature;
score = tau f . g.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import gelu, group_norm, normalize

from dreamlab.core.errors import MissingError
from dreamlab.core.locations import PACKAGE

FOLDER = PACKAGE / "priors" / "toybox" / "weights" / "judge"
IMAGE_SIZE = 64
MAX_WORDS = 24
EMBEDDING = 128
UNKNOWN, PADDING = 1, 0


class ResidualBlock(nn.Module):
    """Norm, convolution, twice, around a skip connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        y = self.first(gelu(group_norm(x, 8)))
        return x + self.second(gelu(group_norm(y, 8)))


class ImageEncoder(nn.Module):
    """64x64 pictures to embeddings; four halvings, then all 16 cells feed the last layer."""

    def __init__(self, widths: Sequence[int] = (24, 48, 96, 160)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 3
        for width in widths:
            layers += [nn.Conv2d(previous, width, 4, stride=2, padding=1), ResidualBlock(width)]
            previous = width
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(previous * 16, EMBEDDING)

    def forward(
        self, images: Float[Tensor, "batch height width 3"]
    ) -> Float[Tensor, "batch embedding"]:
        x = self.layers(images.permute(0, 3, 1, 2) * 2 - 1)
        return normalize(self.head(gelu(x).flatten(1)), dim=-1)


class CaptionEncoder(nn.Module):
    """Words to embeddings: a small transformer, averaged over the words."""

    def __init__(self, num_words: int, width: int = 128, num_layers: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(num_words, width, padding_idx=PADDING)
        self.places = nn.Parameter(torch.randn(MAX_WORDS, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, EMBEDDING)

    def forward(self, tokens: Int[Tensor, "batch words"]) -> Float[Tensor, "batch embedding"]:
        tokens = tokens[:, : int((tokens != PADDING).sum(dim=1).max())]
        padding = tokens == PADDING
        x = self.words(tokens) + self.places[: tokens.shape[1]]
        x = self.layers(x, src_key_padding_mask=padding)
        present = (~padding)[..., None]
        mean = (x * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)
        return normalize(self.head(mean), dim=-1)


class Judge(nn.Module):
    """The dual encoder and its list of words."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self.word_list = tuple(words)
        self.word_index = {word: index + 2 for index, word in enumerate(self.word_list)}
        self.image_encoder = ImageEncoder()
        self.caption_encoder = CaptionEncoder(len(self.word_list) + 2)
        self.log_temperature = nn.Parameter(torch.tensor(2.3))

    def tokenize(self, captions: Sequence[str]) -> Int[Tensor, "captions words"]:
        """Turn captions into word indices; unknown words share one index, long tails are cut."""
        rows = torch.full((len(captions), MAX_WORDS), PADDING, dtype=torch.long)
        for row, caption in zip(rows, captions, strict=True):
            words = re.findall(r"[a-z0-9]+", caption.lower())[:MAX_WORDS] or ["?"]
            indices = [self.word_index.get(word, UNKNOWN) for word in words]
            row[: len(indices)] = torch.tensor(indices)
        return rows

    def embed_images(
        self, images: Float[Tensor, "images height width 3"]
    ) -> Float[Tensor, "images embedding"]:
        """Return unit vectors of pictures, sRGB in [0, 1]; they are resized to 64x64 by area."""
        if images.shape[1] != IMAGE_SIZE or images.shape[2] != IMAGE_SIZE:
            moved = images.permute(0, 3, 1, 2)
            moved = nn.functional.interpolate(moved, (IMAGE_SIZE, IMAGE_SIZE), mode="area")
            images = moved.permute(0, 2, 3, 1)
        return self.image_encoder(images)

    def embed_captions(self, captions: Sequence[str]) -> Float[Tensor, "captions embedding"]:
        """Return unit vectors of captions, any texts of the world."""
        return self.caption_encoder(self.tokenize(captions).to(self.log_temperature.device))

    def scores(
        self, images: Float[Tensor, "images height width 3"], captions: Sequence[str]
    ) -> Float[Tensor, "images captions"]:
        """Score every caption against every picture; the higher, the better it fits."""
        embedded = self.embed_captions(captions)
        return self.log_temperature.exp() * self.embed_images(images) @ embedded.T


def load_judge(folder: Path = FOLDER) -> Judge:
    """Load a trained judge, in evaluation mode and without gradients.

    Raises:
        MissingError: there is no judge in `folder`.
    """
    if not (folder / "judge.safetensors").is_file():
        raise MissingError(f"no judge in {folder}.", "train one with `dreamlab toybox judge`.")
    words = json.loads((folder / "words.json").read_text())
    judge = Judge(words)
    tensors = load_file(folder / "judge.safetensors")
    judge.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return judge.eval().requires_grad_(False)
