"""Training of what makes the embedded prior one of several views, as MVDream is made of one view's.

    emb = time(t) + M(c),        the latents of a view attend to those of all N views

for pictures z^1 .. z^N of one object from sides 90 degrees apart (N = 4) at one elevation, with
cameras c (`priors.multi_view`, `priors.mvdream`). Trained are M, whose last layer begins at zero,
and self-attention with the norm before it. All else stays as the prior has it, so only these are
saved. With the velocities v of `diffusion`,

    L = mean over views of mean |v_theta(z_t^1 .. z_t^N, t, y, c) - v|^2,

one time, one lens, light (as the camera sees it) and background for a group, noise of its own for
every view. Half of the captions name no view, in the others each view has its word; a tenth of the
groups has the empty caption.

Whether the network listens is measured on fresh groups, as `probe` does for words: by how much the
loss rises if the cameras of a group are turned by 180 degrees (`turned`), and if its views are put
together with those of other objects (`strangers`).

Everything random is a function of (seed, step), and a checkpoint holds weights, averages and
optimiser: a training that was stopped continues as if it had not been.

Source: Shi et al., MVDream: Multi-view Diffusion for 3D Generation (2024), section 3.
"""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import save_file
from torch import Tensor, nn

from dreamlab.core.cameras import Cameras, orbit_cameras
from dreamlab.core.run_folder import atomic_path, write_json, write_text
from dreamlab.core.seeds import derive_seed, generator
from dreamlab.priors.folder import MVDREAM, quiet, read_json, weights_stem
from dreamlab.priors.multi_view import camera_numbers
from dreamlab.priors.mvdream import camera_settings, join_views
from dreamlab.priors.toybox.model import velocity
from dreamlab.priors.toybox.tokenizer import encode
from dreamlab.priors.toybox.training.card import write_views_card
from dreamlab.priors.toybox.training.checkpoint import load_checkpoint, save_checkpoint
from dreamlab.priors.toybox.training.dataset import insert_nonsense
from dreamlab.priors.toybox.training.diffusion import draw_timesteps, learning_rate, update_ema
from dreamlab.priors.toybox.training.sample import load_pipeline
from dreamlab.priors.toybox.training.session import (
    OnProgress,
    Progress,
    encode_images,
    training_device,
)
from dreamlab.priors.toybox.training.train import log, machine_of
from dreamlab.priors.toybox.training.twins import sample_mostly_fronted
from dreamlab.priors.toybox.world.captions import caption
from dreamlab.priors.toybox.world.scenes import Scene, pack, sample_scene
from dreamlab.priors.toybox.world.tracer import trace
from dreamlab.priors.toybox.world.views import RANGES, sample_twin_views, view_word

NUM_VIEWS = MVDREAM.num_views
SINGLE_SHARE = 0.8
"""Share of groups that show one mostly plain object; the others show any scene."""
WORDS_SHARE = 0.5
"""Share of groups whose captions name the views."""
PROBE_TIMES = (0.6, 0.85, 0.97)
PROBE_GROUPS = 24


