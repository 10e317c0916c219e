"""The prior as a stage's rule sees it: with the way back through the encoder that the stage names.

See `guidance/encoder_gradient.py` for the ways.
Source: Pan et al., Enhancing High-Resolution 3D Generation through Pixel-wise Gradient Clipping
(2024), figure 2.
"""

from dreamlab.core.protocols import Latent
from dreamlab.guidance.encoder_gradient import with_latents, with_linear_backward
from dreamlab.priors.base import Prior
from dreamlab.priors.traits import traits_of
from dreamlab.systems.prior_fit import check_latent_shape
from dreamlab.systems.stage import Stage


def prior_of(stage: Stage, prior: Prior) -> Prior:
    """Return the prior for the rule of a stage; latents of the stage get the prior's decoder.

    Raises:
        InputError: the stage's latents are not of the prior's shape.
    """
    representation, config = stage.representation, stage.config
    if isinstance(representation, Latent):
        check_latent_shape(stage.name, representation, traits_of(prior))
        representation.connect(prior.decode)
        return with_latents(prior, lambda: representation.latents)
    return with_linear_backward(prior) if config.encoder_gradient == "linear" else prior
