"""Every implementation of an operation that runs on a device, on the same inputs, in turns.

    hash grid    points along rays, 2^19 rows a level, forward + backward
    mesh step    rasterize + interpolate + antialias of a sphere, forward + backward
    texture      a texture of 1,024 texels a side, seen once in a picture, forward + backward
    splat        Gaussians on a sphere, projected and blended, forward + backward

Who takes part is what `dreamlab.ops.backends` offers on that device: `reference` and `warp` on the
CPU, on a graphics card also what is installed of `tinycudann`, `nvdiffrast` and `gsplat`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dreamlab.evaluation.speed.figures import card_milliseconds, cpu_milliseconds, medians
from dreamlab.evaluation.speed.kernels import hash_grid_call, points_along_rays
from dreamlab.evaluation.speed.surfaces import MESH_CELLS, mesh_step, sphere, splat_call
from dreamlab.ops.backends import Backend, available, resolve
from dreamlab.ops.triangles.texture import texture

LOG2_TABLE_SIZE = 19
TEXELS = 1024


@dataclass(frozen=True, slots=True)
class ContestConfig:
    """How much is asked of everyone, and how often."""

    points: int = 160_000
    """Points that the hash grid encodes."""
    gaussians: int = 20_000
    """Gaussians that are splatted."""
    size: int = 128
    """Height and width of pictures, pixels."""
    repeats: int = 5
    """Timed calls of everyone, at least; times are their medians."""

    def __post_init__(self) -> None:
        for name in ("points", "gaussians", "size", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Contest:
    """What everyone took for one piece of work."""

    what: str
    """The work, with its sizes."""
    ours: str
    """The backend that dreamlab takes unless it is told otherwise."""
    times: dict[str, float]
    """Milliseconds by backend."""

    @property
    def over_ours(self) -> dict[str, float]:
        """Each time over that of `ours`: below 1 where we lose."""
        return {name: time / self.times[self.ours] for name, time in self.times.items()}

    @property
    def plain(self) -> dict[str, Any]:
        """The contest as plain values."""
        return {
            "what": self.what,
            "ours": self.ours,
            "times_ms": self.times,
            "over_ours": self.over_ours,
        }


def contests(config: ContestConfig, device: torch.device) -> Iterator[Contest]:
    """Hold all contests on a device; on the CPU on one thread."""
    on_card = device.type == "cuda"
    stopwatch = partial(card_milliseconds, device=device) if on_card else cpu_milliseconds
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for what, op, call in _works(config, device):
            calls = {name: partial(call, name) for name in available(op, device)}
            times = medians(calls, config.repeats, stopwatch)
            yield Contest(what, resolve(op, "auto", device), times)
    finally:
        torch.set_num_threads(threads)


def _works(
    config: ContestConfig, device: torch.device
) -> Iterator[tuple[str, str, Callable[[Backend], object]]]:
    """Yield what is to be done, the operation that says who can do it, and how to have it done."""
    generator = torch.Generator().manual_seed(0)
    points = points_along_rays(config.points, generator).to(device)
    what = f"hash grid, 2^{LOG2_TABLE_SIZE}, {len(points)} points along rays"
    yield what, "hash_encode", hash_grid_call(LOG2_TABLE_SIZE, points, generator)
    mesh = sphere(MESH_CELLS, device)
    what = f"rasterize + interpolate + antialias, {len(mesh.tri)} triangles, {config.size} px"
    yield what, "rasterize", mesh_step(mesh, config.size)
    what = f"texture, {TEXELS}x{TEXELS} texels, {config.size} px"
    yield what, "texture", _texture_call(config.size, device)
    what = f"splat, {config.gaussians} Gaussians, {config.size} px"
    yield what, "splat", splat_call(config.gaussians, config.size, device)


def _texture_call(size: int, device: torch.device) -> Callable[[Backend], object]:
    generator = torch.Generator().manual_seed(0)
    tex = torch.rand(1, TEXELS, TEXELS, 3, generator=generator).to(device).requires_grad_()
    cotangent = torch.rand(1, size, size, 3, generator=generator).to(device)
    axis = (torch.arange(size, device=device) + 0.5) / size
    uv = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1)[None].requires_grad_()

    def call(backend: Backend) -> object:
        return torch.autograd.grad(texture(tex, uv, backend=backend), (tex, uv), cotangent)

    return call
