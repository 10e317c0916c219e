"""A radiance field on a multiresolution hash grid: the NeRF that most recipes optimise.

    e = encode(x)                          hash grid, levels x features numbers
    density = act(W2 relu(W1 e) + blob(x)) act is softplus or trunc_exp
    colour  = sigmoid(V2 relu(V1 e))       sRGB albedo; it does not depend on the view
    normal  = -grad density / |grad density|

Glossary: `e` encoding, `W`, `V` weights of the density and the colour network (no biases, so an
untrained field is exactly the blob, in mid-grey), `half_extent` h. Points are in world space; the
field lives in the cube [-h, h]^3 and answers a point outside as the nearest point of the cube, so
renderers must not ask there.

Progressive levels: while they open, level k is weighted by clamp(open - k, 0, 1), where `open`
grows linearly from `start_level` to all levels at progress `all_levels_at`. The weights multiply
the rows of the first layer instead of the encodings, which is the same and costs nothing.

Source: Müller et al. 2022 (instant-ngp); activations and blobs: see the files imported here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.schedules import Scalar, value_at
from dreamlab.core.seeds import generator as seeded_generator
from dreamlab.ops.backends import Backend
from dreamlab.ops.hashgrid.encode import (
    HashGridConfig,
    HashGridLayout,
    hash_encode,
    hash_point_gradient,
)
from dreamlab.representations.activations import DensityActivation, density_activation
from dreamlab.representations.blob import Blob, blob_bias, blob_gradient
from dreamlab.representations.normals import (
    NormalMethod,
    central_gradient,
    downhill,
    tetrahedral_gradient,
)

TABLE_SPREAD = 1e-4
"""Table entries start uniform in [-1e-4, 1e-4] (instant-ngp, section 4)."""
CHUNK = 1 << 17
"""Points evaluated at once where no gradient is needed; bounds memory to about 100 MB."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of the hash-grid field."""

    grid: HashGridConfig = field(default_factory=HashGridConfig)
    """Shape of the hash grid."""
    half_extent: float = 1.0
    """Half the side of the cube that the field lives in, world units."""
    hidden_width: int = 32
    """Width of the one hidden layer of the density and of the colour network."""
    activation: DensityActivation = "softplus"
    """How the raw output becomes a density."""
    blob: Blob = "linear"
    """Ball of density to start from: gaussian (DreamFusion), linear (Magic3D) or none."""
    blob_scale: float = 10.0
    """Raw density at the centre of the ball; negative makes a hollow (for scenes)."""
    blob_radius: float = 0.5
    """Radius of the ball, world units."""
    density_noise: Scalar = 0.0
    """Standard deviation of normal noise added to the raw density in training; clears fog."""
    start_level: int = 4
    """Number of levels that are open at first; matters only if all_levels_at is above 0."""
    all_levels_at: float = 0.0
    """Fraction of the stage at which all levels are open."""
    normals: NormalMethod = "tetrahedral"
    """Derivative of the density: differences over normal_eps at 4 (tetrahedral) or 6 (central)
    points, which smooth, or analytic, which sees the finest level."""
    normal_eps: Scalar = 0.02
    """Distance of the finite differences, world units."""
    backend: Backend = "auto"
    """Which kernel evaluates the hash grid."""

    def __post_init__(self) -> None:
        if self.half_extent <= 0 or self.blob_radius <= 0:
            raise ValueError(
                f"half_extent and blob_radius must be positive, got {self.half_extent} and "
                f"{self.blob_radius}"
            )
        for progress in (0.0, 1.0):
            if value_at(self.normal_eps, progress) <= 0:
                raise ValueError(f"normal_eps must stay positive, got {self.normal_eps}")
            if value_at(self.density_noise, progress) < 0:
                raise ValueError(f"density_noise must stay >= 0, got {self.density_noise}")
        if self.hidden_width < 1:
            raise ValueError(f"hidden_width must be at least 1, got {self.hidden_width}")
        if not 0 <= self.all_levels_at <= 1:
            raise ValueError(f"all_levels_at must be in [0, 1], got {self.all_levels_at}")
        if self.all_levels_at > 0 and not 1 <= self.start_level <= self.grid.num_levels:
            raise ValueError(
                f"start_level must be in [1, {self.grid.num_levels}] (the number of levels), got "
                f"{self.start_level}"
            )


