"""What the adapters of all families of diffusion models share.

    picture -> space -> z;      t -> schedule -> time -> alpha, sigma
    o = network(z_t, time, text);      prediction = convert(o, z_t, alpha, sigma)

An adapter is one file a family. It says what the texts' embeddings are (`embed`) and how the
network is called (`output`); everything else is here. Letters: `base`; space: `autoencoder`;
schedule: `noise_schedule`.

Precision: the network and the autoencoder run in the chosen dtype; everything outside them, the
conversion of the prediction included, is float32.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.priors.autoencoder import Autoencoder, Space
from dreamlab.priors.base import (
    CONVERSIONS,
    Latents,
    PerView,
    Prediction,
    in_parts,
    resize_square,
)
from dreamlab.priors.folder import VAES, load_part, part_class, place_of, quiet, read_json
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.lora import LoraScore
from dreamlab.priors.noise_schedule import NetworkTimes, NoiseSchedule
from dreamlab.priors.text_encoder import TextEncoder

Dtype = Literal["auto", "float32", "float16", "bfloat16"]


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is loaded; what its files do not say."""

    name: str
    """How the model is called in messages."""
    device: torch.device
    dtype: Dtype = "auto"
    """Of network and autoencoder; `auto` is float16 on CUDA and float32 elsewhere."""
    image_size: int | None = None
    """Side of the pictures; None: what the model was made for."""
    max_rows: int | None = None
    """Latents that the network gets in one call; None: all at once."""
    vae: Path | None = None
    """Folder of another autoencoder than the model's own."""
    embedded_guidance: float | None = None
    """Guidance scale that the network is told, if it wants one; None: its family's usual one."""
    max_guidance: float | None = None
    """Largest guidance scale that the model stands; None: any."""
    few_steps: int | None = None
    """Timesteps at which the model was trained, for teachers of few steps; None: all."""

    @property
    def precision(self) -> torch.dtype:
        """The dtype."""
        return resolve_dtype(self.dtype, self.device)


@dataclass(slots=True)
class Running:
    """How a prior runs; may change between steps, for all copies of the prior at once."""

    dtype: torch.dtype
    max_rows: int | None
    rungs: list[Any] = field(default_factory=list)
    num_learned: int = 0


class DiffusionPrior(ABC):
    """A model of diffusers behind the interface of `base.Prior`; it is `learned.Adaptable` too.

    Args:
        options: how it was loaded.
        network: the denoiser; is frozen.
        space: what it works on.
        texts: its text encoders.
        schedule: its noise levels.
        prediction_type: what it predicts, a key of `CONVERSIONS`.
        native_size: side of the pictures that it was made for.
    """

    def __init__(
        self,
        options: LoadOptions,
        *,
        network: nn.Module,
        space: Space,
        texts: list[TextEncoder],
        schedule: NoiseSchedule,
        prediction_type: str,
        native_size: int,
    ) -> None:
        self.name, self.device = options.name, options.device
        self.running = Running(options.precision, options.max_rows)
        self.network: Any = network.requires_grad_(False).eval()
        self.space, self.texts, self.schedule = space, texts, schedule
        self.prediction_type = prediction_type
        self._convert = CONVERSIONS[prediction_type]
        self.image_size = options.image_size or native_size
        self.native_size = native_size
        self.latent_channels = space.channels
        self.latent_size = latent_side(self.name, self.image_size, space.factor, native_size)
        self.max_guidance = options.max_guidance

    @property
    def dtype(self) -> torch.dtype:
        """What the network runs in."""
        return self.running.dtype

    @property
    def max_rows(self) -> int | None:
        """Latents that the network gets in one call; None: all at once."""
        return self.running.max_rows

    @property
    def rungs(self) -> list[Any]:
        """The rungs of the memory ladder that are taken (see `memory`)."""
        return self.running.rungs

    @property
    def has_learned_scores(self) -> bool:
        """Whether the network holds adapters that are trained."""
        return self.running.num_learned > 0

    @property
    def identity(self) -> str:
        return f"{self.name}/{'/'.join(text.fingerprint for text in self.texts)}"

    def encode_text(self, prompts: list[str]) -> Float[Tensor, "prompts tokens features"]:
        self.warn_if_cut(prompts)
        return self.embed(prompts)

    @abstractmethod
    def embed(self, prompts: list[str]) -> Float[Tensor, "prompts rows features"]:
        """Embed prompts; those that are too long are cut.

        What a family pools is packed below the tokens (see `conditioning`).
        """

    @abstractmethod
    def output(
        self, noisy: Latents, time: NetworkTimes, conditioning: Float[Tensor, "batch rows features"]
    ) -> Latents:
        """Call the network.

        Args:
            noisy: z_t, in the network's dtype.
            time: what the schedule calls the time.
            conditioning: what `embed` returned, or a mixture of it, in the network's dtype.
        """

    def warn_if_cut(self, prompts: list[str]) -> None:
        """Warn by the encoder that reads most: what it reads is not lost."""
        max(self.texts, key=lambda text: text.limit).warn_if_cut(prompts)

    def release_text_encoder(self) -> None:
        for text in self.texts:
            text.release()

    def encode_image(
        self, images: Float[Tensor, "batch side side 3"], generator: torch.Generator | None
    ) -> Latents:
        pictures = resize_square(images, self.image_size).to(self.device)
        return self.space.encode(pictures, generator)

    def decode(self, latents: Latents) -> Float[Tensor, "batch side side 3"]:
        return self.space.decode(latents.to(self.device)).permute(0, 2, 3, 1)

    def alpha_sigma(self, t: Float[Tensor, " batch"]) -> tuple[PerView, PerView]:
        return self.schedule.alpha_sigma(self.schedule.time(t))

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
        return self.denoised_by(self.output, noisy, t, conditioning)

    def denoised_by(
        self,
        output: Callable[[Tensor, NetworkTimes, Tensor], Tensor],
        noisy: Latents,
        t: Float[Tensor, " batch"],
        conditioning: Float[Tensor, "batch tokens features"],
    ) -> Prediction:
        """Denoise by a call of the network, whose arguments are those of `output`."""
        time = self.schedule.time(t)
        raw = output(noisy.to(self.dtype), time, conditioning.to(self.dtype))
        return self._convert(raw.float(), noisy.float(), *self.schedule.alpha_sigma(time))

    def learned_score(self, config: LoraConfig, generator: torch.Generator) -> LoraScore:
        """Build a score that is the network's with adapters of its own (see `lora`)."""
        self.running.num_learned += 1
        return LoraScore(
            self.network,
            self.denoise,
            self.prediction_type,
            config,
            generator,
            max_rows=self.max_rows,
        )


