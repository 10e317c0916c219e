"""Training of the embedded prior from nothing: decoder, text encoder, diffusion, export.

Everything lies in a work folder and may be stopped at any moment; the same call continues:

    settings.json              what must not change between calls
    decoder.safetensors        checkpoint of the autoencoder (weights, optimiser, counters)
    shards/00000.safetensors   latents and token ids, appended while the diffusion trains
    diffusion.safetensors      checkpoint of text encoder, U-Net, their averages and the optimiser
    progress.jsonl             one line per logged step
    curves.png, samples.png    losses so far; pictures drawn by the averaged weights
"""

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.pictures import save
from dreamlab.core.run_folder import write_json, write_text
from dreamlab.core.seeds import derive_seed
from dreamlab.priors.toybox.captions import vocabulary
from dreamlab.priors.toybox.card import TrainingFacts, write_card
from dreamlab.priors.toybox.checkpoint import load_checkpoint, save_checkpoint
from dreamlab.priors.toybox.curves import Curve, draw_curves
from dreamlab.priors.toybox.dataset import (
    SHARD_SIZE,
    ShardPool,
    empty_captions,
    make_shard,
    num_shards,
    render_samples,
)
from dreamlab.priors.toybox.model import (
    PARTS,
    Architecture,
    build_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
    load_weights,
    save_folder,
)
from dreamlab.priors.toybox.sample import PROMPTS, make_pipeline, sample_grid
from dreamlab.priors.toybox.tokenizer import build_tokenizer
from dreamlab.priors.toybox.train_decoder import DecoderConfig, fit_encoder, psnr, train_decoder
from dreamlab.priors.toybox.train_diffusion import DiffusionConfig, DiffusionTrainer
from dreamlab.priors.toybox.train_text import TextConfig, train_text


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


def train(config: TrainConfig, on_progress: OnProgress) -> None:
    """Train, or continue a training, and export the averaged weights.

    Raises:
        InputError: the work folder belongs to a training with other settings.
    """
    with_log = _logged(config, on_progress)
    session = open_session(config, with_log)
    began, before = time.monotonic(), session.record["seconds"]
    for step in range(session.record["step"], config.diffusion.steps):
        count = shards_at(config, step)
        if len(session.pool) < count * SHARD_SIZE:
            with_log(Progress("latents", count, config.diffusion.last_shards, {}))
            session.pool.grow(count)
        values = session.trainer.step(session.pool, count * SHARD_SIZE, step)
        session.record |= {"step": step + 1, "seconds": before + time.monotonic() - began}
        with_log(Progress("diffusion", step + 1, config.diffusion.steps, values))
        is_last = step + 1 == config.diffusion.steps
        if (step + 1) % config.checkpoint_every == 0 or is_last:
            save_session(session)
        if (step + 1) % config.picture_every == 0 or is_last:
            draw_pictures(session)
    if config.export is not None:
        export(session, config.export)


def shards_at(config: TrainConfig, step: int) -> int:
    """Return how many shards a diffusion step uses."""
    c = config.diffusion
    return num_shards(step, c.batch, first=c.first_shards, last=c.last_shards, reuse=c.reuse)


