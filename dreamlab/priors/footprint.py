"""How much memory a guided step needs, counted on tensors without values.

    step  =  encode B pictures (graph kept)  ->  denoise B R rows (no graph)
             [ ->  predict B rows by a learned score, and back to its adapters ]
             [ ->  decode B pictures (no graph) ]
             ->  backward to the pixels

Glossary: B views of a step; R conditionings of a view in the widest call of the denoiser. Where
only pixels are pulled to what was decoded, the encoder keeps no graph. Where latents themselves are
optimised, they are decoded instead, once and with a graph. What a rule compares with (`dds`) is
encoded before all that and without a graph, so it is never the worst moment.

The step runs for real, with the real classes and shapes, on torch's meta device: every tensor has a
size and none has memory. Counted are the bytes of all storages that are alive at once, at the worst
moment; the weights are counted by themselves. It takes seconds for networks of gigabytes.

Attention is counted as kernels do it that never hold the T x T matrix (flash, memory efficient), as
long as the network calls torch's attention; sliced attention is counted as it is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreamlab.core.cameras import turntable_cameras
from dreamlab.priors.autoencoder import Autoencoder
from dreamlab.priors.controlnet import Control
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.image_prompt import with_sight
from dreamlab.priors.learned import POSE_NUMBERS, LoraConfig
from dreamlab.priors.lora import LoraScore
from dreamlab.priors.multi_view import MultiView
from dreamlab.priors.unet import UNetPrior

SLACK = 0.01
META = torch.device("meta")


Coding = Literal["encode", "back", "decode", "show"]
"""What a step asks of the autoencoder: the latents of the views, the way from these back to the
pixels, pictures of other latents, and the picture of the latents that are optimised."""
CODINGS: tuple[Coding, ...] = ("encode", "back", "decode")
"""Of a rule."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What the step of a stage asks of the prior."""

    views: int = 1
    """B."""
    rows: int = 2
    """R; classifier-free guidance has two."""
    lora: LoraConfig | None = None
    """Adapters of a score that is trained in the step; none: nothing is trained."""
    learned_model: str | None = None
    """A second model in memory, whose network has the adapters; none: the prior itself has them."""
    codings: tuple[Coding, ...] = ("encode", "back")
    """What it asks of the autoencoder, at any progress of the stage."""


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that operations inside have made and that are alive.

    The peak is exact to `SLACK`: who is gone is looked for only when the sum has grown by so much.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[int, tuple[StorageWeakRef, int]] = {}
        self._sum = 0
        """Of all that were not seen to be gone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {StorageWeakRef(x.untyped_storage()).cdata for x in _tensors((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._note(tensor.untyped_storage(), given)
        return result

    def _note(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        """Count a storage that is new, but not what was made outside and is seen by a view."""
        reference = StorageWeakRef(storage)
        known = self._sizes.get(reference.cdata)
        if known is not None:
            if not known[0].expired():
                return
            self._sum -= known[1]  # its place in memory was given to this one
        elif reference.cdata in given:
            return
        self._sizes[reference.cdata] = (reference, storage.nbytes())
        self._sum += storage.nbytes()
        if self._sum > (1 + SLACK) * self.peak:  # perhaps; some may be gone
            self._sizes = {k: v for k, v in self._sizes.items() if not v[0].expired()}
            self._sum = sum(size for _, size in self._sizes.values())
            self.peak = max(self.peak, self._sum)


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


class _Fused(torch.autograd.Function):
    """What fused attention keeps: its inputs and its output."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


@contextmanager
def fused_attention() -> Iterator[None]:
    """Take torch's attention for a kernel that never holds the matrix of weights; sizes only."""
    whole = functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return _Fused.apply(query, key, value)

    # a mode of torch functions would not see what is recomputed on the way back
    functional.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = whole


def weight_bytes(prior: DiffusionPrior) -> int:
    """Return the bytes of all networks of a step, without what waits in the CPU's memory."""
    networks = [] if "cpu_offload" in prior.rungs else [prior.network, *control_networks(prior)]
    if isinstance(prior.space, Autoencoder):
        networks.append(prior.space.vae)
    return network_bytes(*networks)


def network_bytes(*networks: Any) -> int:
    """Return the bytes of the weights of networks."""
    return sum(p.numel() * p.element_size() for net in networks for p in net.parameters())


def control_networks(prior: DiffusionPrior) -> list[Any]:
    """Return the ControlNets that a prior has."""
    return list(prior.controls.values()) if isinstance(prior, UNetPrior) else []


