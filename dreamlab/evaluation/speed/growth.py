"""How cost grows with size: CPU time of forward and backward at several sizes, and its exponent.

Times t at sizes n are fitted by t = c n^p, a line in logarithms, by least squares. Work that grows
in proportion to n has p = 1, and a fixed cost beside it lowers p. Sizes take turns, so that other
load blurs all of them alike; a figure is the median of its turns.

    splat, Gaussians    they cover the same sphere, smaller the more there are; 128 pixels square
    splat, pixels       5,000 Gaussians
    mesh, triangles     rasterize, interpolate, antialias, a sphere; 128 pixels square
    mesh, pixels        about 15,000 triangles
    field, points       density and colour of a hash grid with its networks, at random points
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from dreamlab.evaluation.speed.figures import Call, medians
from dreamlab.evaluation.speed.surfaces import MESH_CELLS, SIZE, mesh_step, sphere, splat_call
from dreamlab.representations.hashgrid import Config as FieldConfig
from dreamlab.representations.hashgrid import HashGridField

GAUSSIANS = (2_500, 5_000, 10_000, 20_000, 40_000)
FEW_GAUSSIANS = 5_000
SIDES = (64, 128, 256, 512)
"""Height and width of pictures, pixels."""
CELLS = (10, 14, 20, 28, 40)
"""Cells an axis of the grids that spheres come from; triangles grow with their square."""
POINTS = (10_000, 20_000, 40_000, 80_000, 160_000)
LINEAR = 1.1
"""Exponents up to this are told as no worse than linear: measured, they scatter around 1."""


@dataclass(frozen=True, slots=True)
class Growth:
    """One series of sizes with their times."""

    what: str
    """What is timed, and what its size counts."""
    sizes: Sequence[int]
    milliseconds: Sequence[float]
    """CPU time, a median for each size."""

    @property
    def exponent(self) -> float:
        """P of t = c n^p."""
        return _fit(self.sizes, self.milliseconds)[0]

    @property
    def is_linear_at_most(self) -> bool:
        return self.exponent <= LINEAR

    def fitted(self, size: int) -> float:
        """Return the time of the fit at a size, ms."""
        exponent, logarithm = _fit(self.sizes, self.milliseconds)
        return math.exp(logarithm + exponent * math.log(size))


def _fit(sizes: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """Return p and log c of the least-squares line through the logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(time) for time in times]
    middle_x, middle_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((a - middle_x) ** 2 for a in x)
    exponent = sum((a - middle_x) * (b - middle_y) for a, b in zip(x, y, strict=True)) / spread
    return exponent, middle_y - exponent * middle_x


def measure_growth(repeats: int) -> Iterator[Growth]:
    """Time all series on the CPU and one thread, `repeats` turns each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for what, calls in _series():
            times = medians({str(size): call for size, call in calls.items()}, repeats)
            yield Growth(what, list(calls), list(times.values()))
    finally:
        torch.set_num_threads(threads)


def _series() -> Iterator[tuple[str, Mapping[int, Call]]]:
    yield "splat, Gaussians", {n: splat_call(n, SIZE) for n in GAUSSIANS}
    yield "splat, pixels", {side**2: splat_call(FEW_GAUSSIANS, side) for side in SIDES}
    spheres = [sphere(cells) for cells in CELLS]
    yield "mesh, triangles", {len(mesh.tri): mesh_step(mesh, SIZE) for mesh in spheres}
    mesh = sphere(MESH_CELLS)
    yield "mesh, pixels", {side**2: mesh_step(mesh, side) for side in SIDES}
    field = HashGridField(FieldConfig(), torch.Generator().manual_seed(0))
    yield "field, points", {n: _field_call(field, n) for n in POINTS}


def _field_call(field: HashGridField, count: int) -> Callable[[], object]:
    points = 2 * torch.rand(count, 3, generator=torch.Generator().manual_seed(0)) - 1
    parameters = [p for group in field.parameter_groups().values() for p in group]

    def run() -> object:
        density, color = field.density_and_color(points)
        return torch.autograd.grad(density.sum() + color.square().sum(), parameters)

    return run