def open_session(config: TrainConfig, on_progress: OnProgress) -> Session:
    """Build all parts, train or load the autoencoder, and restore the diffusion's checkpoint."""
    device = _device(config.device)
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
    path = config.work / "diffusion.safetensors"
    if config.start is not None and not path.is_file():
        load_weights(config.start, modules)
    elif not path.is_file():
        _prepare_text(config, modules["text_encoder"].to(device), tokenizer, on_progress)
    for name, module in modules.items():
        averages[name].load_state_dict(module.state_dict())
    trainer = DiffusionTrainer(
        modules,
        averages,
        build_scheduler().alphas_cumprod,
        empty_captions(tokenizer, 1),
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
            encode_images=lambda images: _encode(vae, images, device),
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
    config: TrainConfig, text_encoder: nn.Module, tokenizer: Any, on_progress: OnProgress
) -> None:
    train_text(
        text_encoder,
        tokenizer,
        config.text,
        seed=config.seed,
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


def draw_pictures(session: Session) -> None:
    """Write samples.png and curves.png into the work folder."""
    work = session.config.work
    pipeline = make_pipeline(session.averaged(), session.tokenizer, build_scheduler())
    save(sample_grid(pipeline, session.config.prompts), work / "samples.png")
    save(draw_curves(read_curves(work / "progress.jsonl")), work / "curves.png")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a log; one that a kill cut short is left out."""
    lines: list[dict[str, Any]] = []
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def read_curves(path: Path) -> list[Curve]:
    """Return the curves of a log: the decoder's loss and PSNR, the diffusion's loss."""
    lines = read_log(path)
    shown = (("decoder", "loss"), ("decoder", "psnr"), ("diffusion", "loss"))
    curves: list[Curve] = []
    for phase, value in shown:
        own = [line for line in lines if line["phase"] == phase and value in line]
        steps, values = [line["step"] for line in own], [line[value] for line in own]
        curves.append(Curve(f"{phase}: {value}", steps, values))
    return curves


def export(session: Session, folder: Path) -> None:
    """Write the averaged weights as a Stable Diffusion folder with card, samples and curves."""
    modules = session.averaged()
    save_folder(folder, modules, session.tokenizer)
    draw_pictures(session)
    for name in ("samples.png", "curves.png"):
        (folder / name).write_bytes((session.config.work / name).read_bytes())
    sizes = {name: sum(p.numel() for p in modules[name].parameters()) for name in PARTS}
    write_text(folder / "README.md", write_card(session.config.architecture, facts(session), sizes))


def facts(session: Session) -> TrainingFacts:
    """Collect what the model card says about the training."""
    config, step = session.config, session.record["step"]
    losses = [
        line["loss"]
        for line in read_log(config.work / "progress.jsonl")
        if line["phase"] == "diffusion" and "loss" in line
    ][-100:]
    return TrainingFacts(
        seed=config.seed,
        decoder_steps=session.vae_record["step"],
        decoder_seconds=session.vae_record["seconds"],
        decoder_psnr=_fresh_psnr(session),
        diffusion_steps=step,
        images_seen=step * config.diffusion.batch,
        images_rendered=shards_at(config, max(step - 1, 0)) * SHARD_SIZE,
        diffusion_seconds=session.record["seconds"],
        loss=sum(losses) / max(1, len(losses)),
        machine=_machine(session.trainer.device),
        torch_version=torch.__version__,
    )


def machine_name() -> str:
    """Return the processor's name, as the operating system gives it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{machine_name()}, {torch.get_num_threads()} thread(s)"


def _fresh_psnr(session: Session) -> float:
    size, device = session.config.architecture.image_size, session.trainer.device
    images = render_samples(session.config.seed, "psnr", 0, 64, size).images.to(device)
    with torch.no_grad():
        return psnr(images, session.vae.decode(session.vae.encode(images).latents).sample)


def _encode(vae: Any, images: Tensor, device: torch.device) -> Tensor:
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


def _device(name: str) -> torch.device:
    if name not in ("cpu", "cuda"):
        raise InputError(f"there is no device {name!r}.", "use cpu or cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no usable CUDA device.", "use --device cpu.")
    return torch.device(name)


def _logged(config: TrainConfig, on_progress: OnProgress) -> OnProgress:
    """Append every `log_every`-th step to progress.jsonl before passing progress on."""

    def tell(progress: Progress) -> None:
        if progress.values and progress.step % config.log_every == 0:
            line = {"phase": progress.phase, "step": progress.step, "time": round(time.time(), 1)}
            line |= {name: float(f"{value:.6g}") for name, value in progress.values.items()}
            with open(config.work / "progress.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        on_progress(progress)

    return tell


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a training from the command line, with a progress bar."""
    from rich.progress import Progress as Bar

    parser = argparse.ArgumentParser(description="Train the embedded prior.")
    parser.add_argument(
        "--work", type=Path, required=True, help="work folder, continued if it exists"
    )
    parser.add_argument("--export", type=Path, help="folder for the weights")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--steps", type=int, help="planned diffusion steps")
    parser.add_argument("--decoder-steps", type=int, help="steps of the decoder")
    parser.add_argument("--threads", type=int, default=1, help="processor threads")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    config = TrainConfig(work=chosen.work, export=chosen.export, device=chosen.device)
    if chosen.steps is not None:
        config = replace(config, diffusion=replace(config.diffusion, steps=chosen.steps))
    if chosen.decoder_steps is not None:
        config = replace(config, decoder=replace(config.decoder, steps=chosen.decoder_steps))
    with Bar() as bar:
        tasks: dict[str, Any] = {}

        def show(progress: Progress) -> None:
            if progress.phase not in tasks:
                tasks[progress.phase] = bar.add_task(progress.phase, total=progress.steps)
            bar.update(tasks[progress.phase], completed=progress.step)

        train(config, show)


if __name__ == "__main__":
    main()
