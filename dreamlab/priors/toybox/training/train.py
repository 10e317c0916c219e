"""Training of the embedded prior from nothing: decoder, text encoder, diffusion, export.

Everything lies in a work folder and may be stopped at any moment; the same call continues:

    settings.json              what must not change between calls
    decoder.safetensors        checkpoint of the autoencoder (weights, optimiser, counters)
    shards/00000.safetensors   latents and token ids, appended while the diffusion trains
    diffusion.safetensors      checkpoint of text encoder, U-Net, their averages and the optimiser
    progress.jsonl             one line per logged step
    curves.png, samples.png    losses so far; pictures drawn by the averaged weights
"""

import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.pictures import save
from dreamlab.core.run_folder import write_text
from dreamlab.priors.toybox.model import PARTS, build_scheduler, save_folder
from dreamlab.priors.toybox.training.card import TrainingFacts, write_card
from dreamlab.priors.toybox.training.curves import Curve, draw_curves
from dreamlab.priors.toybox.training.dataset import SHARD_SIZE, render_samples
from dreamlab.priors.toybox.training.decoder import psnr
from dreamlab.priors.toybox.training.probe import TIMES, make_probe, measure
from dreamlab.priors.toybox.training.sample import make_pipeline, sample_grid
from dreamlab.priors.toybox.training.session import (
    OnProgress,
    Progress,
    Session,
    TrainConfig,
    encode_images,
    open_session,
    save_session,
    shards_at,
)

_PROBED = 96
"""Images of the probe."""


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
            log(config.work, Progress("probe", step + 1, 0, probe(session)))
            draw_pictures(session)
    if config.export is not None:
        export(session, config.export)


def probe(session: Session) -> dict[str, float]:
    """Measure how much the averaged weights listen to captions; see `training.probe`."""
    trainer = session.trainer
    made = make_probe(
        session.config.seed,
        _PROBED,
        size=session.config.architecture.image_size,
        tokenizer=session.tokenizer,
        encode_images=lambda images: encode_images(session.vae, images, trainer.device),
    )
    averages = trainer.averages
    return measure(averages["unet"], averages["text_encoder"], made, trainer.alpha_bars)


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
    """Return the curves of a log: decoder's loss and PSNR, diffusion's loss, gaps of the probe."""
    lines = read_log(path)
    shown = (
        *(("decoder", "loss"), ("decoder", "psnr"), ("diffusion", "loss")),
        *(("probe", f"{word}@{TIMES[-1]}") for word in ("object", "color", "view")),
    )
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
        machine=machine_of(session.trainer.device),
        torch_version=torch.__version__,
    )


def machine_name() -> str:
    """Return the processor's name, as the operating system gives it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine_of(device: torch.device) -> str:
    """Name what a training runs on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{machine_name()}, {torch.get_num_threads()} thread(s)"


def _fresh_psnr(session: Session) -> float:
    size, device = session.config.architecture.image_size, session.trainer.device
    images = render_samples(session.config.seed, "psnr", 0, 64, size).images.to(device)
    with torch.no_grad():
        return psnr(images, session.vae.decode(session.vae.encode(images).latents).sample)


def log(work: Path, progress: Progress) -> None:
    """Append a line to progress.jsonl."""
    line = {"phase": progress.phase, "step": progress.step, "time": round(time.time(), 1)}
    line |= {name: float(f"{value:.6g}") for name, value in progress.values.items()}
    with open(work / "progress.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _logged(config: TrainConfig, on_progress: OnProgress) -> OnProgress:
    """Log every `log_every`-th step before passing progress on."""

    def tell(progress: Progress) -> None:
        if progress.values and progress.step % config.log_every == 0:
            log(config.work, progress)
        on_progress(progress)

    return tell
