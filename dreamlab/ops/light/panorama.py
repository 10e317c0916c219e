"""Functions of a direction, kept as pictures of the whole sphere.

Row i of H rows lies at the angle theta = (i + 1/2) pi / H from +z, column j of 2 H columns at the
azimuth phi = (j + 1/2) pi / H - pi, which is 0 on +x and 90 degrees on +y.

    (k * L)(n) = integral k(n . l) L(l) dl / integral k(n . l) dl

Glossary: `L` radiance, `n` and `l` unit vectors in world space, `k` kernel, a function of the
cosine between them; `dl` solid angle. A kernel depends on two rows and on the difference of two
columns alone, so along the rows the convolution is a product of Fourier transforms: an exact sum
over all texels, without samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

Kernel = Callable[[Tensor], Tensor]
"""Weight, >= 0, by the cosine of the angle between two directions."""
POLE = 1e-6
"""Distance from the z axis, of a unit vector, within which its azimuth has no gradient."""


def directions(height: int) -> Float[Tensor, "height width 3"]:
    """Return the unit vector of every texel, in double precision."""
    theta = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    phi = (torch.arange(2 * height, dtype=torch.float64) + 0.5) * (math.pi / height) - math.pi
    theta, phi = torch.meshgrid(theta, phi, indexing="ij")
    sine = theta.sin()
    return torch.stack([sine * phi.cos(), sine * phi.sin(), theta.cos()], dim=-1)


def solid_angles(height: int) -> Float[Tensor, "height 1"]:
    """Return the solid angle of a texel in each row; over all texels they add up to 4 pi."""
    borders = (torch.arange(height + 1, dtype=torch.float64) * (math.pi / height)).cos()
    return (borders[:-1] - borders[1:])[:, None] * (math.pi / height)


def convolve(
    radiance: Float[Tensor, "height width channels"], kernel: Kernel
) -> Float[Tensor, "height width channels"]:
    """Return k * L of the module docstring; a constant stays what it is."""
    height = len(radiance)
    weights = _kernel_by_rows(height, kernel) * solid_angles(height)
    total = weights.sum(dim=(1, 2))[:, None, None]
    spectrum = torch.fft.rfft(radiance.double(), dim=1)
    # the kernel is even in the difference of columns, so its transform is real
    response = torch.fft.rfft(weights, dim=2).real
    blurred = torch.einsum("ijf,jfc->ifc", response.to(spectrum.dtype), spectrum)
    return (torch.fft.irfft(blurred, n=2 * height, dim=1) / total).to(radiance.dtype)


def _kernel_by_rows(height: int, kernel: Kernel) -> Float[Tensor, "height height width"]:
    """Return the kernel between row i and row j, by the difference of their columns."""
    theta = (torch.arange(height, dtype=torch.float64) + 0.5) * (math.pi / height)
    turn = torch.arange(height + 1, dtype=torch.float64) * (math.pi / height)
    along = theta.cos()[:, None] * theta.cos()
    across = theta.sin()[:, None] * theta.sin()
    half = kernel((along[..., None] + across[..., None] * turn.cos()).clamp(-1, 1))
    return torch.cat([half, half[..., 1:-1].flip(-1)], dim=-1)


@dataclass(frozen=True)
class Panorama:
    """A stack of pictures of the sphere that can be looked up anywhere."""

    picture: Float[Tensor, "1 channels levels height padded_width"]
    """The levels, with one column of the other end on either side."""

    @classmethod
    def of(cls, levels: Float[Tensor, "levels height width channels"]) -> "Panorama":
        """Make one of pictures of the same size."""
        wrapped = torch.cat([levels[:, :, -1:], levels, levels[:, :, :1]], dim=2)
        return cls(wrapped.permute(3, 0, 1, 2)[None].contiguous())

    def to(self, like: Tensor) -> "Panorama":
        """Return it on the device and in the precision of a tensor."""
        return Panorama(self.picture.to(like))

    def at(
        self,
        direction: Float[Tensor, "points 3"],
        level: Float[Tensor, " points"] | None = None,
    ) -> Float[Tensor, "points channels"]:
        """Return the value in some directions, linear between texels and between levels.

        Args:
            direction: unit vectors, world space.
            level: in [0, levels - 1]; None: 0.

        Gradients: to the direction (none around the axis at the poles) and the level.
        """
        _, channels, levels, height, padded = self.picture.shape
        x, y, z = direction.unbind(dim=1)
        is_pole = x.square() + y.square() < POLE**2
        x = torch.where(is_pole, POLE, x)
        theta = torch.atan2((x.square() + y.square()).sqrt(), z)
        phi = torch.atan2(y, x)
        column = (phi + math.pi) * (height / math.pi) + 0.5  # 0 is the centre of the added one
        row = theta * (height / math.pi) - 0.5
        third = torch.zeros_like(x) if level is None else level
        last = x.new_tensor([padded - 1, height - 1, max(1, levels - 1)])
        grid = 2 * torch.stack([column, row, third], dim=1) / last - 1
        found = grid_sample(
            self.picture,
            grid.reshape(1, 1, 1, -1, 3),
            mode="bilinear",
            padding_mode="border",
            align_corners=True,
        )
        return found.reshape(channels, -1).T
