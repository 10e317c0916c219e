"""What mesh representations share: colours of a surface from features on a hash grid.

albedo(x) = sigmoid(W2 relu(W1 e(x)))     sRGB, hash-grid features e
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import ColorAt
from dreamlab.representations.colors import fit_colors
from dreamlab.representations.features import CHUNK, FeatureConfig, HashFeatures


class Painted(nn.Module):
    """Colours in the cube [-half_extent, half_extent]^3."""

    progress: Tensor

    def __init__(
        self, config: FeatureConfig, half_extent: float, generator: torch.Generator | None
    ) -> None:
        """Start in mid-grey; `generator` (CPU) draws the features."""
        super().__init__()
        self.half_extent = half_extent
        self.features = HashFeatures(config, half_extent, generator)
        self.color_layers = self.features.build_network(3, generator)
        self.register_buffer("progress", torch.ones(()))
        self.register_load_state_dict_post_hook(_restore_progress)
        self.set_progress(1.0)

    def set_progress(self, progress: float) -> None:
        """Open levels of the hash grid for `progress` in [0, 1]."""
        self.progress.fill_(progress)
        self.features.set_progress(progress)

    def paint_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "table" and "mlp"."""
        return {"table": [self.features.table], "mlp": list(self.color_layers)}

    def albedo(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; differentiable."""
        return self.features.read(self.color_layers, self.features(points)).sigmoid()

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo at world points, sRGB in [0, 1]; no gradient."""
        return torch.cat([self.albedo(chunk) for chunk in points.split(CHUNK)])

    def paint_like(self, mesh: Mesh, color_at: ColorAt, *, spread: float) -> None:
        """Fit the colours within about `spread` (world units) of a surface."""
        parameters = [self.features.table, *self.color_layers]
        fit_colors(self.albedo, parameters, mesh, color_at, spread=spread)


def _restore_progress(module: Painted, _: object) -> None:
    module.set_progress(float(module.progress))
