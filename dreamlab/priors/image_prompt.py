"""A picture as a prompt (IP-Adapter): tokens of its own, which cross-attention reads beside text.

    A  =  softmax(q K^T / sqrt(d)) V  +  softmax(q K_i^T / sqrt(d)) s V_i
    K_i = W_k P(e),  V_i = W_v P(e),          e = b e_image + (1 - b) e_none

Glossary: q, K, V queries of a layer, keys and values of the text's tokens; e what CLIP sees in the
picture (one vector, or one a patch for adapters of the kind "plus"); P the adapter's projection to
a few tokens, W_k, W_v its matrices in every layer; s the scale, which may follow the stage; b the
sight: 1 for conditionings that are told of the picture, 0 for those that are not (negative and
empty prompts). e_none is the zero vector, or what CLIP sees in a picture of zeros where the adapter
reads patches.

Conventions: a conditioning carries b and s as one further row (`conditioning`), so they are stacked
with the text, and nothing in the network remembers a scale. The picture is CLIP's centre square,
transparent parts over white. It is seen once, kept in the cache by its contents, and CLIP leaves
memory.

Source: Ye et al., IP-Adapter (2023), equation 5.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.locations import cache_dir
from dreamlab.core.pictures import open_picture
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.priors.base import Prior
from dreamlab.priors.conditioning import pack
from dreamlab.priors.folder import load_part, quiet, read_json
from dreamlab.priors.hub import locate_inside
from dreamlab.priors.text_cache import read_embedding, write_embeddings
from dreamlab.priors.text_encoder import file_digest
from dreamlab.priors.user_loras import SAFETENSORS, check_suffix

SIGHT = 2
"""Numbers of b and s in a conditioning."""
ENCODER = "image_encoder"
"""Folder of CLIP beside an adapter, as its authors publish it."""
TENSORS = dict[str, dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """A picture that says beside the prompt what to make."""

    image: str
    """The picture's file."""
    adapter: str
    """The adapter's .safetensors file, on disk or as `owner/name/path` on the hub."""
    scale: Scalar = 0.5
    """How much the picture says; 0: nothing, 1: as much as it can. A schedule is of each stage."""
    encoder: str | None = None
    """Folder of the CLIP that the adapter was trained with; none: `image_encoder` beside it."""

    def __post_init__(self) -> None:
        check_within("scale", self.scale, 0.0)


