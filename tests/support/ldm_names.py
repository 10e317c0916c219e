"""Weights of a Stable Diffusion pipeline under the names that single-file checkpoints have.

The rules are those of the original code (CompVis latent-diffusion): blocks numbered in a row,
attention of the autoencoder as 1 x 1 convolutions. Only for pipelines with one layer a block.
"""

import re
from typing import Any

from torch import Tensor

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "camera_embed.0",
    "class_embedding.linear_2": "camera_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
}
ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def single_file(pipeline: Any) -> dict[str, Tensor]:
    """Return all weights by their old names."""
    unet = original_unet(pipeline.unet.state_dict())
    tensors = {f"model.diffusion_model.{name}": tensor for name, tensor in unet.items()}
    levels = len(pipeline.vae.config.block_out_channels)
    for name, tensor in pipeline.vae.state_dict().items():
        old = _vae(name, levels)
        flat = "attn_1" in old and tensor.ndim == 2
        tensors[f"first_stage_model.{old}"] = tensor[..., None, None] if flat else tensor
    for name, tensor in pipeline.text_encoder.state_dict().items():
        short = name.removeprefix("text_model.")
        tensors[f"cond_stage_model.transformer.text_model.{short}"] = tensor
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def original_unet(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a U-Net's weights by their old names; classes are MVDream's cameras."""
    attended = {m.group(1) for k in weights if (m := re.match(r"up_blocks\.(\d+)\.attentions", k))}
    return {_unet(name, attended): tensor for name, tensor in weights.items()}


def _unet(name: str, attended: set[str]) -> str:
    for new, old in UNET.items():
        if name.startswith(new):
            name = old + name.removeprefix(new)
    if found := re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(?:conv\.)?(.*)", name):
        side, i, kind, j, rest = found.groups()
        block = 2 * int(i) + int(j)
        if kind == "downsamplers":
            return f"input_blocks.{2 * int(i) + 2}.0.op.{rest}"
        if kind == "upsamplers":
            return f"output_blocks.{2 * int(i) + 1}.{2 if i in attended else 1}.conv.{rest}"
        where = f"input_blocks.{block + 1}" if side == "down" else f"output_blocks.{block}"
        rest = name.split(f"{kind}.{j}.", 1)[1]
        name = f"{where}.{1 if kind == 'attentions' else 0}.{rest}"
    for new, old in RESNET.items():
        if re.search(r"(input_blocks\.\d+\.0|output_blocks\.\d+\.0|middle_block\.[02])\.", name):
            name = name.replace(f".{new}.", f".{old}.")
    return name


def _vae(name: str, levels: int) -> str:
    for new, old in VAE.items():
        name = name.replace(new, old)
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    for i in range(levels):
        name = name.replace(f"up_blocks.{i}.resnets", f"up.{levels - 1 - i}.block")
        name = name.replace(f"up_blocks.{i}.upsamplers.0", f"up.{levels - 1 - i}.upsample")
    if "attn_1" in name:
        for new, old in ATTENTION.items():
            name = name.replace(f"attn_1.{new}.", f"attn_1.{old}.")
    return name
