"""Features of points on a multiresolution hash grid, and small networks that read them.

    e = encode(x)                       hash grid, levels x features numbers
    y = W2 relu(W1 (l * e))             one hidden layer, no biases

Glossary: `e` encoding, `W` weights of a network, `l` weights of the levels, `half_extent` h. Points
are in world space; the grid spans the cube [-h, h]^3, and a point outside has the features of the
nearest point of the cube.

Progressive levels: while they open, level k is weighted by clamp(open - k, 0, 1), where `open`
grows linearly from `start_level` to all levels at progress `all_levels_at`. The weights multiply
the rows of the first layer instead of the encodings, which is the same and costs nothing.

Source: Müller et al. 2022 (instant-ngp); progressive levels: Li et al. 2023 (Neuralangelo).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.ops.backends import Backend
from dreamlab.ops.hashgrid.encode import HashGridConfig, HashGridLayout, hash_encode

TABLE_SPREAD = 1e-4
"""Table entries start uniform in [-1e-4, 1e-4] (instant-ngp, section 4)."""
CHUNK = 1 << 17
"""Points evaluated at once where no gradient is needed; bounds memory to about 100 MB."""


@dataclass(frozen=True, slots=True)
class FeatureConfig:
    """Settings of a hash grid and of the networks that read it."""

    grid: HashGridConfig = field(default_factory=HashGridConfig)
    """Shape of the hash grid."""
    hidden_width: int = 32
    """Width of the hidden layer of each network."""
    start_level: int = 4
    """Number of levels that are open at first; matters only if all_levels_at is above 0."""
    all_levels_at: float = 0.0
    """Fraction of the stage at which all levels are open."""
    backend: Backend = "auto"
    """Which kernel evaluates the hash grid."""

    def __post_init__(self) -> None:
        if self.hidden_width < 1:
            raise ValueError(f"hidden_width must be at least 1, got {self.hidden_width}")
        if not 0 <= self.all_levels_at <= 1:
            raise ValueError(f"all_levels_at must be in [0, 1], got {self.all_levels_at}")
        if self.all_levels_at > 0 and not 1 <= self.start_level <= self.grid.num_levels:
            raise ValueError(
                f"start_level must be in [1, {self.grid.num_levels}] (the number of levels), got "
                f"{self.start_level}"
            )


class HashFeatures(nn.Module):
    """The hash grid and the weights of its levels.

    Gradients: encodings to the table and to the points.
    """

    level_weights: Tensor

    def __init__(
        self, config: FeatureConfig, half_extent: float, generator: torch.Generator | None
    ) -> None:
        """Draw the table; `generator` (CPU) makes that repeatable."""
        super().__init__()
        self.config, self.half_extent = config, half_extent
        self.layout = HashGridLayout.of(config.grid)
        shape = (self.layout.num_entries, config.grid.num_features)
        self.table = nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * TABLE_SPREAD)
        self.register_buffer("level_weights", torch.ones(self.layout.num_outputs), persistent=False)

    def set_progress(self, progress: float) -> None:
        """Open levels for `progress` in [0, 1]."""
        grid, config = self.config.grid, self.config
        done = 1.0 if progress >= config.all_levels_at else progress / config.all_levels_at
        num_open = config.start_level + (grid.num_levels - config.start_level) * done
        weights = (num_open - torch.arange(grid.num_levels)).clamp(0, 1)
        self.level_weights.copy_(weights.repeat_interleave(grid.num_features))

    def build_network(self, outputs: int, generator: torch.Generator | None) -> nn.ParameterList:
        """Draw the weights of a network, uniform in +-1 / sqrt(inputs), as `nn.Linear` does."""
        widths = (self.layout.num_outputs, self.config.hidden_width, outputs)
        weights = nn.ParameterList()
        for before, after in pairwise(widths):
            uniform = torch.rand(before, after, generator=generator) * 2 - 1
            weights.append(nn.Parameter(uniform / before**0.5))
        return weights

    def read(
        self, network: Iterable[Tensor], encoding: Float[Tensor, "points features"]
    ) -> Float[Tensor, "points outputs"]:
        """Return y of the module docstring."""
        first, second = network
        return (encoding @ (self.level_weights[:, None] * first)).relu_() @ second

    def to_unit(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return positions in the cube, in [0, 1]."""
        return (points * (0.5 / self.half_extent) + 0.5).clamp(0, 1)

    def forward(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points features"]:
        """Return e at world points; the levels are not weighted yet."""
        backend = self.config.backend
        return hash_encode(self.to_unit(points), self.table, self.layout, backend=backend)
