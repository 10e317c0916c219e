"""A second model beside the prior, whose network learns: on the same latents and the same noise.

A score can only be set against another if both are about the same z_t. So the second model must
agree with the prior in

    E(x)                      the latents of a picture, their scale included
    alpha(t), sigma(t)        the noise at every time

It may predict something else (noise, velocity, ...) and read texts by another encoder.
"""

import torch

from dreamlab.core.errors import InputError
from dreamlab.priors.base import Prior
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.memory import Rung, rungs_of
from dreamlab.priors.traits import Traits, traits_of

TIMES = 21
"""Times, from 0 to 1, at which noise levels are compared."""
NOISE_TOLERANCE = 1e-3
LATENT_TOLERANCE = 0.02
"""Root mean square of the difference of latents over that of latents; float16 makes some."""


def load_learner(name: str, prior: Prior) -> Prior:
    """Load a model to learn beside `prior`, on its device; the autoencoder is shared.

    It takes the prior's rungs of the memory ladder, which were counted for both.

    Args:
        name: an alias, a folder or a hub id.
        prior: that it must agree with.

    Raises:
        InputError: the name is unknown, or the model does not agree with the prior.
        MissingError: it cannot be had.
    """
    rungs: list[Rung] = [rung for rung in rungs_of(prior) if rung != "cpu_offload"]
    config = PriorConfig(name, image_size=prior.image_size, memory=rungs)
    learner = load_prior(config, prior.device)
    check_agreement(prior, learner)
    if isinstance(prior, DiffusionPrior) and isinstance(learner, DiffusionPrior):
        learner.space = prior.space
    return learner


@torch.no_grad()
def check_agreement(prior: Prior, learner: Prior) -> None:
    """Refuse a model with other latents or other noise than the prior's.

    Raises:
        InputError: saying which.
    """
    check_latents(traits_of(prior), traits_of(learner))
    if _noise_difference(prior, learner) > NOISE_TOLERANCE:
        raise _disagreement(prior, learner, f"its noise levels are not those of {prior.name}")
    if _latent_difference(prior, learner) > LATENT_TOLERANCE:
        raise _disagreement(prior, learner, f"its autoencoder is not that of {prior.name}")


def check_latents(prior: Traits, learner: Traits) -> None:
    """Refuse a model that judges other latents, or more of them at once, as far as is known.

    Raises:
        InputError: saying how they differ.
    """
    if learner.num_views not in (None, 1, prior.num_views) and prior.num_views is not None:
        problem = f"it judges {learner.num_views} views of an object at once"
        raise _disagreement(prior, learner, problem)
    shapes = [(each.latent_channels, each.latent_size) for each in (prior, learner)]
    (channels, size), (other_channels, other_size) = shapes
    if None not in (*shapes[0], *shapes[1]) and shapes[0] != shapes[1]:
        problem = (
            f"its latents are {other_size}x{other_size} of {other_channels} channels, those of "
            f"{prior.name} {size}x{size} of {channels}"
        )
        raise _disagreement(prior, learner, problem)


def _disagreement(prior: Prior | Traits, learner: Prior | Traits, problem: str) -> InputError:
    return InputError(
        f"the model {learner.name} cannot learn beside {prior.name}: {problem}.",
        "choose one of the same autoencoder and noise schedule, or leave learned_model out.",
    )


def _noise_difference(prior: Prior, learner: Prior) -> float:
    t = torch.linspace(0, 1, TIMES, device=prior.device)
    pairs = zip(prior.alpha_sigma(t), learner.alpha_sigma(t), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def _latent_difference(prior: Prior, learner: Prior) -> float:
    """Compare the latents of a picture that has all frequencies and colours in it."""
    side = prior.image_size
    picture = torch.rand(1, side, side, 3, generator=torch.Generator().manual_seed(0))
    own, other = (
        each.encode_image(picture.to(prior.device), None).float() for each in (prior, learner)
    )
    return float((own - other).square().mean().sqrt() / own.square().mean().sqrt())
