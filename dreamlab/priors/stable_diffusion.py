"""Stable Diffusion 1.x and 2.x, and every model saved in their layout, as a `Prior`.

Time: the schedulers of this family count N training timesteps k = 0 .. N-1 (N = 1000 in the
published ones). The fraction t is mapped to the nearest of them, k = round(t N), at most N - 1;
`alpha_sigma(t)` are sqrt(abar_k) and sqrt(1 - abar_k) of that very timestep, so what is noised and
what the U-Net is told always agree.

Precision: U-Net and autoencoder run in the chosen dtype; everything outside them, the conversion of
the prediction included, is float32.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.priors.base import (
    CONVERSIONS,
    Latents,
    PerView,
    Prediction,
    in_parts,
    resize_square,
)
from dreamlab.priors.clip_text import ClipText
from dreamlab.priors.folder import load_part, part_class, quiet, read_json
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.lora import LoraScore

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel

Dtype = Literal["auto", "float32", "float16", "bfloat16"]


class StableDiffusionPrior:
    """A latent diffusion model: autoencoder, U-Net with text cross-attention, CLIP text encoder.

    Args:
        name: how the model is called in messages.
        unet: predicts what `prediction_type` says.
        vae: maps images in [-1, 1] to latents and back.
        text: the text encoder.
        alphas_cumprod: abar_k of the training schedule, float32.
        prediction_type: a key of `CONVERSIONS`.
        max_rows: latents that the U-Net gets in one call; None: all at once.
    """

    def __init__(
        self,
        name: str,
        *,
        unet: "UNet2DConditionModel",
        vae: "AutoencoderKL | AutoencoderTiny",
        text: ClipText,
        alphas_cumprod: Float[Tensor, " timesteps"],
        prediction_type: str,
        max_rows: int | None = None,
    ) -> None:
        self.name = name
        self.unet: Any = unet.requires_grad_(False).eval()
        self.vae: Any = vae.requires_grad_(False).eval()
        self.text = text
        self.device, self.dtype = unet.device, unet.dtype
        self.latent_channels: int = self.vae.config.latent_channels
        self.latent_size: int = _side(self.unet.config.sample_size)
        self.image_size: int = self.latent_size * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.max_rows = max_rows
        self._scale: float = self.vae.config.scaling_factor
        self._shift: float = getattr(self.vae.config, "shift_factor", None) or 0.0
        self._alpha = alphas_cumprod.sqrt().to(self.device)
        self._sigma = (1 - alphas_cumprod).sqrt().to(self.device)
        self.prediction_type = prediction_type
        self._convert = CONVERSIONS[prediction_type]

    @property
    def identity(self) -> str:
        return f"{self.name}/{self.text.fingerprint}"

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "prompts tokens features"]:
        return self.text.encode(prompts)

    def warn_if_cut(self, prompts: list[str]) -> None:
        self.text.warn_if_cut(prompts)

    def release_text_encoder(self) -> None:
        self.text.release()

    def encode_image(
        self, images: Float[Tensor, "batch side side 3"], generator: torch.Generator | None
    ) -> Latents:
        """Encode, z = (E(2 x - 1) - shift) scale, in float32; differentiable to the pixels.

        A tiny autoencoder has no posterior: its latents are the same with and without a generator.
        """
        pixels = resize_square(images, self.image_size).to(self.device, self.dtype) * 2 - 1
        encoded = self.vae.encode(pixels)
        if hasattr(encoded, "latents"):
            latents = encoded.latents.float()
        else:
            latents = encoded.latent_dist.mean.float()
            if generator is not None:
                noise = torch.randn(latents.shape, generator=generator).to(self.device)
                latents = latents + encoded.latent_dist.std.float() * noise
        return (latents - self._shift) * self._scale

    def decode(self, latents: Latents) -> Float[Tensor, "batch side side 3"]:
        """Decode to sRGB, x = (D(z / scale + shift) + 1) / 2, in float32."""
        scaled = (latents / self._scale + self._shift).to(self.device, self.dtype)
        images: Tensor = self.vae.decode(scaled).sample
        return (images.float().permute(0, 2, 3, 1) + 1) / 2

    def timestep(self, t: Float[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        """Return the training timestep nearest to the fraction `t`, on the prior's device."""
        num_timesteps = len(self._alpha)
        return (t.to(self.device) * num_timesteps).round().long().clamp(0, num_timesteps - 1)

    def alpha_sigma(self, t: Float[Tensor, " batch"]) -> tuple[PerView, PerView]:
        return self._coefficients(self.timestep(t))

    def _coefficients(self, timestep: Int[Tensor, " batch"]) -> tuple[PerView, PerView]:
        index = timestep[:, None, None, None]
        return self._alpha[index], self._sigma[index]

    @torch.no_grad()
    def predict(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
    ) -> Prediction:
        return in_parts(self.denoise, self.max_rows, noisy, t, conditioning)

    def denoise(
        self,
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
    ) -> Prediction:
        """Denoise as `predict` does, all rows in one call; differentiable."""
        timestep = self.timestep(t)
        output: Tensor = self.unet(
            noisy.to(self.dtype),
            timestep,
            encoder_hidden_states=conditioning.to(self.dtype),
            return_dict=False,
        )[0]
        return self._convert(output.float(), noisy.float(), *self._coefficients(timestep))

    def learned_score(self, config: LoraConfig, generator: torch.Generator) -> LoraScore:
        """Build a score that is the U-Net's with adapters of its own (see `lora`)."""
        return LoraScore(
            self.unet,
            self.denoise,
            self.prediction_type,
            config,
            generator,
            max_rows=self.max_rows,
        )


