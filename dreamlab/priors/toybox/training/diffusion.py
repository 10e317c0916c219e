"""Training of the text encoder and the U-Net, jointly, on cached latents.

For latents z with caption y, noise eps and a timestep t:

    z_t = alpha z + sigma eps,   v = alpha eps - sigma z,   t = u^b with u ~ U(0, 1),
    L = mean_batch mean |v_theta(z_t, t, y) - v|^2.

Plain velocities weight the error of x0 by 1 + snr, so noisy times count too: there the caption
decides what is seen, and score distillation asks there; b < 1 draws noisy times more often. Half of
a batch are groups of `twins`, each with one timestep (of a smaller b, since what they teach is
heard in noise) and one noise. A tenth of the captions is replaced by the empty one. Every step adds
`recall` times the loss of `text`, so that the text encoder does not forget words that the U-Net
does not use yet. The weights that are exported are the exponential moving average

    ema <- d ema + (1 - d) theta,   d = min(decay, (1 + step) / (10 + step)).

The learning rate is constant after a warm-up and falls linearly to zero over the last part of the
planned steps (`cooldown`), so a finished training continues when more steps are asked for.
Everything random is a function of (seed, step): a resumed training is the uninterrupted one.
"""

from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dreamlab.core.seeds import derive_seed, generator
from dreamlab.priors.toybox.model import velocity
from dreamlab.priors.toybox.training.dataset import (
    GROUPS,
    SHARD_SIZE,
    SINGLES,
    VARIANTS,
    ShardPool,
    empty_captions,
)
from dreamlab.priors.toybox.training.text import recall_loss
from dreamlab.priors.toybox.training.twins import GROUP


@dataclass(frozen=True, slots=True)
class DiffusionConfig:
    """How the text encoder and the U-Net are trained."""

    steps: int = 5000
    """Planned optimisation steps; raise it to continue a finished training."""
    batch: int = 32
    """Images per step."""
    learning_rate: float = 6e-4
    """Learning rate after the warm-up."""
    warm_up: int = 200
    """Steps of linear warm-up."""
    cooldown: float = 0.2
    """Last fraction of the steps, in which the learning rate falls to zero."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    ema: float = 0.998
    """Decay of the exponential moving average."""
    time_exponent: float = 0.5
    """b in t = u^b; below one noisy times are drawn more often."""
    twin_time_exponent: float = 0.35
    """b for groups of twins."""
    twin_share: float = 0.5
    """Share of a batch that comes in groups of twins, rounded down to whole groups."""
    recall: float = 0.02
    """Weight of the head start's loss, which keeps the text encoder from forgetting."""
    recall_batch: int = 64
    """Captions per step of that loss."""
    empty_share: float = 0.1
    """Share of captions replaced by the empty one."""
    first_shards: int = 32
    """Shards of images that are made before the first step."""
    last_shards: int = 1600
    """Shards after which no more are made."""
    reuse: float = 2.0
    """How often an image is used on average while the pool of images grows."""
    autocast: bool | None = None
    """Whether the networks compute in bfloat16; on CUDA alone if not given. Processors with
    AVX512-BF16 or AMX gain by it too; others emulate it slowly."""

    def computes_in_bfloat16(self, device: torch.device) -> bool:
        return device.type == "cuda" if self.autocast is None else self.autocast


@runtime_checkable
class Planned(Protocol):
    """A training of a planned length."""

    @property
    def steps(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def warm_up(self) -> int: ...
    @property
    def cooldown(self) -> float: ...


def learning_rate(config: Planned, step: int) -> float:
    """Return the learning rate of a step: warm-up, constant, linear cooldown."""
    rate = min(1.0, (step + 1) / config.warm_up) if config.warm_up else 1.0
    begin = config.steps * (1 - config.cooldown)
    if step >= begin:
        rate *= max(0.0, (config.steps - step) / (config.steps - begin))
    return config.learning_rate * rate


def draw_timesteps(
    batch: int, count: int, exponent: float, random: torch.Generator
) -> Int[Tensor, " batch"]:
    """Draw t = u^exponent as timesteps in [0, count), in random order.

    u is stratified, one from each of `batch` equal parts of [0, 1): each is uniform on its own, and
    the loss is less noisy.
    """
    places = (torch.arange(batch) + torch.rand(batch, generator=random)) / batch
    order = torch.randperm(batch, generator=random)
    return (places.pow(exponent) * count).long().clamp(max=count - 1)[order]


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, *, decay: float, step: int) -> None:
    """Move `average` towards `module` by the formula of the module docstring."""
    rate = min(decay, (1 + step) / (10 + step))
    own: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(own, new, 1 - rate)


@dataclass(frozen=True)
class Batch:
    """What one step trains on."""

    latents: Float[Tensor, "batch c h w"]
    tokens: Int[Tensor, "batch tokens"]
    timesteps: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch c h w"]


