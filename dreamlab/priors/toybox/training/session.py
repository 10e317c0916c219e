"""All parts of a training of the embedded prior: built, restored from a work folder, saved."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import write_json
from dreamlab.core.seeds import derive_seed
from dreamlab.priors.toybox.model import (
    Architecture,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    load_weights,
)
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.training.checkpoint import load_checkpoint, save_checkpoint
from dreamlab.priors.toybox.training.dataset import (
    ShardPool,
    make_shard,
    num_shards,
)
from dreamlab.priors.toybox.training.decoder import DecoderConfig, fit_encoder, train_decoder
from dreamlab.priors.toybox.training.diffusion import DiffusionConfig, DiffusionTrainer
from dreamlab.priors.toybox.training.sample import PROMPTS
from dreamlab.priors.toybox.training.text import TextConfig, build_heads, train_text
from dreamlab.priors.toybox.world.captions import vocabulary


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """A whole training."""

    work: Path
    """Folder of checkpoints, latents and logs; made if it is missing, continued if it is not."""
    start: Path | None = None
    """Folder of exported weights that a new training begins with; from nothing if not given."""
    export: Path | None = None
    """Folder that the weights are written to at the end; none by default."""
    seed: int = 20261121
    """Of data, weights and noise."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    architecture: Architecture = field(default_factory=Architecture)
    """Sizes of the networks."""
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    """How the decoder is trained; the encoder is computed."""
    text: TextConfig = field(default_factory=TextConfig)
    """How the text encoder gets its head start."""
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    """How the text encoder and the U-Net are trained."""
    log_every: int = 10
    """Steps between two lines of the log."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""
    picture_every: int = 500
    """Diffusion steps between two sample sheets and pictures of the curves."""
    prompts: tuple[str, ...] = PROMPTS
    """What the sample sheets show."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What `on_progress` is told."""

    phase: str
    """`decoder`, `text`, `latents` or `diffusion`."""
    step: int
    """Steps done in this phase."""
    steps: int
    """Steps of the phase."""
    values: dict[str, float]
    """Losses and rates of the step."""


OnProgress = Callable[[Progress], None]


@dataclass
class Session:
    """All parts of a training and where they are kept."""

    config: TrainConfig
    tokenizer: Any
    vae: Any
    trainer: DiffusionTrainer
    pool: ShardPool
    vae_record: dict[str, Any]
    record: dict[str, Any]
    """Counters of the diffusion: `step` and `seconds`."""

    def averaged(self) -> dict[str, nn.Module]:
        """Return the modules that are exported."""
        return {"vae": self.vae, **self.trainer.averages}


def open_session(config: TrainConfig, on_progress: OnProgress) -> Session:
    """Build all parts, train or load the autoencoder, and restore the diffusion's checkpoint."""
    device = training_device(config.device)
    config.work.mkdir(parents=True, exist_ok=True)
    architecture = config.architecture
    tokenizer = build_tokenizer(vocabulary(), architecture.tokens)
    _check_settings(config)
    vae, vae_record = _open_autoencoder(config, device, on_progress)
    torch.manual_seed(derive_seed(config.seed, "weights", "diffusion"))
    modules, averages = (
        {
            "unet": build_unet(architecture),
            "text_encoder": build_text_encoder(architecture, tokenizer),
        }
        for _ in range(2)
    )
    heads = build_heads(architecture.text_width)
    path = config.work / "diffusion.safetensors"
    if not path.is_file():
        if config.start is not None:
            load_weights(config.start, modules)
        _prepare_text(
            config, modules["text_encoder"].to(device), heads.to(device), tokenizer, on_progress
        )
    for name, module in modules.items():
        averages[name].load_state_dict(module.state_dict())
    trainer = DiffusionTrainer(
        {**modules, "facts": heads},
        averages,
        build_scheduler().alphas_cumprod,
        tokenizer,
        config.diffusion,
        seed=config.seed,
        device=device,
    )
    record: dict[str, Any] = {"step": 0, "seconds": 0.0}
    if path.is_file():
        record = load_checkpoint(path, trainer.checkpointed, {"adam": trainer.optimizer})
    pool = ShardPool(
        config.work / "shards",
        _fingerprint(config, vae),
        lambda index: make_shard(
            config.seed,
            index,
            size=architecture.image_size,
            tokenizer=tokenizer,
            encode_images=lambda images: encode_images(vae, images, device),
        ),
    )
    return Session(config, tokenizer, vae, trainer, pool, vae_record, record)


