"""The prior as a stage's rule sees it: with the way back through the encoder that the stage names.

See `guidance/encoder_gradient.py` for the ways.
Source: Pan et al., Enhancing High-Resolution 3D Generation through Pixel-wise Gradient Clipping
(2024), figure 2.
"""

from dreamlab.core.errors import InputError
from dreamlab.core.protocols import Latent
from dreamlab.guidance.encoder_gradient import with_latents, with_linear_backward
from dreamlab.priors.base import Prior
from dreamlab.systems.stage import Stage


def prior_of(stage: Stage, prior: Prior) -> Prior:
    """Return the prior for the rule of a stage; latents of the stage get the prior's decoder.

    Raises:
        InputError: the stage's latents are not of the prior's shape.
    """
    representation, config = stage.representation, stage.config
    if isinstance(representation, Latent):
        _check_shape(stage.name, representation, prior)
        representation.connect(prior.decode)
        return with_latents(prior, lambda: representation.latents)
    return with_linear_backward(prior) if config.encoder_gradient == "linear" else prior


def _check_shape(name: str, representation: Latent, prior: Prior) -> None:
    side = prior.latent_size
    got, wanted = representation.latents.shape[1:], (prior.latent_channels, side, side)
    if tuple(got) != wanted:
        raise InputError(
            f"stage {name!r} holds latents of shape {tuple(got)}, those of the model "
            f"{prior.name!r} have {wanted}.",
            f"set stages.{name}.representation.channels={wanted[0]}, .latent_size={side} and "
            f".size={prior.image_size}.",
        )
