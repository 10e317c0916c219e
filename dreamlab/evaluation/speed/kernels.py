"""Kernels against plain torch on one thread, and on two threads against one.

"Plain torch" is the reference implementation of the same operation on the same inputs. A grid of
2^15 rows a level stays in the processor's cache, one of 2^19 does not. Points that follow rays are
what rendering asks for; random ones are the worst case.
"""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from dreamlab.core.cameras import turntable_cameras
from dreamlab.evaluation.speed.figures import CAN_TIME_THREADS, Figure, scaling, speedup
from dreamlab.ops.backends import Backend
from dreamlab.ops.hashgrid.encode import HashGridConfig, HashGridLayout, hash_encode
from dreamlab.ops.volume.composite import composite
from dreamlab.ops.volume.march import Samples, march

TABLE_GOALS = {19: 8.0, 15: 10.0}
"""Least speed-up over plain torch, by log2 of the rows a level."""
SCALING_GOAL = 1.6
POINTS_PER_RAY = 40
MARCH_STEP = 2 * 3**0.5 / 512
"""World units: 512 steps along the diagonal of the cube."""
MARCH_SIZE = 64
"""Height and width of the picture whose rays are marched, pixels."""


def kernel_figures(num_points: int, repeats: int) -> Iterator[Figure]:
    """Time hash grid, marching and compositing; torch must be on one thread.

    Args:
        num_points: points that the hash grid encodes.
        repeats: timed calls a figure, at least.
    """
    generator = torch.Generator().manual_seed(0)
    clouds = {
        "random": torch.rand(num_points, 3, generator=generator),
        "along rays": points_along_rays(num_points, generator),
    }
    for log2_table_size, goal in TABLE_GOALS.items():
        for name, points in clouds.items():
            call = hash_grid_call(log2_table_size, points, generator)
            what = f"hash grid, forward + backward, 2^{log2_table_size}, {num_points} points {name}"
            yield speedup(what, partial(call, "warp"), partial(call, "reference"), goal, repeats)
    if CAN_TIME_THREADS:
        yield from _scaling_figures(clouds["along rays"], repeats, generator)


def points_along_rays(num_points: int, generator: torch.Generator) -> Float[Tensor, "points 3"]:
    """Return points in the unit cube as rendering asks for them, in rows through its middle."""
    num_rays = -(-num_points // POINTS_PER_RAY)
    direction = functional.normalize(torch.randn(num_rays, 1, 3, generator=generator), dim=-1)
    t = torch.linspace(-1, 1, POINTS_PER_RAY)[:, None]
    return (0.5 + 0.3 * t * direction).reshape(-1, 3)[:num_points]


def hash_grid_call(
    log2_table_size: int, points: Tensor, generator: torch.Generator
) -> Callable[[Backend], object]:
    """Return a function that encodes the points and goes back to the table, on a given backend."""
    layout = HashGridLayout.of(HashGridConfig(log2_table_size=log2_table_size))
    table = torch.randn(layout.num_entries, 2, generator=generator)
    table = table.to(points.device).requires_grad_()
    cotangent = torch.randn(len(points), layout.num_outputs, generator=generator)
    cotangent = cotangent.to(points.device)

    def call(backend: Backend) -> object:
        encoding = hash_encode(points, table, layout, backend=backend)
        return torch.autograd.grad(encoding, table, cotangent)

    return call


def _scaling_figures(points: Tensor, repeats: int, generator: torch.Generator) -> Iterator[Figure]:
    call = hash_grid_call(15, points, generator)
    what = f"hash grid on two threads, forward + backward, 2^15, {len(points)} points along rays"
    yield scaling(what, partial(call, "warp"), SCALING_GOAL, repeats)
    sample = _ball_marcher(generator)
    samples = sample()
    what = f"march on two threads, {MARCH_SIZE}x{MARCH_SIZE} px, {len(samples)} samples"
    yield scaling(what, sample, SCALING_GOAL, repeats)
    what = f"composite on two threads, forward + backward, {len(samples)} samples"
    yield scaling(what, _composite_call(samples, generator), SCALING_GOAL, repeats)


def _ball_marcher(generator: torch.Generator) -> Callable[[], Samples]:
    """Return a function that marches a picture's rays through a grid where a ball is occupied."""
    views = turntable_cameras(1, distance=3.0, fov_y=42.0).rays(MARCH_SIZE, MARCH_SIZE)
    origins, directions = (rays.reshape(-1, 3).contiguous() for rays in views)
    axis = (torch.arange(64) + 0.5) / 32 - 1
    centres = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    binary = centres.norm(dim=-1) < 0.6
    jitter = torch.rand(len(origins), generator=generator)

    def sample() -> Samples:
        return march(
            origins, directions, binary, half_extent=1.0, step_size=MARCH_STEP, jitter=jitter
        )

    return sample


def _composite_call(samples: Samples, generator: torch.Generator) -> Callable[[], object]:
    density = torch.rand(len(samples), generator=generator).requires_grad_()
    features = torch.rand(len(samples), 4, generator=generator).requires_grad_()

    def run() -> object:
        image = composite(density, features, samples)
        return torch.autograd.grad(image.features.sum(), (density, features))

    return run
