"""The memory ladder: what is given up, one rung after another, for a model to fit.

    rung                what it does                                             what it costs
    vae_slicing         pictures encoded one by one, recomputed on the way back  an encoding more
    single_rows         one latent in each call of the denoiser                  time
    attention_slicing   attention head by head                                   time
    vae_tiling          pictures encoded tile by tile                            time, seams
    half_precision      denoiser and autoencoder in 16 bits                      precision
    cpu_offload         weights wait in the CPU's memory                         much time

Before a run, the first rungs are taken of which `footprint` says that the step then fits into what
is free. When memory runs out all the same, the run takes the next rung and repeats the step.
A rung that the model does not have, or that is taken, is left out: slices of attention for
transformers and with an image prompt, tiles for pixels, offload without a graphics card.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import torch

from dreamlab.priors.autoencoder import Autoencoder
from dreamlab.priors.base import Prior
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.folder import quiet
from dreamlab.priors.footprint import (
    Demand,
    control_networks,
    network_bytes,
    step_bytes,
    text_bytes,
    weight_bytes,
)
from dreamlab.priors.unet import UNetPrior

logger = logging.getLogger(__name__)

Rung = Literal[
    "vae_slicing",
    "single_rows",
    "attention_slicing",
    "vae_tiling",
    "half_precision",
    "cpu_offload",
]
MARGIN = 1.15
"""Factor on the count for what it leaves out: the representation, its render, fragments."""
WORTH_COUNTING = 0.05
"""Share of the free memory below which weights are too small for the count to matter."""


@runtime_checkable
class Thrifty(Protocol):
    """A prior that can be made to need less memory."""

    @property
    def rungs(self) -> list[Rung]:
        """The rungs that are taken, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run needs of the denoiser's device."""

    weights: int
    """Bytes of denoiser, ControlNets, autoencoder and the network of a second model."""
    step: int
    """Bytes that a step holds beside them."""
    texts: int
    """Bytes of the text encoders, which are gone before the first step."""

    @property
    def total(self) -> int:
        """The most at any moment, with the margin."""
        return int(MARGIN * (self.weights + max(self.step, self.texts)))


def _slice_vae(prior: DiffusionPrior) -> bool:
    if not isinstance(prior.space, Autoencoder):
        return False
    prior.space.save_memory(prior.image_size, slices=True, tiles=False)
    return True


def _single_rows(prior: DiffusionPrior) -> bool:
    if prior.max_rows == 1:
        return False
    prior.running.max_rows = 1
    return True


def _slice_attention(prior: DiffusionPrior) -> bool:
    """Slices would take the place of the attention that reads an image prompt."""
    sees_image = isinstance(prior, UNetPrior) and prior.image is not None
    if sees_image or not hasattr(prior.network, "set_attention_slice"):
        return False
    for network in (prior.network, *control_networks(prior)):
        network.set_attention_slice("max")
    return True


def _tile_vae(prior: DiffusionPrior) -> bool:
    if not isinstance(prior.space, Autoencoder):
        return False
    prior.space.save_memory(prior.image_size, slices=True, tiles=True)
    return True


def _halve(prior: DiffusionPrior) -> bool:
    """Learned scores keep float32 adapters in the network, which must not be halved."""
    if prior.dtype != torch.float32 or prior.has_learned_scores:
        return False
    half = torch.float16 if prior.device.type == "cuda" else torch.bfloat16
    with quiet():
        _cast(prior, half)
    prior.running.dtype = half
    return True


def _cast(prior: DiffusionPrior, half: torch.dtype) -> None:
    for network in (prior.network, *control_networks(prior)):
        network.to(half)
    if isinstance(prior.space, Autoencoder) and not (
        half == torch.float16 and prior.space.vae.config.get("force_upcast")
    ):
        prior.space.vae.to(half)


def _offload(prior: DiffusionPrior) -> bool:
    """Layers are brought to the device when they are called, and leave it after."""
    if prior.device.type != "cuda" or prior.has_learned_scores:
        return False
    import accelerate

    for network in (prior.network, *control_networks(prior)):
        accelerate.cpu_offload(network, execution_device=prior.device)
    return True


RUNGS: dict[Rung, Callable[[DiffusionPrior], bool]] = {
    "vae_slicing": _slice_vae,
    "single_rows": _single_rows,
    "attention_slicing": _slice_attention,
    "vae_tiling": _tile_vae,
    "half_precision": _halve,
    "cpu_offload": _offload,
}
"""In the order in which they are taken; each says whether it changed anything."""


def take(prior: DiffusionPrior, rung: Rung) -> bool:
    """Take one rung; return whether there was something to take."""
    if rung in prior.rungs or not RUNGS[rung](prior):
        return False
    prior.running.rungs.append(rung)
    return True


def step_down(prior: Prior) -> Rung | None:
    """Take the next rung of a prior; return which, or None if there is none left."""
    if not isinstance(prior, DiffusionPrior):
        return None
    return next((rung for rung in RUNGS if take(prior, rung)), None)


def rungs_of(prior: Prior) -> list[Rung]:
    """Return the rungs that a prior stands on; none if it has no ladder."""
    return list(prior.rungs) if isinstance(prior, Thrifty) else []


Learners = Mapping[str, DiffusionPrior]
"""Second models on the meta device, by the name that demands call them."""


def estimate(
    prior: DiffusionPrior, demands: Sequence[Demand], learners: Learners | None = None
) -> Estimate:
    """Count what a prior on the meta device would need for the greatest of its demands."""
    texts, weights = text_bytes(prior), weight_bytes(prior)

    def needed(demand: Demand) -> Estimate:
        learner = None
        if learners is not None and demand.learned_model is not None:
            learner = learners[demand.learned_model]
        second = 0 if learner is None else network_bytes(learner.network)
        return Estimate(weights + second, step_bytes(prior, demand, learner), texts)

    counted = [needed(demand) for demand in dict.fromkeys(demands)]
    return max(counted, key=lambda estimate: estimate.total)


def rungs_to_fit(
    twin: DiffusionPrior,
    demands: Sequence[Demand],
    free: int,
    *,
    can_offload: bool,
    learners: Learners | None = None,
) -> tuple[list[Rung], Estimate]:
    """Return the rungs with which a model fits, and what it then needs.

    A network that learns cannot wait in the CPU's memory, since its adapters would have no device.

    Args:
        twin: the model on the meta device; it takes the rungs.
        demands: what the steps of the stages ask of it.
        free: bytes.
        can_offload: whether the CPU's memory is another one than the device's.
        learners: the second models; they take the same rungs.

    Returns:
        As few rungs from the top as suffice. If none do, all of them: it is tried nevertheless.
    """
    needed = estimate(twin, demands, learners)
    while needed.total > free and (rung := step_down(twin)) is not None:
        for learner in (learners or {}).values():
            take(learner, rung)
        needed = estimate(twin, demands, learners)
        logger.info("With %s the model needs %.1f GB.", rung, needed.total / 1e9)
    learns = any(d.lora is not None and d.learned_model is None for d in demands)
    if needed.total > free and can_offload and not learns:
        twin.running.rungs.append("cpu_offload")
        needed = estimate(twin, demands, learners)
    return list(twin.rungs), needed


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of a device; None where it is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if device.type != "cpu" or not meminfo.is_file():
        return None
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None