def draw_batch(
    pool: ShardPool, size: int, empty: Int[Tensor, "1 tokens"], *, seed: int, step: int,
    config: DiffusionConfig, timesteps: int,
) -> Batch:  # fmt: skip
    """Draw a batch among the first `size` images of the pool, a pure function of seed and step."""
    random = generator(seed, "diffusion", step)
    groups = int(config.batch * config.twin_share) // GROUP
    singles = config.batch - groups * GROUP
    shards = size // SHARD_SIZE
    places = [_single_places(shards, singles, random), _twin_places(shards, groups, random)]
    # the last variant tells no view, which twins are to teach
    variants = [
        torch.randint(VARIANTS, (singles,), generator=random),
        torch.randint(VARIANTS - 1, (groups * GROUP,), generator=random),
    ]
    times = [
        draw_timesteps(singles, timesteps, config.time_exponent, random),
        draw_timesteps(groups, timesteps, config.twin_time_exponent, random),
    ]
    latents, tokens = pool.draw(torch.cat(places), torch.cat(variants))
    noise = torch.randn(singles + groups, *latents.shape[1:], generator=random)
    copies = torch.tensor([1] * singles + [GROUP] * groups)
    is_empty = torch.rand(config.batch, generator=random) < config.empty_share
    return Batch(
        latents,
        torch.where(is_empty[:, None], empty, tokens),
        torch.cat(times).repeat_interleave(copies),
        noise.repeat_interleave(copies, dim=0),
    )


def _single_places(shards: int, count: int, random: torch.Generator) -> Int[Tensor, " count"]:
    """Draw independent images of the first shards."""
    drawn = torch.randint(shards * SINGLES, (count,), generator=random)
    return drawn // SINGLES * SHARD_SIZE + drawn % SINGLES


def _twin_places(shards: int, groups: int, random: torch.Generator) -> Int[Tensor, " count"]:
    """Draw groups of twins of the first shards, of both kinds by turns."""
    pair = torch.randint(shards * GROUPS // 2, (groups,), generator=random)
    group = 2 * pair + torch.arange(groups) % 2
    first = group // GROUPS * SHARD_SIZE + SINGLES + group % GROUPS * GROUP
    return (first[:, None] + torch.arange(GROUP)).flatten()


def diffusion_loss(
    unet: nn.Module,
    text_encoder: nn.Module,
    batch: Batch,
    alpha_bars: Float[Tensor, " timesteps"],
) -> Float[Tensor, ""]:
    """Return the loss of the module docstring."""
    alpha_bar = alpha_bars[batch.timesteps]
    noisy, target = velocity(batch.latents, batch.noise, alpha_bar)
    embedded = text_encoder(batch.tokens).last_hidden_state
    predicted = unet(noisy, batch.timesteps, embedded).sample
    return (predicted.float() - target).square().mean()


class DiffusionTrainer:
    """The networks, their moving averages and the optimiser.

    Args:
        modules: `unet`, `text_encoder` and its `facts` (`text.build_heads`), trained in place.
        averages: copies of the first two.
        alpha_bars: of the scheduler.
        tokenizer: of the text encoder.
        config: how to train.
        seed: of everything random.
        device: where to train.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        averages: dict[str, nn.Module],
        alpha_bars: Float[Tensor, " timesteps"],
        tokenizer: Any,
        config: DiffusionConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.modules = {name: module.to(device).train() for name, module in modules.items()}
        self.averages = {
            name: module.to(device).eval().requires_grad_(False)
            for name, module in averages.items()
        }
        self.alpha_bars, self.tokenizer = alpha_bars.to(device), tokenizer
        self.empty = empty_captions(tokenizer, 1)
        self.facts = cast(nn.ModuleList, self.modules["facts"])
        self.config, self.seed, self.device = config, seed, device
        parameters = [p for name in sorted(modules) for p in modules[name].parameters()]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            parameters,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=True,
        )

    @property
    def checkpointed(self) -> dict[str, nn.Module]:
        """All modules of a checkpoint by name."""
        return self.modules | {f"ema_{name}": module for name, module in self.averages.items()}

    def step(self, pool: ShardPool, size: int, step: int) -> dict[str, float]:
        """Train one step on the first `size` images of the pool."""
        config = self.config
        batch = draw_batch(
            pool, size, self.empty, seed=self.seed, step=step, config=config,
            timesteps=len(self.alpha_bars),
        )  # fmt: skip
        moved = Batch(
            *(
                t.to(self.device)
                for t in (batch.latents, batch.tokens, batch.timesteps, batch.noise)
            )
        )
        rate = learning_rate(config, step)
        self.optimizer.param_groups[0]["lr"] = rate
        in_half = config.computes_in_bfloat16(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=in_half):
            loss = diffusion_loss(
                self.modules["unet"], self.modules["text_encoder"], moved, self.alpha_bars
            )
        recalled = recall_loss(
            self.modules["text_encoder"], self.facts, self.tokenizer, config.recall_batch,
            seed=derive_seed(self.seed, "recall"), step=step,
        )  # fmt: skip
        self.optimizer.zero_grad()
        (loss + config.recall * recalled).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        for name, average in self.averages.items():
            update_ema(average, self.modules[name], decay=config.ema, step=step)
        return {
            "loss": loss.item(),
            "recall": recalled.item(),
            "gradient": float(norm),
            "rate": rate,
        }
