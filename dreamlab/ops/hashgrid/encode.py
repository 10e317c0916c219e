"""Multiresolution hash encoding: points of the unit cube to trainable features.

Level l of L is a grid with scale s_l = N_min b^l - 1, b = (N_max / N_min)^(1 / (L - 1)). A point x
falls at p = s_l x + 1/2, in the cell floor(p), and its features are interpolated from the cell's
eight corners. A corner (i, j, k) reads the entry

    i + j R + k R^2 (mod size)                        if R^3 <= 2^T, with R = ceil(s_l) + 1: dense
    (i xor 2654435761 j xor 805459861 k) mod 2^T      otherwise: hashed

Glossary: `T` log2_table_size, `F` features a level; `entries` rows of the table, the levels one
after the other, coarse first; outputs are ordered level by level, L * F of them.

Conventions are those of tiny-cuda-nn to the bit of the table layout, so a table can move between
backends. The half cell of offset keeps the vertices of different levels from coinciding. Points
outside the unit cube are allowed and read aliased entries; near the upper faces the outer half
cell of a dense level is aliased too.

Source: Müller et al. 2022, "Instant Neural Graphics Primitives with a Multiresolution Hash
Encoding", section 3.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.ops.backends import Backend, resolve

Interpolation = Literal["linear", "smoothstep"]
PRIMES = (1, 2654435761, 805459861)
"""Factors of the three coordinates in the spatial hash (Müller et al. 2022, eq. 4)."""
ALIGNMENT = 8
"""Levels occupy a multiple of this many entries, as in tiny-cuda-nn."""


@dataclass(frozen=True, slots=True)
class HashGridConfig:
    """Size and shape of a multiresolution hash grid."""

    num_levels: int = 16
    """Number of grids, from coarse to fine."""
    num_features: int = 2
    """Trainable features an entry: 1, 2, 4 or 8."""
    log2_table_size: int = 15
    """A level has at most 2 to this power entries; memory and CPU time grow with it."""
    base_resolution: int = 16
    """Grid points along an axis of the coarsest level."""
    finest_resolution: int = 2048
    """Grid points along an axis of the finest level."""
    interpolation: Interpolation = "linear"
    """`smoothstep` makes first derivatives continuous; values keep their range."""

    def __post_init__(self) -> None:
        if self.num_features not in (1, 2, 4, 8):
            raise ValueError(f"num_features must be 1, 2, 4 or 8, got {self.num_features}")
        if self.num_levels < 1:
            raise ValueError(f"num_levels must be at least 1, got {self.num_levels}")
        if not 4 <= self.log2_table_size <= 24:
            raise ValueError(f"log2_table_size must be in [4, 24], got {self.log2_table_size}")
        if not 2 <= self.base_resolution <= self.finest_resolution <= 1 << 16:
            raise ValueError(
                "2 <= base_resolution <= finest_resolution <= 65536 must hold, got "
                f"{self.base_resolution} and {self.finest_resolution}"
            )


@dataclass(frozen=True, slots=True)
class HashGridLayout:
    """Where each level of a hash grid lives in its table; each tuple has one value a level."""

    config: HashGridConfig
    scales: tuple[float, ...]
    """s_l, single-precision values."""
    resolutions: tuple[int, ...]
    """R of a dense level, 0 for a hashed one."""
    offsets: tuple[int, ...]
    """First table row."""
    sizes: tuple[int, ...]
    """Number of table rows."""

    @classmethod
    def of(cls, config: HashGridConfig) -> "HashGridLayout":
        """Lay out the levels of `config`."""
        level = np.arange(config.num_levels, dtype=np.float32)
        growth = np.log2(np.float32(growth_factor(config)))
        scales = np.exp2(level * growth) * np.float32(config.base_resolution) - np.float32(1)
        resolutions, sizes = [], []
        for resolution in np.ceil(scales).astype(int) + 1:
            needed = -(-(int(resolution) ** 3) // ALIGNMENT) * ALIGNMENT
            sizes.append(min(needed, 1 << config.log2_table_size))
            resolutions.append(int(resolution) if int(resolution) ** 3 <= sizes[-1] else 0)
        offsets = np.cumsum([0, *sizes[:-1]]).tolist()
        return cls(config, tuple(scales.tolist()), tuple(resolutions), tuple(offsets), tuple(sizes))

    @property
    def num_entries(self) -> int:
        """Rows of the table."""
        return self.offsets[-1] + self.sizes[-1]

    @property
    def num_outputs(self) -> int:
        """Length of an encoded point, levels * features."""
        return self.config.num_levels * self.config.num_features


def growth_factor(config: HashGridConfig) -> float:
    """Return b, the ratio of the resolutions of neighbouring levels."""
    if config.num_levels == 1:
        return 1.0
    ratio = config.finest_resolution / config.base_resolution
    return ratio ** (1 / (config.num_levels - 1))


def hash_encode(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    layout: HashGridLayout,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "points outputs"]:
    """Encode points by interpolating the table's features at every level.

    Args:
        points: in the unit cube [0, 1]^3.
        table: `layout.num_entries` rows of trainable features.
        layout: where the levels are.
        backend: `warp` and `tinycudann` need float32; `reference` takes any float type.

    Returns:
        `layout.num_outputs` numbers a point, level by level.

    Raises:
        InputError: the table does not fit the layout, or a type is not float32.

    Gradients:
        To table and points. The gradient to points may be differentiated once more (with
        `warp` by every input); the gradient to the table may not, except with `reference`.
    """
    name = resolve("hash_encode", backend, points.device)
    _check(points, table, layout, name)
    if name == "reference":
        from dreamlab.ops.hashgrid.reference import encode

        return encode(points, table, layout)
    if name == "tinycudann":
        from dreamlab.ops.hashgrid.tinycudann import encode

        return encode(points, table, layout)
    from dreamlab.ops.hashgrid.warp import encode

    return encode(points, table, layout)


def hash_point_gradient(
    points: Float[Tensor, "points 3"],
    table: Float[Tensor, "entries features"],
    cotangent: Float[Tensor, "points outputs"],
    layout: HashGridLayout,
    *,
    backend: Backend = "auto",
) -> Float[Tensor, "points 3"]:
    """Return the gradient of sum(cotangent * hash_encode(points)) with respect to the points.

    It serves analytic normals: with h = hash_encode(x) and density f(h), the density gradient is
    `hash_point_gradient(x, table, df/dh)`, and asking for it in this way does not also compute the
    gradient to the table.

    Returns:
        Per unit of the unit cube; for linear interpolation constant along an axis within a cell.

    Raises:
        InputError: the table does not fit the layout, or a type is not float32.

    Gradients:
        To points, table and cotangent, once.
    """
    name = resolve("hash_encode", "auto" if backend == "tinycudann" else backend, points.device)
    _check(points, table, layout, name)
    if name == "reference":
        from dreamlab.ops.hashgrid.reference import point_gradient

        return point_gradient(points, table, cotangent, layout)
    from dreamlab.ops.hashgrid.warp import point_gradient

    return point_gradient(points, table, cotangent, layout)


def _check(points: Tensor, table: Tensor, layout: HashGridLayout, name: str) -> None:
    wanted = (layout.num_entries, layout.config.num_features)
    if tuple(table.shape) != wanted:
        raise InputError(
            f"The hash table has shape {tuple(table.shape)}, its layout needs {wanted}.",
            "Create the table with HashGridLayout.num_entries rows and num_features columns.",
        )
    for label, tensor in (("points", points), ("table", table)):
        if name != "reference" and str(tensor.dtype) != "torch.float32":
            raise InputError(
                f"hash_encode on backend {name!r} needs float32 {label}, got {tensor.dtype}.",
                "Convert them with .float(), or use backend 'reference'.",
            )
