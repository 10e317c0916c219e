"""Pipelines of a few thousand random weights, one a family, saved in the real layout.

Pictures are four times as large as latents, but for DeepFloyd's, which are the latents.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from dreamlab.priors.toybox.model import Architecture

IMAGE_SIZE = 32
WIDTH = 32
TOKENS = 16
POOLED = 24
"""Width of a projected pooled text."""
TINY_TOYBOX = Architecture(
    decoder_blocks=(0, 0, 0),
    latent_channels=4,
    unet_channels=(32, 32, 32),
    heads=2,
    text_width=32,
    text_layers=1,
)
"""The embedded prior, as it is trained in tests."""


def save_tiny_pipeline(
    folder: Path,
    prediction_type: str = "epsilon",
    autoencoder: Literal["kl", "tiny"] = "kl",
    **unet_options: Any,
) -> Path:
    """Stable Diffusion."""
    import diffusers

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(folder)
    pipeline = diffusers.StableDiffusionPipeline(
        vae=tiny_vae() if autoencoder == "kl" else tiny_tiny_vae(),
        text_encoder=tiny_clip(tokenizer),
        tokenizer=tokenizer,
        unet=tiny_unet(**unet_options),
        scheduler=tiny_ddim(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_sdxl(folder: Path) -> Path:
    """Two encoders, pooled text of the second, six sizes; an autoencoder to be upcast."""
    import diffusers

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(folder)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae=tiny_vae(),
        text_encoder=tiny_clip(tokenizer),
        text_encoder_2=tiny_clip(tokenizer, projected=True),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=tiny_unet(
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=POOLED + 6 * 8,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
        ),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_sd3(folder: Path, *, t5: bool = True) -> Path:
    """A flow with two CLIPs and perhaps T5; shift 3."""
    import diffusers

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(folder)
    t5_tokenizer = tiny_t5_tokenizer() if t5 else None
    pipeline = diffusers.StableDiffusion3Pipeline(
        vae=tiny_vae(latent_channels=8, shift_factor=0.1, scaling_factor=1.5),
        text_encoder=tiny_clip(tokenizer, projected=True),
        text_encoder_2=tiny_clip(tokenizer, projected=True),
        text_encoder_3=tiny_t5(t5_tokenizer, 3 * WIDTH) if t5 else None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=t5_tokenizer,
        transformer=diffusers.SD3Transformer2DModel(
            sample_size=IMAGE_SIZE // 4,
            patch_size=2,
            in_channels=8,
            out_channels=8,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=3 * WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=2 * POOLED,
            pos_embed_max_size=8,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_flux(folder: Path, *, guidance_embeds: bool = True) -> Path:
    """A flow on packed latents with a shift by size; made for 512 pixels."""
    import diffusers

    torch.manual_seed(0)
    tokenizer, t5_tokenizer = tiny_tokenizer(folder), tiny_t5_tokenizer()
    pipeline = diffusers.FluxPipeline(
        vae=tiny_vae(latent_channels=4, shift_factor=0.1, scaling_factor=0.4),
        text_encoder=tiny_clip(tokenizer),
        text_encoder_2=tiny_t5(t5_tokenizer, WIDTH),
        tokenizer=tokenizer,
        tokenizer_2=t5_tokenizer,
        transformer=diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(4, 6, 6),
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_if(folder: Path) -> Path:
    """Pixels, T5, learned variance."""
    import diffusers

    torch.manual_seed(0)
    tokenizer = tiny_t5_tokenizer()
    pipeline = diffusers.IFPipeline(
        text_encoder=tiny_t5(tokenizer, WIDTH),
        tokenizer=tokenizer,
        unet=tiny_unet(
            sample_size=IMAGE_SIZE // 2,
            in_channels=3,
            out_channels=6,
            encoder_hid_dim=WIDTH,
            encoder_hid_dim_type="text_proj",
            addition_embed_type="text",
            addition_embed_type_num_heads=4,
        ),
        scheduler=diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", variance_type="learned_range"
        ),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_tiny_mvdream(folder: Path, prediction_type: str = "epsilon") -> Path:
    """Stable Diffusion with an embedding of cameras; sizes that the original code has too."""
    save_tiny_pipeline(folder, prediction_type, **MVDREAM_UNET)
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "MVDreamPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


MVDREAM_UNET = {
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 16,
    "use_linear_projection": True,
    "attention_head_dim": (8, 16),
    "norm_num_groups": 32,
}

SAVERS: dict[str, Callable[[Path], Path]] = {
    "sd": save_tiny_pipeline,
    "sdxl": save_tiny_sdxl,
    "sd3": save_tiny_sd3,
    "flux": save_tiny_flux,
    "if": save_tiny_if,
}
"""One pipeline of each family."""


def tiny_unet(**options: Any):
    import diffusers

    return diffusers.UNet2DConditionModel(
        **{
            "sample_size": IMAGE_SIZE // 4,
            "in_channels": 4,
            "out_channels": 4,
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": WIDTH,
            "attention_head_dim": 8,
            "norm_num_groups": 8,
            **options,
        }
    )


def save_tiny_controlnet(folder: Path, *, seed: int = 0, **options: Any) -> Path:
    """A ControlNet of the tiny U-Nets that has something to say (fresh ones are silent)."""
    import diffusers

    torch.manual_seed(seed)
    network = diffusers.ControlNetModel(
        **{
            "block_out_channels": (32, 64),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "cross_attention_dim": WIDTH,
            "attention_head_dim": 8,
            "norm_num_groups": 8,
            "conditioning_embedding_out_channels": (8, 16, 16),
            **options,
        }
    )
    silent = [*network.controlnet_down_blocks, network.controlnet_mid_block]
    silent.append(network.controlnet_cond_embedding.conv_out)
    for layer in silent:
        torch.nn.init.normal_(layer.weight, std=0.2)
    network.save_pretrained(folder)
    return folder


def tiny_vae(**options: Any):
    import diffusers

    return diffusers.AutoencoderKL(
        **{
            "block_out_channels": (16, 16, 32),
            "down_block_types": ("DownEncoderBlock2D",) * 3,
            "up_block_types": ("UpDecoderBlock2D",) * 3,
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "latent_channels": 4,
            **options,
        }
    )


def tiny_tiny_vae():
    import diffusers

    return diffusers.AutoencoderTiny(
        encoder_block_out_channels=(16, 16, 16),
        decoder_block_out_channels=(16, 16, 16),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )


def tiny_ddim(prediction_type: str):
    import diffusers

    return diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        clip_sample=False,
        prediction_type=prediction_type,
    )


def tiny_clip(tokenizer: Any, *, projected: bool = False):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        projection_dim=POOLED,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def tiny_t5(tokenizer: Any, width: int):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    return T5EncoderModel(config)


def tiny_t5_tokenizer():
    """A real T5 tokenizer in which every character is a token."""
    from transformers import T5Tokenizer

    characters = [(chr(code), -3.0) for code in range(33, 127)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    return T5Tokenizer(vocab=special + characters, extra_ids=0)


def tiny_tokenizer(folder: Path):
    """A real CLIP tokenizer without merges: every character is a token."""
    from transformers import CLIPTokenizer

    characters = [chr(code) for code in range(33, 127)]
    words = characters + [c + "</w>" for c in characters] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({word: i for i, word in enumerate(words)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)
    vocabulary.unlink()
    merges.unlink()
    return tokenizer
