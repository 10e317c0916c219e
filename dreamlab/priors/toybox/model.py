"""Architecture of the embedded prior and its folder in the Stable Diffusion layout.

Images of 64x64 become latents of 16x16 (`vae`); a caption of at most `tokens` tokens becomes as
many vectors (`text_encoder`); the `unet` predicts the velocity v = alpha eps - sigma z of noisy
latents z_t = alpha z + sigma eps under the cosine schedule. Attention sits at 8x8 and 4x4 only:
at 16x16 it would cost more than all convolutions.

The caption enters twice: by cross-attention, and pooled to one vector that is added to the
embedding of the timestep (`addition_embed_type="text"`, as in DeepFloyd IF), which every block
sees. A small network learns *what* to draw by the second way long before the first one, which says
*where*.

Why cosine and v: the last step of the cosine schedule is (numerically) pure noise, so that sampling
does not inherit a mean brightness, and v stays well defined there; latents of 16x16 lose their
content at lower noise than large ones, where the cosine schedule spends more of its steps.
Sources: Nichol and Dhariwal 2021 (cosine), Salimans and Ho 2022 (v), Rombach et al. 2022 (layout).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path, write_json

PARTS = ("vae", "unet", "text_encoder")
_WEIGHTS = {
    "vae": "diffusion_pytorch_model.safetensors",
    "unet": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes of the three networks."""

    image_size: int = 64
    """Side of the images, pixels."""
    vae_width: int = 48
    """Width of the autoencoder; 48 is the least that holds a 4x4 patch."""
    decoder_blocks: tuple[int, ...] = (2, 2, 0)
    """Residual blocks of the decoder at 1/4, 1/2 and full resolution."""
    latent_channels: int = 12
    """Channels of the latents."""
    unet_channels: tuple[int, ...] = (64, 128, 256)
    """Widths of the U-Net; every width after the first halves the resolution."""
    heads: int = 4
    """Attention heads of the U-Net and of the text encoder."""
    text_width: int = 160
    """Width of the token embeddings."""
    text_layers: int = 2
    """Transformer layers of the text encoder."""
    tokens: int = 32
    """Tokens of a caption, with its begin and end marks."""

    @property
    def latent_size(self) -> int:
        return self.image_size // 2 ** (len(self.decoder_blocks) - 1)


def build_vae(architecture: Architecture) -> nn.Module:
    """Build an `AutoencoderTiny` for `linear_encoder.set_encoder`: its encoder has no blocks.

    The decoder begins near a chain of plain convolutions: its residual branches start small.
    """
    from diffusers import AutoencoderTiny

    levels = len(architecture.decoder_blocks)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(architecture.vae_width,) * levels,
        decoder_block_out_channels=(architecture.vae_width,) * levels,
        num_encoder_blocks=(0,) * levels,
        num_decoder_blocks=architecture.decoder_blocks,
        latent_channels=architecture.latent_channels,
        # the decoder squashes its input to (-3, 3); so scaled, latents stay where that is straight
        scaling_factor=2.0,
    )
    for module in vae.decoder.modules():
        if type(module).__name__ == "AutoencoderTinyBlock":
            last: Any = module.get_submodule("conv")[-1]  # type: ignore[index]
            nn.init.normal_(last.weight, std=0.003)
    return vae


def build_unet(architecture: Architecture) -> nn.Module:
    """Build an untrained `UNet2DConditionModel` with attention below the finest level."""
    from diffusers import UNet2DConditionModel

    levels = len(architecture.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=architecture.latent_size,
        in_channels=architecture.latent_channels,
        out_channels=architecture.latent_channels,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * levels),
        mid_block_type="UNetMidBlock2D",
        up_block_types=(*("CrossAttnUpBlock2D",) * levels, "UpBlock2D"),
        block_out_channels=architecture.unet_channels,
        layers_per_block=1,
        cross_attention_dim=architecture.text_width,
        # diffusers takes the number of heads under this name in the SD 1.x family
        attention_head_dim=architecture.heads,
        addition_embed_type="text",
        addition_embed_type_num_heads=architecture.heads,
        norm_num_groups=16,
        use_linear_projection=True,
    )


def build_text_encoder(architecture: Architecture, tokenizer: Any) -> nn.Module:
    """Build an untrained `CLIPTextModel` for the tokenizer's vocabulary."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=architecture.text_width,
            intermediate_size=4 * architecture.text_width,
            num_hidden_layers=architecture.text_layers,
            num_attention_heads=architecture.heads,
            max_position_embeddings=architecture.tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_scheduler() -> Any:
    """Build the noise schedule: 1000 cosine steps, v-prediction, sampled by DDIM."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def velocity(
    latents: Float[Tensor, "batch channels height width"],
    noise: Float[Tensor, "batch channels height width"],
    alpha_bar: Float[Tensor, " batch"],
) -> tuple[
    Float[Tensor, "batch channels height width"], Float[Tensor, "batch channels height width"]
]:
    """Return z_t = alpha z + sigma eps and v = alpha eps - sigma z, alpha = sqrt(alpha_bar)."""
    alpha = alpha_bar.sqrt()[:, None, None, None]
    sigma = (1 - alpha_bar).sqrt()[:, None, None, None]
    return alpha * latents + sigma * noise, alpha * noise - sigma * latents


def load_weights(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Load the weights of some parts of a folder that `save_folder` wrote, in place.

    Raises:
        InputError: the folder has no such part, or one of another architecture.
    """
    for name, module in modules.items():
        try:
            tensors = load_file(folder / name / _WEIGHTS[name])
            module.load_state_dict({key: tensor.float() for key, tensor in tensors.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{folder} has no {name} of this architecture ({reason}).",
                "give a folder that this training exported, and its sizes of the networks.",
            ) from None


def save_folder(folder: Path, modules: dict[str, nn.Module], tokenizer: Any) -> None:
    """Write the Stable Diffusion layout, weights in half precision.

    Args:
        folder: made if it is missing; every file is replaced atomically.
        modules: `vae`, `unet` and `text_encoder`.
        tokenizer: what `tokenizer.build_tokenizer` returned.
    """
    for name in PARTS:
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        module: Any = modules[name]
        config = dict(module.config) if name != "text_encoder" else module.config.to_dict()
        if name == "text_encoder":
            config |= {"architectures": ["CLIPTextModel"], "dtype": "float16"}
        else:
            config["_class_name"] = type(module).__name__
            # AutoencoderTiny computes this one itself and complains when it is given
            config.pop("block_out_channels" if name == "vae" else "", None)
        write_json(place / "config.json", _plain(config))
        tensors = {key: t.detach().half().contiguous() for key, t in module.state_dict().items()}
        with atomic_path(place / _WEIGHTS[name]) as temporary:
            save_file(tensors, temporary, metadata={"format": "pt"})
    tokenizer.save_pretrained(folder / "tokenizer")
    build_scheduler().save_pretrained(folder / "scheduler")
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderTiny"],
        },
    )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """Keep what JSON can hold and drop private entries, which name paths of this machine."""
    kept = {k: v for k, v in config.items() if not k.startswith("_") or k == "_class_name"}
    return json.loads(json.dumps(kept, default=str))
