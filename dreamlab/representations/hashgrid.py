"""A radiance field on a multiresolution hash grid: the NeRF that most recipes optimise.

    density = act(W2 relu(W1 e) + blob(x)) act is softplus or trunc_exp
    colour  = sigmoid(V2 relu(V1 e))       sRGB albedo; it does not depend on the view
    normal  = -grad density / |grad density|

Glossary: `e` features of a point, `W`, `V` weights of the density and the colour network (see
`features`; they have no biases, so an untrained field is exactly the blob, in mid-grey),
`half_extent` h. Points are in world space; the field lives in the cube [-h, h]^3 and answers a
point outside as the nearest point of the cube, so renderers must not ask there.

Source: Müller et al. 2022 (instant-ngp); activations and blobs: see the files imported here.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.core.regions import Regions
from dreamlab.core.schedules import Scalar, check_within, value_at
from dreamlab.core.seeds import generator as seeded_generator
from dreamlab.ops.hashgrid.encode import hash_point_gradient
from dreamlab.representations.activations import DensityActivation, density_activation
from dreamlab.representations.blob import (
    Blob,
    blob_bias,
    blob_gradient,
    boxes_bias,
    boxes_gradient,
)
from dreamlab.representations.features import CHUNK, FeatureConfig, HashFeatures
from dreamlab.representations.normals import (
    NormalMethod,
    central_gradient,
    downhill,
    tetrahedral_gradient,
)


@dataclass(frozen=True, slots=True)
class Config(FeatureConfig):
    """Settings of the hash-grid field."""

    half_extent: float = 1.0
    """Half the side of the cube that the field lives in, world units."""
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
    normals: NormalMethod = "tetrahedral"
    """Derivative of the density: differences over normal_eps at 4 (tetrahedral) or 6 (central)
    points, which smooth, or analytic, which sees the finest level."""
    normal_eps: Scalar = 0.02
    """Distance of the finite differences, world units."""
    per_object: bool = False
    """Whether each object of a layout has a field of its own, with these settings, in a frame in
    which its box is where a single object would be; see `representations.composed`."""

    def __post_init__(self) -> None:
        FeatureConfig.__post_init__(self)
        if self.half_extent <= 0 or self.blob_radius <= 0:
            raise ValueError(
                f"half_extent and blob_radius must be positive, got {self.half_extent} and "
                f"{self.blob_radius}"
            )
        check_within("normal_eps", self.normal_eps, 0.0, strictly=True)
        check_within("density_noise", self.density_noise, 0.0)


class HashGridField(nn.Module):
    """Density and albedo on a hash grid; satisfies `Field` and `Representation`.

    Gradients: everything is differentiable to the parameters, analytic normals too. Density and
    colour are differentiable to the points.
    """

    progress: Tensor

    def __init__(self, config: Config, generator: torch.Generator | None = None) -> None:
        """Initialise the parameters; `generator` (CPU) makes that repeatable."""
        super().__init__()
        self.config = config
        self.half_extent = config.half_extent
        self.features = HashFeatures(config, config.half_extent, generator)
        self.density_layers = self.features.build_network(1, generator)
        self.color_layers = self.features.build_network(3, generator)
        self._activate = density_activation(config.activation)
        self._regions: Regions | None = None
        # A checkpoint of an unfinished stage must look as it looked in training, so progress is
        # part of the state; what follows from it is recomputed.
        self.register_buffer("progress", torch.ones(()))
        self.register_load_state_dict_post_hook(_restore_progress)
        self.set_progress(1.0)

    def begin_in(self, regions: Regions) -> None:
        """Have a ball of density in each box, stretched as the box is."""
        self._regions = regions

    def set_progress(self, progress: float) -> None:
        """Open levels, move schedules and restart the noise for `progress` in [0, 1].

        The density noise is a pure function of progress, so a resumed run repeats it.
        """
        self.progress.fill_(progress)
        self.features.set_progress(progress)
        self._eps = value_at(self.config.normal_eps, progress)
        self._noise = value_at(self.config.density_noise, progress)
        self._noise_generator = seeded_generator(0, "density noise", repr(progress))

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the groups "table" and "mlp"."""
        return {"table": [self.features.table], "mlp": [*self.density_layers, *self.color_layers]}

    def regularisers(self) -> dict[str, Float[Tensor, ""]]:
        """Return nothing: a hash grid has no useful prior of its own at these sizes."""
        return {}

    def density(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return the density at world points, 1 / world unit."""
        return self._activate(self._raw_density(points, self.features(points), noisy=True))

    def density_and_color(
        self, points: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points 3"]]:
        """Return the density and the albedo, sRGB in [0, 1], from one encoding."""
        encoding = self.features(points)
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
        return torch.cat([self._color(self.features(chunk)) for chunk in points.split(CHUNK)])

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
            -self.half_extent, self.half_extent, resolution, device=self.progress.device
        )
        slabs = (self._raw_slab(x, axis) for x in axis)
        return torch.stack([self._activate(slab) for slab in slabs])

    def _raw_slab(self, x: Tensor, axis: Tensor) -> Tensor:
        y, z = torch.meshgrid(axis, axis, indexing="ij")
        points = torch.stack([x.expand_as(y), y, z], dim=-1).reshape(-1, 3)
        raw = torch.cat([self._smooth_raw(chunk) for chunk in points.split(CHUNK)])
        return raw.reshape(y.shape)

    def _raw_density(self, points: Tensor, encoding: Tensor, *, noisy: bool) -> Tensor:
        config = self.config
        raw = self.features.read(self.density_layers, encoding)[:, 0]
        ball = (config.blob, points, config.blob_scale, config.blob_radius)
        in_boxes = self._regions
        raw = raw + (blob_bias(*ball) if in_boxes is None else boxes_bias(*ball, in_boxes))
        if noisy and self._noise > 0 and self.training and torch.is_grad_enabled():
            noise = torch.randn(raw.shape, generator=self._noise_generator)
            raw = raw + self._noise * noise.to(raw)
        return raw

    def _smooth_raw(self, points: Tensor) -> Tensor:
        return self._raw_density(points, self.features(points), noisy=False)

    def _analytic_gradient(self, points: Tensor) -> Tensor:
        """Return the gradient of the raw density, by the chain rule through the encoding.

        The network is piecewise linear, so d raw / d e = W1 (W2 where the unit is active), and
        that mask is constant almost everywhere.
        """
        config = self.config
        first, second = self.density_layers
        first = self.features.level_weights[:, None] * first
        with torch.no_grad():
            active = self.features(points) @ first > 0
        to_encoding = (active * second[:, 0]) @ first.T
        to_unit = hash_point_gradient(
            self.features.to_unit(points),
            self.features.table,
            to_encoding,
            self.features.layout,
            backend=config.backend,
        )
        ball = (config.blob, points, config.blob_scale, config.blob_radius)
        in_boxes = self._regions
        blob = blob_gradient(*ball) if in_boxes is None else boxes_gradient(*ball, in_boxes)
        return to_unit * (0.5 / self.half_extent) + blob

    def _color(self, encoding: Tensor) -> Tensor:
        return torch.sigmoid(self.features.read(self.color_layers, encoding))


def build(config: Config, generator: torch.Generator | None = None) -> HashGridField:
    """Make the field; `generator` (CPU) draws its initial parameters."""
    return HashGridField(config, generator)


def _restore_progress(module: HashGridField, _: object) -> None:
    module.set_progress(float(module.progress))
