"""How much memory a guided step needs, counted on tensors without values.

    step  =  encode B pictures (graph kept)  ->  denoise rows (no graph)  ->  backward to the pixels

The step runs for real, with the real classes and shapes, on torch's meta device: every tensor has a
size and none has memory. Counted are the bytes of all storages that are alive at once, at the worst
moment; the weights are counted by themselves. It takes seconds for networks of gigabytes.

Attention is counted as kernels do it that never hold the T x T matrix (flash, memory efficient), as
long as the network calls torch's attention; sliced attention is counted as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
from dreamlab.priors.multi_view import MultiView
from dreamlab.priors.unet import UNetPrior

SLACK = 0.01
META = torch.device("meta")


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
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        reference = StorageWeakRef(storage)
        known = self._sizes.get(reference.cdata)
        if known is not None:
            if not known[0].expired():
                return
            self._sum -= known[1]  # its place in memory was given to this one
        self._sizes[reference.cdata] = (reference, storage.nbytes())
        self._sum += storage.nbytes()
        if self._sum > (1 + SLACK) * self.peak:  # perhaps; some may be gone
            self._sizes = {k: v for k, v in self._sizes.items() if not v[0].expired()}
            self._sum = sum(size for _, size in self._sizes.values())
            self.peak = max(self.peak, self._sum)


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
    return sum(p.numel() * p.element_size() for net in networks for p in net.parameters())


def control_networks(prior: DiffusionPrior) -> list[Any]:
    """Return the ControlNets that a prior has."""
    return list(prior.controls.values()) if isinstance(prior, UNetPrior) else []


def text_bytes(prior: DiffusionPrior) -> int:
    """Return the bytes of the text encoders, which are there before the first step."""
    networks = [text._load() for text in prior.texts]
    total = sum(p.numel() * p.element_size() for net in networks for p in net.parameters())
    prior.release_text_encoder()
    return total


def guided_step(prior: DiffusionPrior, text: Tensor, views: int, rows_per_view: int) -> None:
    """Take a step of a rule on the meta device: encode, denoise, go back to the pixels.

    All ControlNets of the prior look at it.

    Args:
        prior: on the meta device.
        text: embedding of one prompt, `[1 T D]`.
        views: B.
        rows_per_view: conditionings of each view in a call of the denoiser.
    """
    side, rows = prior.image_size, views * rows_per_view
    images = torch.empty(views, side, side, 3, device=META, requires_grad=True)
    latents = prior.encode_image(images, None)
    noisy = latents.detach().repeat_interleave(rows_per_view, dim=0)
    inputs = (noisy, torch.empty(rows, device=META), text.expand(rows, -1, -1))
    if isinstance(prior, UNetPrior) and prior.controls:
        names = tuple(prior.controls)
        shown = torch.empty(rows, len(names), 3, side, side, device=META)
        prediction = prior.predict(*inputs, Control(names, (1.0,) * len(names), shown))
    else:
        prediction = prior.predict(*inputs)
    (latents * prediction.eps[:views]).sum().backward()


def step_bytes(prior: DiffusionPrior, views: int, rows_per_view: int) -> int:
    """Return the most bytes that a step holds beside the weights; arguments as `guided_step`."""
    text = with_sight(prior, prior.embed([""]), [True])
    if isinstance(prior, MultiView):
        views = -(-views // prior.num_views) * prior.num_views
        text = prior.with_cameras(text[:, None], turntable_cameras(1, distance=1.0, fov_y=45.0))[0]
    with fused_attention(), LiveBytes() as live:
        guided_step(prior, text, views, rows_per_view)
    return live.peak