def _open_autoencoder(
    config: TrainConfig, device: torch.device, on_progress: OnProgress
) -> tuple[Any, dict[str, Any]]:
    """Compute the encoder, train or load the decoder; return both and the training's record."""
    torch.manual_seed(derive_seed(config.seed, "weights", "vae"))
    vae: Any = build_vae(config.architecture)
    path = config.work / "decoder.safetensors"
    if config.start is not None and not path.is_file():
        load_weights(config.start, {"vae": vae})
        return vae.to(device).eval().requires_grad_(False), {"step": 0, "seconds": 0.0}
    if not path.is_file():
        fit_encoder(
            vae,
            config.seed,
            size=config.architecture.image_size,
            num_images=config.decoder.images_for_basis,
        )
    record = train_decoder(
        vae,
        path,
        config.decoder,
        seed=config.seed,
        size=config.architecture.image_size,
        device=device,
        on_step=lambda step, parts: on_progress(
            Progress("decoder", step + 1, config.decoder.steps, parts)
        ),
        checkpoint_every=config.checkpoint_every,
    )
    return vae.eval().requires_grad_(False), record


def _prepare_text(
    config: TrainConfig, text_encoder: nn.Module, heads: nn.ModuleList, tokenizer: Any,
    on_progress: OnProgress,
) -> None:  # fmt: skip
    train_text(
        text_encoder,
        heads,
        tokenizer,
        config.text,
        seed=config.seed,
        heads_only=config.start is not None,
        on_step=lambda step, values: on_progress(
            Progress("text", step + 1, config.text.steps, values)
        ),
    )


def save_session(session: Session) -> None:
    """Write the diffusion's checkpoint atomically."""
    trainer = session.trainer
    save_checkpoint(
        session.config.work / "diffusion.safetensors",
        trainer.checkpointed,
        {"adam": trainer.optimizer},
        session.record,
    )


def shards_at(config: TrainConfig, step: int) -> int:
    """Return how many shards a diffusion step uses."""
    c = config.diffusion
    return num_shards(step, c.batch, first=c.first_shards, last=c.last_shards, reuse=c.reuse)


def encode_images(vae: Any, images: Tensor, device: torch.device) -> Tensor:
    with torch.no_grad():
        return (vae.encode(images.to(device)).latents * vae.config.scaling_factor).cpu()


def _fingerprint(config: TrainConfig, vae: nn.Module) -> str:
    """Hash what a shard depends on: seed, words and autoencoder."""
    digest = hashlib.sha256(json.dumps([config.seed, vocabulary()]).encode())
    for tensor in vae.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_settings(config: TrainConfig) -> None:
    """Record what may not change, or compare with what was recorded."""
    path = config.work / "settings.json"
    settings = {
        "seed": config.seed,
        "architecture": asdict(config.architecture),
        "words": vocabulary(),
    }
    now = json.loads(json.dumps(settings))
    if not path.is_file():
        write_json(path, now)
        return
    found = json.loads(path.read_text())
    changed = [name for name in now if found.get(name) != now[name]]
    if changed:
        raise InputError(
            f"{config.work} holds a training with other {' and '.join(changed)}.",
            "choose another work folder, or delete this one.",
        )


def training_device(name: str) -> torch.device:
    """Return the device of that name.

    Raises:
        InputError: there is none here.
    """
    if name not in ("cpu", "cuda"):
        raise InputError(f"there is no device {name!r}.", "use cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no usable CUDA device.", "use --device cpu.")
    return torch.device(name)