def load_stable_diffusion(
    folder: Path,
    *,
    name: str,
    device: torch.device,
    dtype: Dtype = "auto",
    attention_slicing: bool = False,
    vae_slicing: bool = False,
    max_rows: int | None = None,
) -> StableDiffusionPrior:
    """Load a model folder; the text encoder is left on disk until a text must be encoded.

    Args:
        folder: complete, in Stable Diffusion's layout.
        name: how the model is called in messages.
        dtype: of U-Net and autoencoder; `auto` is float16 on CUDA and float32 elsewhere.
        attention_slicing: compute attention head by head: less memory, slower.
        vae_slicing: encode and decode one image at a time: less memory, slower.
        max_rows: latents that the U-Net gets in one call; None: all at once.

    Raises:
        InputError: the model is not of the Stable Diffusion 1.x or 2.x family.
        MissingError: a file is missing or damaged.
    """
    with quiet():
        import diffusers.models
        import diffusers.schedulers

    for part in ("text_encoder", "tokenizer"):
        part_class(folder, part)
    vae_class = getattr(diffusers.models, part_class(folder, "vae"))
    unet_class = getattr(diffusers.models, part_class(folder, "unet"))
    check_family(folder)
    alphas_cumprod, prediction_type = load_schedule(folder)
    precision = resolve_dtype(dtype, device)
    options = {"torch_dtype": precision, "prefer_half": precision == torch.float16}
    unet = load_part(unet_class, folder, "unet", weights=True, **options).to(device)
    vae = load_part(vae_class, folder, "vae", weights=True, **options).to(device)
    if attention_slicing:
        unet.set_attention_slice("max")
    if vae_slicing:
        vae.enable_slicing()
    return StableDiffusionPrior(
        name,
        unet=unet,
        vae=vae,
        text=ClipText(folder, device),
        alphas_cumprod=alphas_cumprod,
        prediction_type=prediction_type,
        max_rows=max_rows,
    )


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Return the precision that `dtype` means on `device`."""
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[dtype]


def check_family(folder: Path) -> None:
    """Refuse U-Nets that need more than noisy latents, a time and CLIP's tokens.

    Raises:
        InputError: it is an inpainting, upscaling, SDXL or other conditioned model.
    """
    unet = read_json(folder / "unet" / "config.json")
    vae = read_json(folder / "vae" / "config.json")
    text = read_json(folder / "text_encoder" / "config.json")
    problem = None
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        problem = f"its U-Net reads {unet.get('in_channels')} channels, not the latents alone"
    # "text" pools the same tokens, so it wants nothing further
    elif unet.get("addition_embed_type") not in (None, "text") or unet.get("class_embed_type"):
        problem = "its U-Net wants further conditions (as SDXL and upscalers do)"
    elif unet.get("cross_attention_dim") != text.get("hidden_size"):
        problem = "its U-Net and its text encoder differ in width"
    elif not unet.get("sample_size"):
        problem = "its U-Net's config does not give sample_size"
    if problem:
        raise InputError(
            f"{folder} is not a Stable Diffusion 1.x or 2.x text-to-image model: {problem}.",
            "choose a model of that family, such as sd15 or sd21.",
        )


def load_schedule(folder: Path) -> tuple[Float[Tensor, " timesteps"], str]:
    """Return abar_k of the training schedule and the parametrisation of the U-Net's output.

    Raises:
        InputError: the scheduler has no such schedule, or the parametrisation is unknown.
    """
    import diffusers

    name = part_class(folder, "scheduler")
    cls = getattr(diffusers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, diffusers.SchedulerMixin)):
        raise InputError(f"{folder} names the unknown scheduler {name}.", "choose another model.")
    scheduler: Any = load_part(cls, folder, "scheduler")
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    kind = scheduler.config.get("prediction_type", "epsilon")
    if alphas_cumprod is None or kind not in CONVERSIONS:
        raise InputError(
            f"{folder}: the scheduler {name} with prediction type {kind!r} gives no noise schedule "
            "of the Stable Diffusion 1.x or 2.x kind.",
            "choose a model of that family, such as sd15 or sd21.",
        )
    return torch.as_tensor(alphas_cumprod, dtype=torch.float32), kind


def _side(sample_size: int | list[int] | tuple[int, int]) -> int:
    if isinstance(sample_size, int):
        return sample_size
    height, width = sample_size
    if height != width:
        raise InputError(f"the model's latents are {width}x{height}.", "choose a square model.")
    return height