@dataclass(frozen=True, slots=True)
class ImageEmbeddings:
    """What an image prompt is for the denoiser, of its dtype's precision at most."""

    image: Float[Tensor, "*shape"]
    """e_image, `[1 E]` or `[1 patches E]`."""
    none: Float[Tensor, "*shape"]
    """e_none."""
    scale: Scalar
    """s, over a stage."""

    def seen(self, sight: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1 *_"]:
        """Return e for each row, of the dtype of `sight`."""
        b = sight.reshape(-1, *[1] * self.image.ndim)
        image, none = self.image.to(sight), self.none.to(sight)
        return b * image + (1 - b) * none


def with_sight(
    prior: Prior,
    conditionings: Float[Tensor, "batch _variants tokens features"],
    progress: float | None,
    *,
    sees_image: bool,
) -> Float[Tensor, "batch _variants _rows features"]:
    """Tell conditionings b and s of the prior's image prompt; without one, do nothing.

    Args:
        prior: whose image prompt it is.
        conditionings: of each view, any number.
        progress: fraction of the stage that is done, in [0, 1].
        sees_image: b.

    Raises:
        ValueError: s is a schedule, and there is no progress.
    """
    image: ImageEmbeddings | None = getattr(prior, "image", None)
    if image is None:
        return conditionings
    row = conditionings.new_tensor([float(sees_image), value_at(image.scale, progress)])
    flat = conditionings.flatten(0, 1)
    return pack(flat, row.expand(len(flat), -1)).unflatten(0, conditionings.shape[:2])


@contextmanager
def heard(unet: Any, scale: Float[Tensor, "batch 1"]) -> Iterator[None]:
    """Let a U-Net's attention read s V_i in the place of V_i, for each row by its own s."""

    def scaled(module: nn.Module, inputs: object, values: Tensor) -> Tensor:
        return scale.reshape(-1, *[1] * (values.ndim - 1)) * values

    layers = [v for p in unet.attn_processors.values() for v in getattr(p, "to_v_ip", ())]
    hooks = [layer.register_forward_hook(scaled) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def load_image_prompt(prompt: ImagePrompt, unet: Any, device: torch.device) -> ImageEmbeddings:
    """Put the adapter into a U-Net and return what CLIP sees in the picture.

    Args:
        prompt: the settings.
        unet: the denoiser; its attention layers are changed.
        device: where CLIP runs; on the meta device the embeddings have no values.

    Raises:
        InputError: the adapter is for another network or another encoder, is of a kind that needs
            more than CLIP, or the picture cannot be read.
        MissingError: a file cannot be had, or is damaged.
    """
    picture = Path(prompt.image).expanduser()
    if not picture.is_file():
        raise MissingError(
            f"prior.image_prompt.image: there is no file {prompt.image}.", "correct the path."
        )
    check_suffix(prompt.adapter, "prior.image_prompt.adapter")
    file = locate_inside(prompt.adapter, "prior.image_prompt.adapter")
    encoder = prompt.encoder or (Path(prompt.adapter).parent / ENCODER).as_posix()
    folder = locate_inside(encoder, "prior.image_prompt.encoder")
    tensors = read_adapter(file)
    _check_encoder(folder, tensors["image_proj"], file)
    _install(unet, tensors, file)
    patches = _reads_patches(tensors["image_proj"])
    return ImageEmbeddings(*_embeddings(picture, folder, device, patches=patches), prompt.scale)


def read_adapter(file: Path) -> TENSORS:
    """Read an adapter; its tensors are named `image_proj.…` and `ip_adapter.…`.

    Raises:
        InputError: it is no adapter, or one of faces, which needs another encoder than CLIP.
        MissingError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        flat = load_file(file)
    except (OSError, SafetensorError) as error:
        raise MissingError(f"{file} cannot be read: {error}.", "download it again.") from None
    tensors: TENSORS = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in flat.items():
        part, _, rest = name.partition(".")
        tensors.setdefault(part, {})[rest] = tensor
    projection = tensors["image_proj"]
    known = {"proj.weight", "proj.3.weight", "latents"} & projection.keys()
    needs_more = "perceiver_resampler.proj_in.weight" in projection
    if not known or needs_more or not tensors["ip_adapter"]:
        raise InputError(
            f"{file} is no IP-Adapter of pictures (those of faces need more than CLIP).",
            "use such as h94/IP-Adapter/models/ip-adapter_sd15.safetensors.",
        )
    return tensors


def _reads_patches(projection: dict[str, Tensor]) -> bool:
    return "proj.weight" not in projection


def _check_encoder(folder: Path, projection: dict[str, Tensor], file: Path) -> None:
    config = read_json(folder / "config.json")
    names = ("proj.weight", "proj_in.weight", "proj.0.weight")
    wanted = next(projection[name].shape[1] for name in names if name in projection)
    key = "hidden_size" if _reads_patches(projection) else "projection_dim"
    if config.get(key) != wanted:
        raise InputError(
            f"{file} reads embeddings of {wanted} numbers, and the CLIP in {folder} makes "
            f"{config.get(key)} ({key}).",
            "set prior.image_prompt.encoder to the encoder that the adapter was trained with.",
        )


def _install(unet: Any, tensors: TENSORS, file: Path) -> None:
    with quiet():
        from diffusers.loaders import IPAdapterMixin

        class Host(IPAdapterMixin):
            """What diffusers' loader asks of a pipeline."""

        host: Any = Host()
        host.unet = unet
        try:
            host.load_ip_adapter(tensors, subfolder="", weight_name="", image_encoder_folder=None)
        except (ValueError, KeyError, RuntimeError) as error:
            line = " ".join(str(error).split())[:200]
            raise InputError(
                f"{file} is an IP-Adapter of another network: {line}.",
                "use one that was trained on a model of prior.model's kind.",
            ) from error
    unet.requires_grad_(False).eval()


def _embeddings(
    picture: Path, folder: Path, device: torch.device, *, patches: bool
) -> tuple[Tensor, Tensor]:
    """Return e_image and e_none."""
    config = read_json(folder / "config.json")
    if device.type == "meta":
        places = (config["image_size"] // config["patch_size"]) ** 2 + 1
        shape = (1, places, config["hidden_size"]) if patches else (1, config["projection_dim"])
        nothing = torch.empty(shape, device=device)
        return nothing, nothing
    digest = sha256(file_digest(picture))
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", SAFETENSORS):
            digest.update(path.name.encode() + file_digest(path))
    digest.update(b"patches" if patches else b"pooled")
    place = cache_dir() / "images" / f"{digest.hexdigest()}{SAFETENSORS}"
    both = read_embedding(place)
    if both is None:
        both = _look(picture, folder, device, patches=patches).cpu()
        write_embeddings({place: both}, place.parent)
    image, none = both.to(device)[:, None]
    return image, none


@torch.no_grad()
def _look(
    picture: Path, folder: Path, device: torch.device, *, patches: bool
) -> Float[Tensor, "2 *shape"]:
    """Return what CLIP sees in the picture and in none, float32; CLIP is loaded and let go."""
    with quiet():
        from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

        model: Any = load_part(
            CLIPVisionModelWithProjection,
            folder.parent,
            folder.name,
            use_safetensors=True,
            dtype=torch.float32,
        )
        side = model.config.image_size
        processor: Any = CLIPImageProcessor(size=side, crop_size=side)
        opened = open_picture(picture, "prior.image_prompt.image")
        pixels = processor(opened, return_tensors="pt").pixel_values
    both = torch.cat([pixels, torch.zeros_like(pixels)]).to(device)
    seen = model.to(device).eval()(both, output_hidden_states=patches)
    if patches:
        return seen.hidden_states[-2]
    return torch.stack([seen.image_embeds[0], torch.zeros_like(seen.image_embeds[0])])
