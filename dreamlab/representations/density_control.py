"""Density control: where Gaussians are added, moved and removed while they are optimised.

Every few steps from `begin` to `end` of the stage, in this order, and until `prune_until` the first
alone:

    prune      the living below an opacity, or larger than a share of the cube, die;
    grow       of the living, the share with the largest mean gradient on the screen gets company:
               a small one is cloned, a large one split into two that are smaller by 1.6 and lie at
               random within it;
    relocate   as many dead ones instead join living ones drawn by opacity, n copies in one place
               being made weaker and smaller so that together they look as one did:

                   o' = 1 - (1 - o)^(1/n),   s' = s o / sum_{i<=n} sum_{k<i} C(i-1, k) (-1)^k
                                                  o'^(k+1) / sqrt(k + 1).

A share of the largest gradients, instead of a threshold, needs no knowledge of the loss's scale:
published thresholds differ by a factor of 10,000. All kinds share one budget, `max_count`.

Sources: Kerbl et al. 2023, section 5 (clone, split, prune); Kheradmand et al. 2024 (relocation),
equation 9; Liu et al. 2024 (HumanGaussian), a last phase that prunes alone.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from dreamlab.ops.splat.project import rotation_matrices

if TYPE_CHECKING:
    from dreamlab.representations.gaussians import Gaussians

SPLIT_SHRINK = 1.6
"""Factor by which the halves of a split Gaussian are smaller (Kerbl et al. 2023)."""
MAX_COPIES = 8
"""Most Gaussians that relocation puts in one place in one round."""


@dataclass(frozen=True, slots=True)
class Control:
    """Settings of density control."""

    name: Literal["grow", "relocate", "prune", "none"] = "grow"
    """What happens beside pruning: growth by gradient, relocation of what was pruned, or nothing;
    none does not even prune."""
    begin: float = 0.1
    """Fraction of the stage at which it begins."""
    end: float = 0.8
    """Fraction of the stage at which growth and relocation end."""
    prune_until: float = 0.0
    """Fraction of the stage at which pruning ends; up to `end` it goes along in any case."""
    every: int = 50
    """Steps between two rounds."""
    share: float = 0.1
    """Share of the living that get company in a round of growth."""
    split_above: float = 0.03
    """Gaussians with a larger standard deviation are split, others cloned; world units."""
    min_opacity: float = 0.02
    """Fainter Gaussians are pruned."""
    max_scale: float = 0.3
    """Gaussians with a larger standard deviation are pruned; world units."""

    def __post_init__(self) -> None:
        if not 0 <= self.begin <= self.end <= 1:
            raise ValueError(
                f"begin and end must rise within [0, 1], got {self.begin} and {self.end}"
            )
        if not 0 <= self.prune_until <= 1:
            raise ValueError(f"prune_until must be in [0, 1], got {self.prune_until}")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, got {self.every}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")
        if not 0 <= self.min_opacity < 1 or self.max_scale <= 0 or self.split_above <= 0:
            raise ValueError("min_opacity must be in [0, 1), max_scale and split_above positive")


class DensityControl(nn.Module):
    """What was observed since the last round; part of a checkpoint."""

    gradient_sum: Tensor
    times_seen: Tensor

    def __init__(self, config: Control, room: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("gradient_sum", torch.zeros(room))
        self.register_buffer("times_seen", torch.zeros(room))

    def observe(
        self,
        rows: Int[Tensor, " living"],
        gradient: Float[Tensor, " living"],
        seen: Bool[Tensor, " living"],
    ) -> None:
        """Add the lengths of the living Gaussians' gradients on the screen."""
        self.gradient_sum[rows] += gradient.detach() * seen
        self.times_seen[rows] += seen

    def refine(
        self, gaussians: "Gaussians", step: int, progress: float, generator: torch.Generator
    ) -> Int[Tensor, " rows"]:
        """Do a round if it is due at `step`; return the rows that are new or changed places."""
        config = self.config
        none = torch.zeros(0, dtype=torch.int64, device=gaussians.mean.device)
        last = max(config.end, config.prune_until)
        is_due = step > 0 and step % config.every == 0 and config.begin <= progress <= last
        if config.name == "none" or not is_due:
            return none
        self._prune(gaussians)
        if progress > config.end:
            return none
        free = torch.nonzero(~gaussians.alive)[:, 0]
        free = free[: math.ceil(config.share * int(gaussians.alive.sum()))]
        changed = none
        if config.name == "grow":
            changed = self._grow(gaussians, free, generator)
        elif config.name == "relocate":
            changed = relocate(gaussians, free, generator)
        self.gradient_sum.zero_()
        self.times_seen.zero_()
        return changed

    def _prune(self, gaussians: "Gaussians") -> None:
        """Let faint and huge Gaussians die, but never all."""
        opacity = gaussians.opacity_logit.sigmoid()
        largest = gaussians.log_scale.exp().amax(dim=1)
        bad = (opacity < self.config.min_opacity) | (largest > self.config.max_scale)
        bad &= gaussians.alive
        if bool((bad == gaussians.alive).all()):
            bad[opacity.where(gaussians.alive, -1.0).argmax()] = False
        gaussians.alive &= ~bad

    def _grow(
        self, gaussians: "Gaussians", free: Int[Tensor, " free"], generator: torch.Generator
    ) -> Int[Tensor, " rows"]:
        """Clone or split the living with the largest gradients into the free rows."""
        mean_gradient = self.gradient_sum / self.times_seen.clamp(min=1)
        mean_gradient = mean_gradient.where(gaussians.alive, -1.0)
        parents = mean_gradient.topk(len(free)).indices
        parents = parents[mean_gradient[parents] > 0]
        children = free[: len(parents)]
        for parameter in gaussians.parameters():
            parameter[children] = parameter[parents]
        gaussians.alive[children] = True
        splits = gaussians.log_scale[parents].exp().amax(dim=1) > self.config.split_above
        both = torch.cat([parents[splits], children[splits]])
        _scatter(gaussians, both, generator)
        gaussians.log_scale[both] -= math.log(SPLIT_SHRINK)
        return torch.cat([children, parents[splits]])


