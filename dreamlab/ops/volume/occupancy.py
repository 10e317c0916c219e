"""Occupancy grid: which cells of the cube [-h, h]^3 can hold anything at all.

Each cell remembers an estimate of the optical thickness of one march step there,

    occ <- max(0.95 occ, density(x) step_size),   x uniform in the cell,

whenever it is visited, and is occupied where occ > min(mean(occ), 0.01). In warm-up every cell is
visited; later a quarter as many cells as there are, drawn uniformly, and as many again of the
occupied ones. Before the first update every cell counts as occupied: nothing is known to be empty.

Glossary: `cells` flat indices, (x R + y) R + z for cell (x, y, z) of resolution R.

Source: Müller et al. 2022 (Instant NGP), appendix E.2, with the constants of Li et al. 2023
(NerfAcc).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dreamlab.core.errors import InputError

DECAY = 0.95
"""Factor on what a visited cell remembers."""
THRESHOLD = 0.01
"""Optical thickness of a step above which a cell is occupied whatever the mean is."""


class OccupancyGrid(nn.Module):
    """Remembers where a field has density; its state is saved with the module.

    Args:
        resolution: cells along an axis.
        half_extent: h, world units.
    """

    occupancy: Float[Tensor, " cells"]
    """Estimated density * step_size of every cell."""
    binary: Bool[Tensor, "resolution resolution resolution"]
    """True where a cell is occupied, indexed [x, y, z]."""

    def __init__(self, resolution: int = 64, half_extent: float = 1.0) -> None:
        super().__init__()
        if resolution < 1 or not half_extent > 0:
            raise InputError(
                f"An occupancy grid needs resolution >= 1 and half_extent > 0, got {resolution} "
                f"and {half_extent}.",
                "Use e.g. resolution 64 and half_extent 1.0.",
            )
        self.resolution = resolution
        self.half_extent = half_extent
        self.register_buffer("occupancy", torch.zeros(resolution**3))
        self.register_buffer("binary", torch.ones((resolution,) * 3, dtype=torch.bool))

    @torch.no_grad()
    def update(
        self,
        density_at: Callable[[Tensor], Tensor],
        *,
        step_size: float,
        warm_up: bool,
        generator: torch.Generator,
    ) -> None:
        """Visit cells and decide anew which are occupied.

        Args:
            density_at: maps world points `[points 3]` to densities `[points]`, 1 / world unit.
            step_size: march step, world units.
            warm_up: visit every cell rather than a selection.
            generator: a CPU generator, so that all devices draw the same numbers.
        """
        cells = self._every_cell() if warm_up else self._select_cells(generator)
        jitter = torch.rand(len(cells), 3, generator=generator).to(self.occupancy.device)
        density = density_at(self.points_in(cells, jitter))
        visited = torch.zeros_like(self.occupancy, dtype=torch.bool)
        visited[cells] = True
        decayed = torch.where(visited, DECAY * self.occupancy, self.occupancy)
        thickness = density.detach().to(decayed.dtype) * step_size
        self.occupancy.copy_(decayed.scatter_reduce(0, cells, thickness, "amax"))
        threshold = self.occupancy.mean().clamp(max=THRESHOLD)
        self.binary.copy_((self.occupancy > threshold).view_as(self.binary))

    def points_in(
        self, cells: Int[Tensor, " points"], place: Float[Tensor, "points 3"]
    ) -> Float[Tensor, "points 3"]:
        """Return world points at `place` in [0, 1]^3 of cells given by flat index."""
        x = torch.div(cells, self.resolution**2, rounding_mode="floor")
        y = torch.div(cells, self.resolution, rounding_mode="floor") % self.resolution
        corner = torch.stack([x, y, cells % self.resolution], dim=-1)
        return (corner + place) * (2 * self.half_extent / self.resolution) - self.half_extent

    def _every_cell(self) -> Int[Tensor, " cells"]:
        return torch.arange(len(self.occupancy), device=self.occupancy.device)

    def _select_cells(self, generator: torch.Generator) -> Int[Tensor, " selected"]:
        """Draw R^3 / 4 cells uniformly and as many of the occupied ones (all if they are fewer)."""
        quarter = max(len(self.occupancy) // 4, 1)
        uniform = torch.randint(len(self.occupancy), (quarter,), generator=generator)
        occupied = self.binary.flatten().nonzero()[:, 0]
        if len(occupied) > quarter:
            drawn = torch.randint(len(occupied), (quarter,), generator=generator)
            occupied = occupied[drawn.to(occupied.device)]
        return torch.cat([uniform.to(occupied.device), occupied])