def load_network(folder: Path, part: str, options: LoadOptions) -> Any:
    """Load the denoiser of a folder.

    Raises:
        InputError: it is of a class that its family does not have.
        MissingError: a file is missing or damaged.
    """
    return load_model(folder, part, part_class(folder, part), options, options.precision)


def load_autoencoder(
    folder: Path, options: LoadOptions, *, heeds_upcast: bool = False
) -> Autoencoder:
    """Load the autoencoder of a folder, or that of the options.

    Args:
        folder: of the model.
        options: name another autoencoder, perhaps.
        heeds_upcast: in float16, run in float32 if the config asks for it. (Of old models it asks
            by its default value, without need.)
    """
    if options.vae is None:
        place, part, name = place_of(folder, "vae").parent, "vae", part_class(folder, "vae")
    else:
        place, part = options.vae.parent, options.vae.name
        name = vae_class(options.vae)
    config = read_json(place / part / "config.json")
    precision = options.precision
    if precision == torch.float16 and heeds_upcast and config.get("force_upcast"):
        precision = torch.float32
    return Autoencoder(load_model(place, part, name, options, precision))


def vae_class(folder: Path) -> str:
    """Return the class that the config of an autoencoder's folder names.

    Raises:
        InputError: it is no autoencoder of pictures.
    """
    name = read_json(folder / "config.json").get("_class_name")
    if name not in VAES:
        raise InputError(
            f"prior.vae: {folder} holds a {name}, allowed: {', '.join(VAES)}.",
            "name the folder of an autoencoder, or leave it out.",
        )
    return name


def load_model(
    folder: Path, part: str, name: str, options: LoadOptions, precision: torch.dtype
) -> Any:
    """Load a network of diffusers; on the meta device, without values.

    Args:
        folder: of the model.
        part: its folder inside.
        name: of its class.
        options: the device, and which files are preferred.
        precision: what it runs in.
    """
    with quiet():
        import diffusers.models
    cls = getattr(diffusers.models, name)
    if options.device.type == "meta":
        with quiet(), torch.device("meta"):
            return cls.from_config(cls.load_config(str(folder / part))).to(precision)
    prefer_half = options.precision == torch.float16 and precision == torch.float16
    model: Any = load_part(
        cls, folder, part, weights=True, prefer_half=prefer_half, torch_dtype=precision
    )
    return model.to(options.device)


def explicit_dtype(dtype: Dtype, device: torch.device) -> Dtype:
    """Return `dtype`, or what `auto` means on `device`."""
    if dtype == "auto":
        return "float16" if device.type == "cuda" else "float32"
    return dtype


def resolve_dtype(dtype: Dtype, device: torch.device) -> torch.dtype:
    """Return the precision that `dtype` means on `device`."""
    names = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    return names[explicit_dtype(dtype, device)]


def latent_side(name: str, image_size: int, factor: int, native_size: int) -> int:
    """Return the side of the latents of pictures of `image_size` pixels.

    Args:
        name: of the model, for messages.
        image_size: side of the pictures that are judged.
        factor: pixels of a latent along one side.
        native_size: side of the pictures that the model was made for.

    Raises:
        InputError: the pictures are no whole number of latents.
    """
    side = image_size // factor
    if side * factor != image_size:
        raise InputError(
            f"prior.image_size must be a multiple of {factor} for {name}, got {image_size}.",
            f"use {side * factor} or {native_size}.",
        )
    return side


def square_side(sample_size: int | list[int] | tuple[int, int]) -> int:
    """Return the side of square latents.

    Raises:
        InputError: they are not square.
    """
    if isinstance(sample_size, int):
        return sample_size
    height, width = sample_size
    if height != width:
        raise InputError(f"the model's latents are {width}x{height}.", "choose a square model.")
    return height
