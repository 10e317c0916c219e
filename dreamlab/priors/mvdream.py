"""MVDream and all multi-view models of its kind: Stable Diffusion with two changes.

    emb = time(t) + M(c)                       M a network of two layers, c the camera
    [h^1; ...; h^N] = selfattention([h^1; ...; h^N])          the tokens of N views in one row

so that every latent of a view attends to all latents of all views of its object; everything else,
attention to the text included, is as it was, view by view. What N and c are: `multi_view`.

c travels below the tokens of a prompt, as what pools them does in other families (`conditioning`).

The network is diffusers' own U-Net. M is its embedding of classes (`class_embed_type: projection`).
Self-attention gets the tokens of a group as one row by hooks before and after it. It is not done
by a processor of attention, since others are put in their place: by slicing, a rung of `memory`.

Folders whose model_index.json names an `MVDreamPipeline` are read in three layouts of the same
network:

    unet/ of class UNet2DConditionModel, with class_embedding.linear_1 and linear_2 over 16 numbers;
    the same without it, and M in camera_proj/ (linear_1, linear_2), as in lzq49's conversion;
    unet/ of class MultiViewUNetModel, under the names of the original code (input_blocks, ...,
    camera_embed.0 and .2), as in ashawkey's conversion.

A folder in the first layout that adds to one of Stable Diffusion (`base` in model_index.json, see
`folder`) holds the weights of the U-Net that differ from the base's, M among them. `num_views` in
model_index.json says N if it is not 4. The layouts of the two published conversions
are known from the code that wrote them; their weights were not at hand when this was tested.

Source: Shi et al., MVDream (2024), section 3.1, and its code: 3D self-attention, M of two layers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors.conditioning import pack, unpack
from dreamlab.priors.diffusion import LoadOptions, load_autoencoder
from dreamlab.priors.folder import (
    MVDREAM,
    base_of,
    index_parts,
    load_weights,
    part_class,
    quiet,
    read_json,
)
from dreamlab.priors.multi_view import CAMERA_NUMBERS, camera_numbers, group_size
from dreamlab.priors.noise_schedule import load_discrete_schedule
from dreamlab.priors.stable_diffusion import StableDiffusionPrior
from dreamlab.priors.text_encoder import TextEncoder
from dreamlab.priors.unet import Told

ORIGINAL_UNET = "model.diffusion_model."
CAMERA_LAYERS = {"linear_1": "0", "linear_2": "2"}
"""The layers of M, here and in the original code."""


class MVDreamPrior(StableDiffusionPrior):
    """Stable Diffusion whose U-Net sees the views of an object at once; satisfies `MultiView`.

    Raises:
        InputError: `max_rows` splits groups.
    """

    def __init__(self, options: LoadOptions, *, num_views: int, **parts: Any) -> None:
        """Join the views; `parts` are those of `StableDiffusionPrior`."""
        if (options.max_rows or num_views) % num_views:
            raise InputError(
                f"prior.max_rows must be a multiple of {num_views} for {options.name}, which sees "
                f"{num_views} views at once; got {options.max_rows}.",
                f"use {num_views * -(-(options.max_rows or 0) // num_views)}, or leave it out.",
            )
        super().__init__(options, **parts)
        self.num_views = num_views
        join_views(self.unet, num_views)

    @property
    def max_rows(self) -> int | None:
        """Latents that the network gets in one call: whole groups, one at least; None: all."""
        rows = self.running.max_rows
        return None if rows is None else -(-rows // self.num_views) * self.num_views

    def with_cameras(
        self, conditionings: Float[Tensor, "batch _variants tokens features"], cameras: Cameras
    ) -> Float[Tensor, "batch _variants rows features"]:
        num_views, num_variants = conditionings.shape[:2]
        numbers = camera_numbers(cameras).to(conditionings)
        packed = pack(conditionings.flatten(0, 1), numbers.repeat_interleave(num_variants, dim=0))
        return packed.unflatten(0, (num_views, num_variants))

    def told(self, conditioning: Float[Tensor, "batch rows features"]) -> Told:
        group_size(self, len(conditioning))
        tokens, cameras = unpack(conditioning, CAMERA_NUMBERS)
        if tokens.shape[1] % self.text.limit:
            raise ValueError("conditionings have no cameras: they must come from with_cameras()")
        return Told(tokens, {}, cameras)


def join_views(unet: nn.Module, num_views: int) -> None:
    """Make self-attention see the tokens of every `num_views` rows as one row, for good."""

    def join(
        module: nn.Module, inputs: tuple[Tensor, ...], options: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        tokens, *rest = inputs
        return (tokens.unflatten(0, (-1, num_views)).flatten(1, 2), *rest), options

    def part(module: nn.Module, inputs: object, tokens: Tensor) -> Tensor:
        return tokens.unflatten(1, (num_views, -1)).flatten(0, 1)

    for module in self_attentions(unet):
        module.register_forward_pre_hook(join, with_kwargs=True)
        module.register_forward_hook(part)


def self_attentions(unet: nn.Module) -> list[nn.Module]:
    """Return the layers in which the latents of a picture attend to each other."""
    return [module for name, module in unet.named_modules() if name.endswith(".attn1")]


def load(folder: Path, options: LoadOptions) -> MVDreamPrior:
    """Load a model folder; the text encoder is left on disk until a text must be encoded.

    Raises:
        InputError: the model also wants pictures, is not one of 16 numbers a camera, or has no
            number of views.
        MissingError: a file is missing or damaged.
    """
    part_class(folder, "vae")
    text = TextEncoder(folder, options.device)
    num_views = views_of(folder)
    config = unet_config(folder)
    space = load_autoencoder(folder, options)
    schedule, prediction_type = load_discrete_schedule(folder, options.few_steps, options.device)
    return MVDreamPrior(
        options,
        unet=load_unet(folder, config, options),
        space=space,
        text=text,
        schedule=schedule,
        prediction_type=prediction_type,
        num_views=num_views,
    )


def views_of(folder: Path) -> int:
    """Return N of a model folder.

    Raises:
        InputError: its index names no number of views.
        MissingError: the index is missing or damaged.
    """
    num_views = read_json(folder / "model_index.json").get("num_views", MVDREAM.num_views)
    if not isinstance(num_views, int) or num_views < 1:
        raise InputError(
            f"{folder / 'model_index.json'}: num_views must be a positive integer, got "
            f"{num_views!r}.",
            f"correct it, or leave it out for {MVDREAM.num_views}.",
        )
    return num_views


def unet_config(folder: Path) -> dict[str, Any]:
    """Return the U-Net's config as diffusers' own class wants it, whatever its layout.

    Raises:
        InputError: the network needs more than latents, time, text and cameras of 16 numbers.
        MissingError: the config is missing or damaged.
    """
    config = read_json(folder / "unet" / "config.json")
    if part_class(folder, "unet") == "MultiViewUNetModel":
        problem = "its U-Net also reads a picture" if config.get("ip_dim") else None
        numbers = config.get("camera_dim")
        if problem is None and numbers == CAMERA_NUMBERS:
            config = converted_config(config)
    elif "camera_proj" in index_parts(folder):
        problem = None
        numbers = read_json(folder / "camera_proj" / "config.json").get("in_channels")
        config |= camera_settings()
    else:
        is_projected = config.get("class_embed_type") == "projection"
        problem = None if is_projected else "its U-Net has no embedding of cameras"
        numbers = config.get("projection_class_embeddings_input_dim")
    if problem is None and numbers != CAMERA_NUMBERS:
        problem = f"its cameras have {numbers} numbers, not {CAMERA_NUMBERS}"
    if problem:
        raise InputError(
            f"{folder} is not a text-to-multi-view model of MVDream's kind: {problem}.",
            "choose one, such as mvdream.",
        )
    return config


def camera_settings() -> dict[str, Any]:
    """Return how diffusers' U-Net is told to have M."""
    return {
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": CAMERA_NUMBERS,
    }


