"""What mesh representations share: colours of a surface from features on a hash grid.

    albedo(x) = sigmoid(W2 relu(W1 e(x)))     sRGB, hash-grid features e

and, with a material, from the same hidden layer

    (m, r, b) = W3 relu(W1 e(x))
    metallic  = low + (high - low) sigmoid(m),   roughness likewise
    bump      = strength tanh(b)              added to the normal, world space

W3 starts at zero: every point in the middle of its ranges, no bumps, whatever the colours are.

A surface that goes on from another one of these (`take_over`) has its colours and its material
exactly if grid, hidden width and cube are the same; W3 then has the columns that both have, the
others are zero. Else colours are fitted where the surface is, and the material begins anew.

Source: Fantasia3D (Chen et al. 2023), section 3.3; ranges as threestudio's PBR material has them.
There bumps turn the normal in a frame of tangents, which needs texture coordinates; here they are
vectors of the world, which need none.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import ColorAt, Material
from dreamlab.representations.colors import fit_colors
from dreamlab.representations.features import CHUNK, FeatureConfig, HashFeatures


@dataclass(frozen=True, slots=True)
class MaterialConfig:
    """Settings of a material beside its albedo; pairs are (low, high)."""

    metallic: tuple[float, float] = (0.0, 0.9)
    """Range that is searched: 0 for plastic, paint or wood, 1 for a bare metal."""
    roughness: tuple[float, float] = (0.08, 0.9)
    """Range that is searched: 0 mirrors, 1 is matt."""
    bump: float = 0.0
    """Largest component of what bumps add to the unit normal; 0 leaves surfaces smooth."""

    def __post_init__(self) -> None:
        for name in ("metallic", "roughness"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise ValueError(
                    f"{name} must be a pair low <= high in [0, 1], got ({low}, {high})"
                )
        if self.bump < 0:
            raise ValueError(f"bump must not be negative, got {self.bump}")


@dataclass(frozen=True, slots=True)
class PaintConfig(FeatureConfig):
    """Settings of the hash grid that colours a surface, and of its material."""

    material: MaterialConfig | None = None
    """How the surface takes light, for physically based shading; `{}` for the usual ranges, unset
    for an albedo alone."""


class Painted(nn.Module, ABC):
    """Colours in the cube [-half_extent, half_extent]^3; satisfies `HasMaterial`, `Adopting`.

    A subclass has the shape: `become` and `take_shape`.
    """

    progress: Tensor
    spread: float
    """Distance from the surface within which colours are fitted (standard deviation), world units;
    set by the subclass."""

    def __init__(
        self, config: PaintConfig, half_extent: float, generator: torch.Generator | None
    ) -> None:
        """Start in mid-grey; `generator` (CPU) draws the features."""
        super().__init__()
        self.half_extent = half_extent
        self.features = HashFeatures(config, half_extent, generator)
        self.color_layers = self.features.build_network(3, generator)
        self.material_config = config.material
        self.material_layer: nn.Parameter | None = None
        if config.material is not None:
            outputs = 5 if config.material.bump > 0 else 2
            self.material_layer = nn.Parameter(torch.zeros(config.hidden_width, outputs))
        self.register_buffer("progress", torch.ones(()))
        self.register_load_state_dict_post_hook(_restore_progress)
        self.set_progress(1.0)

    def set_progress(self, progress: float) -> None:
        """Open levels of the hash grid for `progress` in [0, 1]."""
        self.progress.fill_(progress)
        self.features.set_progress(progress)

    def paint_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "table" and "mlp"."""
        mlp = [*self.color_layers, *([] if self.material_layer is None else [self.material_layer])]
        return {"table": [self.features.table], "mlp": mlp}

    def albedo(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; differentiable."""
        return self.features.read(self.color_layers, self.features(points)).sigmoid()

    @property
    def has_material(self) -> bool:
        """Whether there is more than an albedo."""
        return self.material_layer is not None

    def material(self, points: Float[Tensor, "points 3"]) -> Material:
        """Return the material at world points; differentiable; needs `has_material`."""
        config, layer = self.material_config, self.material_layer
        assert config is not None and layer is not None
        first, second = self.color_layers
        network = [first, torch.cat([second, layer], dim=1)]
        raw = self.features.read(network, self.features(points))
        return Material(
            albedo=raw[:, :3].sigmoid(),
            metallic=_between(config.metallic, raw[:, 3:4]),
            roughness=_between(config.roughness, raw[:, 4:5]),
            bump=config.bump * raw[:, 5:].tanh() if config.bump > 0 else None,
        )

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; no gradient."""
        return torch.cat([self.albedo(chunk) for chunk in points.split(CHUNK)])

    @abstractmethod
    def become(self, mesh: Mesh) -> None:
        """Take over the shape of a mesh in this cube."""

    @abstractmethod
    def take_shape(self, other: "Painted", mesh: Mesh) -> None:
        """Take over the shape of `other`, which is `mesh`, exactly if the settings allow it."""

    def adopt(self, mesh: Mesh, color_at: ColorAt) -> None:
        """Become a mesh, and fit its colours."""
        self.become(mesh)
        self._fit(mesh, color_at)

    def take_over(self, other: "Painted", mesh: Mesh) -> None:
        """Go on from another surface; what is exact is in the module docstring and `take_shape`.

        Args:
            other: the surface.
            mesh: its mesh.
        """
        self.take_shape(other, mesh)
        if self._is_read_as(other):
            self._copy_paint(other)
        else:
            self._fit(mesh, other.color_at)

    def _is_read_as(self, other: "Painted") -> bool:
        """Whether the tensors that colour `other` mean the same colours here."""
        mine, theirs = self.features.config, other.features.config
        return (mine.grid, mine.hidden_width, self.half_extent) == (
            theirs.grid,
            theirs.hidden_width,
            other.half_extent,
        )

    @torch.no_grad()
    def _copy_paint(self, other: "Painted") -> None:
        self.features.table.copy_(other.features.table)
        for mine, theirs in zip(self.color_layers, other.color_layers, strict=True):
            mine.copy_(theirs)
        if self.material_layer is not None and other.material_layer is not None:
            both = min(self.material_layer.shape[1], other.material_layer.shape[1])
            self.material_layer[:, :both] = other.material_layer[:, :both]

    def _fit(self, mesh: Mesh, color_at: ColorAt) -> None:
        parameters = [self.features.table, *self.color_layers]
        fit_colors(self.albedo, parameters, mesh, color_at, spread=self.spread)


def _between(limits: tuple[float, float], raw: Tensor) -> Tensor:
    low, high = limits
    return low + (high - low) * raw.sigmoid()


def _restore_progress(module: Painted, _: object) -> None:
    module.set_progress(float(module.progress))