class HashGridField(nn.Module):
    """Density and albedo on a hash grid; satisfies `Field` and `Representation`.

    Gradients: everything is differentiable to the parameters, analytic normals too. Density and
    colour are differentiable to the points.
    """

    progress: Tensor
    level_weights: Tensor

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        """Initialise the parameters; `generator` (CPU) makes that repeatable."""
        super().__init__()
        self.config = config
        self.half_extent = config.half_extent
        self.layout = HashGridLayout.of(config.grid)
        outputs, width = self.layout.num_outputs, config.hidden_width
        shape = (self.layout.num_entries, config.grid.num_features)
        self.table = nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * TABLE_SPREAD)
        self.density_layers = nn.ParameterList(_weights((outputs, width, 1), generator))
        self.color_layers = nn.ParameterList(_weights((outputs, width, 3), generator))
        self._activate = density_activation(config.activation)
        # A checkpoint of an unfinished stage must look as it looked in training, so progress is
        # part of the state; what follows from it is recomputed.
        self.register_buffer("progress", torch.ones(()))
        self.register_buffer("level_weights", torch.ones(outputs), persistent=False)
        self.register_load_state_dict_post_hook(_restore_progress)
        self.set_progress(1.0)

    def set_progress(self, progress: float) -> None:
        """Open levels, move schedules and restart the noise for `progress` in [0, 1].

        The density noise is a pure function of progress, so a resumed run repeats it.
        """
        grid, config = self.config.grid, self.config
        self.progress.fill_(progress)
        done = 1.0 if progress >= config.all_levels_at else progress / config.all_levels_at
        num_open = config.start_level + (grid.num_levels - config.start_level) * done
        weights = (num_open - torch.arange(grid.num_levels)).clamp(0, 1)
        self.level_weights.copy_(weights.repeat_interleave(grid.num_features))
        self._eps = value_at(config.normal_eps, progress)
        self._noise = value_at(config.density_noise, progress)
        self._noise_generator = seeded_generator(0, "density noise", repr(progress))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "table" and "mlp"."""
        return {"table": [self.table], "mlp": [*self.density_layers, *self.color_layers]}

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return nothing: a hash grid has no useful prior of its own at these sizes."""
        return {}

    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return the density at world points, 1 / world unit."""
        return self._activate(self._raw_density(points, self._encode(points), noisy=True))

    def density_and_color(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Return the density and the albedo, sRGB in [0, 1], from one encoding."""
        encoding = self._encode(points)
        density = self._activate(self._raw_density(points, encoding, noisy=True))
        return density, self._color(encoding)

    def normal(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return unit normals by the configured method.

        The raw density is differentiated: its gradient has the direction of the density's, since
        activations increase, and does not vanish where the density saturates.
        """
        if self.config.normals == "analytic":
            gradient = self._analytic_gradient(points)
        elif self.config.normals == "central":
            gradient = central_gradient(self._smooth_raw, points, self._eps)
        else:
            gradient = tetrahedral_gradient(self._smooth_raw, points, self._eps)
        return downhill(gradient)

    @torch.no_grad()
    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the albedo, sRGB in [0, 1], at world points; no gradient."""
        return torch.cat([self._color(self._encode(chunk)) for chunk in points.split(CHUNK)])

    @torch.no_grad()
    def density_grid(self, resolution: int) -> Float[Tensor, "resolution resolution resolution"]:
        """Sample the density at `resolution`^3 nodes that span the cube, axes in order x, y, z.

        The first and the last node of an axis lie on the faces of the cube. No gradient.

        Raises:
            InputError: fewer than 2 nodes an axis.
        """
        if resolution < 2:
            raise InputError(f"resolution must be at least 2, got {resolution}.", "raise it.")
        axis = torch.linspace(
            -self.half_extent, self.half_extent, resolution, device=self.table.device
        )
        slabs = (self._raw_slab(x, axis) for x in axis)
        return torch.stack([self._activate(slab) for slab in slabs])

    def _raw_slab(self, x: Tensor, axis: Tensor) -> Tensor:
        y, z = torch.meshgrid(axis, axis, indexing="ij")
        points = torch.stack([x.expand_as(y), y, z], dim=-1).reshape(-1, 3)
        raw = torch.cat([self._smooth_raw(chunk) for chunk in points.split(CHUNK)])
        return raw.reshape(y.shape)

    def _unit(self, points: Tensor) -> Tensor:
        return (points * (0.5 / self.half_extent) + 0.5).clamp(0, 1)

    def _encode(self, points: Tensor) -> Tensor:
        backend = self.config.backend
        return hash_encode(self._unit(points), self.table, self.layout, backend=backend)

    def _raw_density(self, points: Tensor, encoding: Tensor, *, noisy: bool) -> Tensor:
        config = self.config
        raw = self._perceptron(encoding, self.density_layers)[:, 0]
        raw = raw + blob_bias(config.blob, points, config.blob_scale, config.blob_radius)
        if noisy and self._noise > 0 and self.training and torch.is_grad_enabled():
            noise = torch.randn(raw.shape, generator=self._noise_generator)
            raw = raw + self._noise * noise.to(raw)
        return raw

    def _smooth_raw(self, points: Tensor) -> Tensor:
        return self._raw_density(points, self._encode(points), noisy=False)

    def _analytic_gradient(self, points: Tensor) -> Tensor:
        """Return the gradient of the raw density, by the chain rule through the encoding.

        The network is piecewise linear, so d raw / d e = W1 (W2 where the unit is active), and
        that mask is constant almost everywhere.
        """
        config = self.config
        first, second = self.density_layers
        first = self.level_weights[:, None] * first
        with torch.no_grad():
            active = self._encode(points) @ first > 0
        to_encoding = (active * second[:, 0]) @ first.T
        to_unit = hash_point_gradient(
            self._unit(points), self.table, to_encoding, self.layout, backend=config.backend
        )
        blob = blob_gradient(config.blob, points, config.blob_scale, config.blob_radius)
        return to_unit * (0.5 / self.half_extent) + blob

    def _color(self, encoding: Tensor) -> Tensor:
        return torch.sigmoid(self._perceptron(encoding, self.color_layers))

    def _perceptron(self, encoding: Tensor, layers: nn.ParameterList) -> Tensor:
        first, second = layers
        return (encoding @ (self.level_weights[:, None] * first)).relu_() @ second


def build(config: Config, generator: torch.Generator | None = None) -> HashGridField:
    """Make the field; `generator` (CPU) draws its initial parameters."""
    return HashGridField(config, generator)


def _weights(widths: tuple[int, ...], generator: torch.Generator | None) -> Iterator[nn.Parameter]:
    """Draw weight matrices, uniform in +-1/sqrt(inputs), as `nn.Linear` does."""
    for inputs, outputs in pairwise(widths):
        uniform = torch.rand(inputs, outputs, generator=generator) * 2 - 1
        yield nn.Parameter(uniform / inputs**0.5)


def _restore_progress(module: HashGridField, _: object) -> None:
    module.set_progress(float(module.progress))