def _scatter(gaussians: "Gaussians", rows: Tensor, generator: torch.Generator) -> None:
    """Move Gaussians to random places within themselves."""
    random = torch.randn(len(rows), 3, generator=generator).to(gaussians.mean)
    along = random * gaussians.log_scale[rows].exp()
    gaussians.mean[rows] += torch.einsum(
        "nij,nj->ni", rotation_matrices(gaussians.quaternion[rows]), along
    )


def relocate(
    gaussians: "Gaussians", dead: Int[Tensor, " rows"], generator: torch.Generator
) -> Int[Tensor, " changed"]:
    """Bring dead Gaussians to living ones drawn by opacity; return all rows that changed."""
    if len(dead) == 0:
        return dead
    opacity = gaussians.opacity_logit.sigmoid()
    chance = opacity.where(gaussians.alive, 0.0).cpu()
    hosts = torch.multinomial(chance, len(dead), replacement=True, generator=generator)
    hosts = hosts.to(dead.device)
    copies = 1 + torch.bincount(hosts, minlength=len(opacity)).clamp(max=MAX_COPIES - 1)
    touched = hosts.unique()
    o, shrink = share_out(opacity[touched], copies[touched])
    gaussians.opacity_logit[touched] = o.clamp(1e-4, 1 - 1e-4).logit()
    gaussians.log_scale[touched] += shrink.log()[:, None]
    for parameter in gaussians.parameters():
        parameter[dead] = parameter[hosts]
    gaussians.alive[dead] = True
    return torch.cat([touched, dead])


def share_out(
    opacity: Float[Tensor, " n"], copies: Int[Tensor, " n"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return o' and s' / s of the module docstring for numbers of copies up to `MAX_COPIES`."""
    new = 1 - (1 - opacity) ** (1 / copies)
    total = torch.zeros_like(opacity)
    for i in range(1, MAX_COPIES + 1):
        term = sum(
            math.comb(i - 1, k) * (-1) ** k * new ** (k + 1) / math.sqrt(k + 1) for k in range(i)
        )
        total = total + (copies >= i) * term
    return new, opacity / total
