"""Plain-torch compositing: the definition of what `composite` returns.

Glossary and formulas are those of `dreamlab.ops.volume.composite`. Samples are padded to a matrix
of rays by strata; any float type, derivatives of any order by autograd.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.ops.volume.march import Samples


def accumulate(
    density: Float[Tensor, " samples"],
    features: Float[Tensor, "samples channels"],
    samples: Samples,
    early_stop: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite samples; see `dreamlab.ops.volume.composite.composite`."""
    num_rays, ray = samples.num_rays, samples.ray_index.long()
    place = torch.arange(len(ray), device=ray.device) - samples.offsets.long()[ray]
    length = int(place.max()) + 1 if len(ray) else 0
    optical = density.new_zeros(num_rays, length)
    optical = optical.index_put((ray, place), density * (samples.t_end - samples.t_start))
    # Shifting the sum is exact; subtracting a large last term from it would not be.
    before = torch.nn.functional.pad(optical.cumsum(dim=1), (1, 0))[:, :-1]
    transmittance = torch.exp(-before)
    weights = torch.where(transmittance >= early_stop, transmittance * -torch.expm1(-optical), 0.0)[
        ray, place
    ]

    def total(values: Tensor) -> Tensor:
        return values.new_zeros(num_rays, *values.shape[1:]).index_add(0, ray, values)

    depth = total(weights * samples.t_mid)
    return total(weights[:, None] * features), total(weights), depth, weights
