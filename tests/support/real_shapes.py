"""Sizes of the networks of Stable Diffusion 1.5 and XL, for models whose weights are random."""

import json
from pathlib import Path
from typing import Any

VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
SD15: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "cross_attention_dim": 768,
    },
    "vae": VAE,
    "text_encoder": {"hidden_size": 768, "max_position_embeddings": 77},
}
SDXL: dict[str, dict[str, Any]] = {
    "unet": {
        **SD15["unet"],
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "cross_attention_dim": 2048,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    },
    "vae": VAE,
    "text_encoder": {"hidden_size": 768},
    "text_encoder_2": {"hidden_size": 1280, "projection_dim": 1280},
}


def shaped(folder: Path, shapes: dict[str, dict[str, Any]]) -> Path:
    """Write other sizes into the configs of a model, whose weights no longer fit."""
    for part, changes in shapes.items():
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def with_random_weights(folder: Path, shapes: dict[str, dict[str, Any]]) -> Path:
    """Give a model other sizes, and half-precision weights that fit them; gigabytes."""
    import diffusers
    import transformers

    shaped(folder, shapes)
    for part in shapes:
        place = folder / part
        config = json.loads((place / "config.json").read_text())
        if "_class_name" in config:
            network: Any = getattr(diffusers, config["_class_name"]).from_config(config)
        else:
            read = transformers.AutoConfig.from_pretrained(place)
            network = getattr(transformers, config["architectures"][0])(read)
        network.half().save_pretrained(place)
    return folder
