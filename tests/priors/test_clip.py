"""CLIP as a judge says what the published classes say."""

import json
from pathlib import Path

import pytest
import torch
from tiny_models import POOLED, TOKENS, WIDTH, tiny_tokenizer

from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors.clip import Clip
from dreamlab.priors.folder import CLIP_MODEL
from dreamlab.priors.hub import locate_network

CAPTIONS = ["a red ball", "a cube"]
MEAN, DEVIATION = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def locate(source: str) -> Path:
    return locate_network(source, CLIP_MODEL, "--score")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of random weights with its processor, as published ones are laid out."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("clip")
    tokenizer = tiny_tokenizer(folder)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4}
    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": TOKENS, **marks}
    vision = {"image_size": 32, "patch_size": 8}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=sizes | text, vision_config=sizes | vision, projection_dim=POOLED
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    about = {"image_mean": MEAN, "image_std": DEVIATION, "size": {"shortest_edge": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return folder


def test_similarities_are_those_of_the_published_classes(folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    clip = Clip(locate(str(folder)))
    images = torch.rand(3, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    found = clip.embed_images(images) @ clip.embed_captions(CAPTIONS).T
    pixels = ((images - torch.tensor(MEAN)) / torch.tensor(DEVIATION)).permute(0, 3, 1, 2)
    tokens = CLIPTokenizer.from_pretrained(folder)(CAPTIONS, padding=True, return_tensors="pt")
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        told = model(pixel_values=pixels, **tokens)
    torch.testing.assert_close(
        found, told.logits_per_image / model.logit_scale.exp(), atol=1e-5, rtol=0
    )


def test_pictures_of_any_size_and_long_captions_are_taken(folder: Path) -> None:
    clip = Clip(folder)
    large = torch.full((1, 80, 80, 3), 0.3)
    torch.testing.assert_close(clip.embed_images(large), clip.embed_images(large[:, :32, :32]))
    assert clip.embed_captions(["ball " * 100]).norm() == pytest.approx(1.0, abs=1e-5)


def test_what_is_no_clip_is_refused(folder: Path, sd1_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no CLIP model"):
        locate("nowhere")
    with pytest.raises(MissingError, match="lacks"):
        locate(str(tmp_path))
    with pytest.raises(MissingError, match="cannot be had"):
        locate("nobody/no-such-clip")
    with pytest.raises(InputError, match="no CLIP model but clip_text_model"):
        Clip(sd1_folder / "text_encoder")
