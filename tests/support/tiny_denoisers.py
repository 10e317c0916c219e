"""Denoisers of diffusers with a few thousand random weights, behind one signature.

All take latents `[B 4 8 8]` and text `[B 5 32]`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from dreamlab.priors.base import CONVERSIONS, Prediction

Call = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""(network, noisy, timestep in [0, 1000), text) -> output."""


def unet() -> tuple[nn.Module, Call, str]:
    import diffusers

    network = diffusers.UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return network, lambda net, z, k, y: net(z, k, encoder_hidden_states=y).sample, "v_prediction"


def pixart() -> tuple[nn.Module, Call, str]:
    import diffusers

    network = diffusers.PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=8,
        use_additional_conditions=False,
    )
    extra = {"resolution": None, "aspect_ratio": None}

    def call(net: Any, z: Tensor, k: Tensor, y: Tensor) -> Tensor:
        return net(z, encoder_hidden_states=y, timestep=k, added_cond_kwargs=extra).sample

    return network, call, "epsilon"


def sd3() -> tuple[nn.Module, Call, str]:
    import diffusers

    network = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
    )

    def call(net: Any, z: Tensor, k: Tensor, y: Tensor) -> Tensor:
        pooled = y.mean(dim=1)
        return net(z, encoder_hidden_states=y, pooled_projections=pooled, timestep=k).sample

    return network, call, "flow"


DENOISERS = {"unet": unet, "pixart": pixart, "sd3": sd3}


class TinyDenoiser:
    """A frozen network with a schedule; `denoise` is differentiable."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        network, self.call, self.parametrisation = DENOISERS[kind]()
        with torch.no_grad():  # some last layers begin at zero, where nothing could be seen
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        self.network = network.requires_grad_(False).eval()

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t[:, None, None, None]
        if self.parametrisation == "flow":
            return 1 - t, t
        return torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)

    def denoise(self, noisy: Tensor, t: Tensor, text: Tensor) -> Prediction:
        output = self.call(self.network, noisy, (t * 999).round().long(), text)
        return CONVERSIONS[self.parametrisation](output, noisy, *self.alpha_sigma(t))