@dataclass(frozen=True, slots=True)
class MultiViewConfig:
    """How M and self-attention are trained."""

    work: Path
    """Folder of checkpoint and log; made if it is missing, continued if it is not."""
    start: Path
    """Folder of the prior of one view."""
    export: Path | None = None
    """Folder that the weights are written to at the end; none by default."""
    seed: int = 20261121
    """Of data, weights and noise."""
    device: str = "cpu"
    """`cpu` or `cuda`."""
    steps: int = 5000
    """Planned optimisation steps; raise it to continue a finished training."""
    groups: int = 8
    """Groups per step."""
    learning_rate: float = 5e-4
    """Learning rate after the warm-up."""
    warm_up: int = 100
    """Steps of linear warm-up."""
    cooldown: float = 0.3
    """Last fraction of the steps, in which the learning rate falls to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    ema: float = 0.998
    """Decay of the exponential moving average."""
    time_exponent: float = 0.4
    """b in t = u^b; below one noisy times are drawn more often."""
    empty_share: float = 0.1
    """Share of groups whose caption is empty."""
    autocast: bool = False
    """Compute in bfloat16, which pays on CUDA and on processors with AVX512-BF16 or AMX."""
    log_every: int = 10
    """Steps between two lines of the log."""
    checkpoint_every: int = 200
    """Steps between two checkpoints."""
    probe_every: int = 1000
    """Steps between two measurements of how much the network listens."""


@dataclass(frozen=True)
class Groups:
    """Views of objects, `NUM_VIEWS` in a row for each."""

    latents: Float[Tensor, "batch c h w"]
    tokens: Int[Tensor, "batch tokens"]
    cameras: Cameras


def render_groups(
    rng: np.random.Generator, count: int, *, size: int, tokenizer: Any, vae: Any
) -> Groups:
    """Draw objects and see each from four sides."""
    pictures, texts, azimuths, elevations = [], [], [], []
    for _ in range(count):
        single = rng.random() < SINGLE_SHARE
        scene = sample_mostly_fronted(rng) if single else sample_scene(rng)
        azimuth = rng.uniform(0, 360) + np.arange(NUM_VIEWS) * (360 / NUM_VIEWS)
        elevation = np.full(NUM_VIEWS, rng.uniform(*RANGES.elevation))
        views = sample_twin_views(rng, azimuth, elevation)
        render = trace(
            pack([scene] * NUM_VIEWS),
            views.cameras,
            size=size,
            light=views.light_direction,
            ambient=views.ambient,
            background=views.background,
        )
        pictures.append(render.rgb.permute(0, 3, 1, 2) * 2 - 1)
        azimuths += azimuth.tolist()
        elevations += elevation.tolist()
        texts += _captions(scene, azimuth, elevation, rng)
    latents = encode_images(vae, torch.cat(pictures).contiguous(), vae.device)
    one = torch.ones(len(texts))
    cameras = orbit_cameras(torch.tensor(azimuths), torch.tensor(elevations), one, one)
    return Groups(latents, encode(tokenizer, texts).long(), cameras)


def _captions(
    scene: Scene, azimuth: np.ndarray, elevation: np.ndarray, rng: np.random.Generator
) -> list[str]:
    """Phrase a scene once for all of its views, with the word of each or with none."""
    phrasing, has_words = int(rng.integers(2**32)), rng.random() < WORDS_SHARE
    words = [
        view_word(*pair) if has_words else None for pair in zip(azimuth, elevation, strict=True)
    ]

    def phrased(word: str | None) -> str:
        own = np.random.default_rng(phrasing)
        return insert_nonsense(caption(scene, word, own), own)

    return [phrased(word) for word in words]


def with_cameras(unet: Any) -> Any:
    """Return a U-Net with M, which says nothing yet, and the weights of one without."""
    with quiet():
        made: Any = type(unet).from_config({**unet.config, **camera_settings()})
    made.load_state_dict(unet.state_dict(), strict=False)
    nn.init.zeros_(made.class_embedding.linear_2.weight)
    nn.init.zeros_(made.class_embedding.linear_2.bias)
    return made


def trained_parameters(unet: Any) -> dict[str, nn.Parameter]:
    """Return what is trained of a U-Net by name: M, self-attention, the norm before it."""
    parts = ("class_embedding.", ".attn1.", ".norm1.")
    attends = ("attentions.", "class_embedding.")
    return {
        name: parameter
        for name, parameter in unet.named_parameters()
        if any(part in name for part in parts) and any(part in name for part in attends)
    }


class MultiViewTrainer:
    """The network, what is trained of it, its moving average and the optimiser.

    Args:
        config: how to train.
    """

    def __init__(self, config: MultiViewConfig) -> None:
        self.config, self.device = config, training_device(config.device)
        pipeline = load_pipeline(config.start, self.device)
        self.vae, self.tokenizer = pipeline.vae.requires_grad_(False), pipeline.tokenizer
        self.text_encoder = pipeline.text_encoder.requires_grad_(False)
        self.alpha_bars = pipeline.scheduler.alphas_cumprod.to(self.device)
        halvings = len(self.vae.config.decoder_block_out_channels) - 1
        self.size = pipeline.unet.config.sample_size * 2**halvings
        torch.manual_seed(derive_seed(config.seed, "weights", "multi-view"))
        self.unet = with_cameras(pipeline.unet).to(self.device).requires_grad_(False)
        join_views(self.unet, NUM_VIEWS)
        self.trained = trained_parameters(self.unet)
        self.weights = nn.ParameterList(p.requires_grad_() for p in self.trained.values())
        self.average = nn.ParameterList(p.detach().clone() for p in self.weights)
        self.average.requires_grad_(False)
        self.optimizer = torch.optim.AdamW(
            self.weights, lr=config.learning_rate, betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
        )  # fmt: skip

    @property
    def averaged(self) -> dict[str, Tensor]:
        """The moving averages of what is trained, by name."""
        return dict(zip(self.trained, self.average, strict=True))

    @property
    def checkpointed(self) -> dict[str, nn.Module]:
        return {"weights": self.weights, "average": self.average}

    def groups(self, purpose: str, index: int, count: int) -> Groups:
        """Render groups, a pure function of the seed and the arguments."""
        rng = np.random.default_rng(derive_seed(self.config.seed, f"multi-view {purpose}", index))
        return render_groups(rng, count, size=self.size, tokenizer=self.tokenizer, vae=self.vae)

    def loss(
        self,
        groups: Groups,
        numbers: Float[Tensor, "batch 16"],
        timesteps: Int[Tensor, " groups"],
        noise: Float[Tensor, "batch c h w"],
    ) -> Float[Tensor, " batch"]:
        """Return the loss of the module docstring, of each view by itself."""
        times = timesteps.repeat_interleave(NUM_VIEWS).to(self.device)
        alpha_bar = self.alpha_bars[times]
        noisy, target = velocity(groups.latents.to(self.device), noise.to(self.device), alpha_bar)
        embedded = self.text_encoder(groups.tokens.to(self.device)).last_hidden_state
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.autocast):
            predicted = self.unet(
                noisy, times, embedded, class_labels=numbers.to(self.device)
            ).sample
        return (predicted.float() - target).square().mean(dim=(1, 2, 3))

    def step(self, step: int) -> dict[str, float]:
        """Train one step."""
        config = self.config
        random = generator(config.seed, "multi-view", step)
        groups = self.groups("train", step, config.groups)
        is_empty = torch.rand(config.groups, generator=random) < config.empty_share
        empty = encode(self.tokenizer, [""]).long()
        rows = is_empty.repeat_interleave(NUM_VIEWS)[:, None]
        groups = Groups(groups.latents, torch.where(rows, empty, groups.tokens), groups.cameras)
        times = draw_timesteps(config.groups, len(self.alpha_bars), config.time_exponent, random)
        noise = torch.randn(groups.latents.shape, generator=random)
        loss = self.loss(groups, camera_numbers(groups.cameras), times, noise).mean()
        rate = learning_rate(config, step)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        update_ema(self.average, self.weights, decay=config.ema, step=step)
        return {"loss": loss.item(), "gradient": float(norm), "rate": rate}

    @torch.no_grad()
    def probe(self) -> dict[str, float]:
        """Return `loss@t`, `turned@t` and `strangers@t` of the averaged weights; see above."""
        groups = self.groups("probe", 0, PROBE_GROUPS)
        numbers = camera_numbers(groups.cameras)
        noise = torch.randn(groups.latents.shape, generator=generator(0, "multi-view probe"))
        half_a_turn = torch.diag(torch.tensor([-1.0, -1, 1, 1]))
        turned = (half_a_turn @ numbers.unflatten(1, (4, 4))).flatten(1)
        own = {name: p.detach().clone() for name, p in self.trained.items()}
        self._put(self.averaged)
        result: dict[str, float] = {}
        for t in PROBE_TIMES:
            times = torch.full((PROBE_GROUPS,), int(t * len(self.alpha_bars)))
            right = self.loss(groups, numbers, times, noise).mean().item()
            wrong = self.loss(groups, turned, times, noise).mean().item()
            mixed = self.loss(*_mixed(groups, numbers, times, noise)).mean().item()
            result |= {f"loss@{t}": right, f"turned@{t}": wrong - right}
            result[f"strangers@{t}"] = mixed - right
        self._put(own)
        return result

    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self.trained.items():
            parameter.data.copy_(tensors[name])


def _mixed(
    groups: Groups, numbers: Tensor, times: Tensor, noise: Tensor
) -> tuple[Groups, Tensor, Tensor, Tensor]:
    """Put view v of group g into group g + v, so that no two views of a group are of one object."""
    view = torch.arange(len(numbers)) % NUM_VIEWS
    group = torch.arange(len(numbers)) // NUM_VIEWS
    place = (group + view) % len(times) * NUM_VIEWS + view
    mixed = Groups(groups.latents[place], groups.tokens[place], groups.cameras)
    return mixed, numbers[place], times, noise[place]


def train(config: MultiViewConfig, on_progress: OnProgress) -> None:
    """Train, or continue a training, and export the averaged weights.

    Raises:
        InputError: the work folder holds no training of this network.
    """
    config.work.mkdir(parents=True, exist_ok=True)
    trainer, path = MultiViewTrainer(config), config.work / "multi_view.safetensors"
    optimizers: dict[str, torch.optim.Optimizer] = {"adam": trainer.optimizer}
    record: dict[str, Any] = {"step": 0, "seconds": 0.0}
    if path.is_file():
        record = load_checkpoint(path, trainer.checkpointed, optimizers)
    began, before = time.monotonic(), record["seconds"]
    for step in range(record["step"], config.steps):
        told = Progress("multi-view", step + 1, config.steps, trainer.step(step))
        record = {"step": step + 1, "seconds": before + time.monotonic() - began}
        if told.step % config.log_every == 0:
            log(config.work, told)
        on_progress(told)
        is_last = told.step == config.steps
        if told.step % config.checkpoint_every == 0 or is_last:
            save_checkpoint(path, trainer.checkpointed, optimizers, record)
        if told.step % config.probe_every == 0 or is_last:
            log(config.work, Progress("probe", told.step, 0, trainer.probe()))
    if config.export is not None:
        export(trainer, config.export, record["seconds"])


def export(trainer: MultiViewTrainer, folder: Path, seconds: float) -> None:
    """Write the averaged weights, in half precision, as a folder that adds to the prior's.

    Args:
        trainer: at the end of the planned steps.
        folder: made if it is missing.
        seconds: that the training took, for the card.
    """
    start = trainer.config.start
    (folder / "unet").mkdir(parents=True, exist_ok=True)
    config = read_json(start / "unet" / "config.json") | camera_settings()
    write_json(folder / "unet" / "config.json", config)
    tensors = {name: t.detach().cpu().half().contiguous() for name, t in trainer.averaged.items()}
    path = folder / "unet" / f"{weights_stem('unet')}.safetensors"
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    index = read_json(start / "model_index.json") | {
        "_class_name": "MVDreamPipeline",
        "num_views": NUM_VIEWS,
        "base": Path(os.path.relpath(start, folder)).as_posix(),
    }
    write_json(folder / "model_index.json", index)
    told = trainer.config
    facts = {
        "seed of data and weights": told.seed,
        "steps": told.steps,
        "groups of four views": f"{told.steps * told.groups:,}",
        "minutes": f"{seconds / 60:.0f}",
        "computed in": "bfloat16" if told.autocast else "float32",
        "parameters": f"{sum(t.numel() for t in tensors.values()) / 1e6:.2f} M",
        "machine": machine_of(trainer.device),
        "torch": torch.__version__,
    }
    write_text(folder / "README.md", write_views_card(facts, trainer.probe()))