def text_bytes(prior: DiffusionPrior) -> int:
    """Return the bytes of the text encoders, which are there before the first step."""
    total = network_bytes(*(text._load() for text in prior.texts))
    prior.release_text_encoder()
    return total


@dataclass(frozen=True)
class Told:
    """What a prior is told in a step, on the meta device."""

    prior: DiffusionPrior
    row: Tensor
    """Embedding of one prompt for one view, `[1 T D]`."""

    @classmethod
    def nothing(cls, prior: DiffusionPrior) -> "Told":
        """Tell it the empty prompt."""
        text = prior.embed([""])[:, None]
        if isinstance(prior, MultiView):
            camera = turntable_cameras(1, distance=1.0, fov_y=45.0)
            text = prior.with_cameras(text, camera)
        return cls(prior, with_sight(prior, text, progress=0.0, sees_image=True)[0])

    def rows(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return noisy latents, times and conditionings of so many rows."""
        prior = self.prior
        shape = (count, prior.latent_channels, prior.latent_size, prior.latent_size)
        times = torch.empty(count, device=META)
        return torch.empty(shape, device=META), times, self.row.expand(count, -1, -1)


def guided_step(told: Told, demand: Demand, learned: tuple[LoraScore, Told] | None = None) -> None:
    """Take a step of a rule on the meta device: encode, denoise, learn, decode, go back.

    All ControlNets of the prior look at it.

    Args:
        told: the prior, and what it is told.
        demand: B, R and the codings.
        learned: the score that is trained, and what its network is told.
    """
    prior, views, rows = told.prior, demand.views, demand.views * demand.rows
    side = prior.image_size
    images, latents = _coded(prior, views, demand.codings)
    inputs = told.rows(rows)
    if isinstance(prior, UNetPrior) and prior.controls:
        names = tuple(prior.controls)
        shown = torch.empty(rows, len(names), 3, side, side, device=META)
        eps = prior.predict(*inputs, Control(names, (1.0,) * len(names), shown)).eps
    else:
        eps = prior.predict(*inputs).eps
    gradient = eps[:views]
    del inputs, eps
    if learned is not None:
        score, heard = learned
        poses = torch.empty(views, POSE_NUMBERS, device=META)
        score.predict(*heard.rows(views), poses).eps.square().sum().backward()
    loss = (latents * gradient).sum()
    if "decode" in demand.codings:
        with torch.no_grad():
            shown = prior.decode(gradient)
        loss = loss + (images - shown).square().sum()
    loss.backward()


def _coded(prior: DiffusionPrior, views: int, codings: Sequence[Coding]) -> tuple[Tensor, Tensor]:
    """Return pictures and their latents as a step makes them.

    One comes from the other with a graph, or without one, or not at all.
    """
    shape = (prior.latent_channels, prior.latent_size, prior.latent_size)
    if "show" in codings:
        latents = torch.empty(1, *shape, device=META, requires_grad=True)
        return prior.decode(latents).expand(views, -1, -1, -1), latents.expand(views, *shape)
    side = prior.image_size
    images = torch.empty(views, side, side, 3, device=META, requires_grad=True)
    if "back" in codings:
        return images, prior.encode_image(images, None)
    latents = torch.empty(views, *shape, device=META)
    if "encode" in codings:
        with torch.no_grad():
            latents = prior.encode_image(images, None)
    return images, latents.requires_grad_()  # where the way back begins that is not the encoder's


def new_score(prior: DiffusionPrior, lora: LoraConfig) -> LoraScore:
    """Build a score on a copy of a prior on the meta device, which itself stays as it is."""
    twin = copy(prior)
    twin.network, twin.running = deepcopy(prior.network), copy(prior.running)
    return twin.learned_score(lora, torch.Generator())


def step_bytes(prior: DiffusionPrior, demand: Demand, learner: DiffusionPrior | None = None) -> int:
    """Return the most bytes that a step holds beside the weights.

    Args:
        prior: on the meta device.
        demand: what the step asks of it; a multi-view prior gets whole groups.
        learner: the second model whose network learns, on the meta device; none: the prior's.
    """
    views = demand.views
    if isinstance(prior, MultiView):
        views = -(-views // prior.num_views) * prior.num_views
    learned = None
    if demand.lora is not None:
        learning = learner or prior
        learned = new_score(learning, demand.lora), Told.nothing(learning)
    told = Told.nothing(prior)
    with fused_attention(), LiveBytes() as live:
        guided_step(told, replace(demand, views=views), learned)
    return live.peak