def converted_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config for diffusers of a U-Net of the original code.

    Its keys are those of latent diffusion's U-Net; a level at which resolutions were halved k times
    has attention if 2^k is among `attention_resolutions`.
    """
    width, multiples = config["model_channels"], config["channel_mult"]
    attends = [2**k in config["attention_resolutions"] for k in range(len(multiples))]
    channels = [width * multiple for multiple in multiples]
    heads = config.get("num_heads", -1)
    if heads == -1:  # else so many at every level
        heads = [count // config["num_head_channels"] for count in channels]
    down, up = "CrossAttnDownBlock2D", "CrossAttnUpBlock2D"
    return {
        "sample_size": config["image_size"],
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "block_out_channels": channels,
        "layers_per_block": config["num_res_blocks"],
        "down_block_types": [down if has else "DownBlock2D" for has in attends],
        "up_block_types": [up if has else "UpBlock2D" for has in reversed(attends)],
        "transformer_layers_per_block": config.get("transformer_depth", 1),
        "cross_attention_dim": config["context_dim"],
        "attention_head_dim": heads,  # diffusers calls the number of heads so
        "use_linear_projection": True,
        **camera_settings(),
    }


def load_unet(folder: Path, config: Mapping[str, Any], options: LoadOptions) -> Any:
    """Load the U-Net of a folder into diffusers' own class.

    Raises:
        MissingError: weights are missing or damaged, or do not fit the config.
    """
    with quiet():
        import diffusers
    precision, has_weights = options.precision, options.device.type != "meta"
    with quiet(), torch.device("meta"):
        unet: Any = diffusers.UNet2DConditionModel.from_config(dict(config))
    if has_weights:
        weights = unet_weights(folder, config, prefer_half=precision == torch.float16)
        try:
            unet.load_state_dict(weights, assign=True)
        except RuntimeError as error:
            line = " ".join(str(error).split())[:200]
            raise MissingError(
                f"{folder / 'unet'} has other weights than its config says: {line}.",
                "download or copy the model again.",
            ) from None
    with quiet():  # diffusers warns of any cast, also where no layer must stay as it is
        return unet.to(options.device, precision)


def unet_weights(
    folder: Path, config: Mapping[str, Any], *, prefer_half: bool
) -> dict[str, Tensor]:
    """Return the U-Net's weights under the names of diffusers' own class.

    Args:
        folder: in one of the three layouts.
        config: for diffusers, of `unet_config`.
        prefer_half: take half-precision files where there are such.

    Raises:
        MissingError: a file is missing or damaged.
    """
    weights = load_weights(folder, "unet", prefer_half=prefer_half)
    if (base := base_of(folder)) is not None:
        weights = load_weights(base, "unet", prefer_half=prefer_half) | weights
    if part_class(folder, "unet") == "MultiViewUNetModel":
        return converted_weights(weights, config)
    if "camera_proj" in index_parts(folder):
        cameras = load_weights(folder, "camera_proj", prefer_half=prefer_half)
        weights |= {f"class_embedding.{name}": tensor for name, tensor in cameras.items()}
    return weights


def converted_weights(
    weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Rename the weights of a U-Net of the original code.

    But for M these are the names of latent diffusion, which diffusers converts itself.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    cameras = {
        f"class_embedding.{new}.{kind}": weights[f"camera_embed.{old}.{kind}"]
        for new, old in CAMERA_LAYERS.items()
        for kind in ("weight", "bias")
        if f"camera_embed.{old}.{kind}" in weights
    }
    rest = {
        f"{ORIGINAL_UNET}{name}": tensor
        for name, tensor in weights.items()
        if not name.startswith("camera_embed.")
    }
    plain = {key: value for key, value in config.items() if key != "class_embed_type"}
    return convert_ldm_unet_checkpoint(rest, plain) | cameras
