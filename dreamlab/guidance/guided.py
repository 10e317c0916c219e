"""The guided noise prediction: classifier-free guidance, Perp-Neg and rescaling in one U-Net call.

Classifier-free guidance is written as diffusers writes it, eh = e_0 + s (e_y - e_0), so s = 1 is
the plain conditional prediction. Code that computes e_y + s (e_y - e_0) instead (threestudio's SDS,
PGC-3D, SemanticSDS) means s + 1: its 100 is 101 here. e_0 belongs to the negative prompt, which is
the empty one if none was given.
"""

from jaxtyping import Float
from torch import Tensor

from dreamlab.guidance.base import compose, predict_scores
from dreamlab.guidance.perp_neg import away_direction
from dreamlab.guidance.prompts import ViewConditionings
from dreamlab.priors.base import Latents, Prior


def guided_noise(
    prior: Prior,
    noisy: Latents,
    t: Float[Tensor, " batch"],
    conditionings: ViewConditionings,
    *,
    scale: float,
    cfg_rescale: float = 0.0,
) -> Latents:
    """Return eh = e_0 + s (e_y - e_0 + sum_i w_i perp(e_i - e_0, e_y - e_0)), then rescaled.

    Args:
        prior: the diffusion model.
        noisy: z_t.
        t: times, one a view.
        conditionings: what the prior is told about each view; without wrong views the sum is empty.
        scale: s.
        cfg_rescale: strength of `rescale`, in [0, 1].
    """
    groups = {name: getattr(conditionings, name) for name in ("positive", "negative", "away")}
    scores = predict_scores(prior, noisy, t, groups)
    guided = compose(scores, {"positive": scale, "negative": 1 - scale})
    positive, negative, away = (scores[name] for name in groups)
    if away.shape[1]:
        guided = guided + scale * away_direction(
            positive[:, 0], negative[:, 0], away, conditionings.away_weights
        )
    return rescale(guided, positive[:, 0], cfg_rescale) if cfg_rescale else guided


def rescale(guided: Latents, positive: Latents, strength: float) -> Latents:
    """Bring the spread of a guided prediction back to that of e_y, for high guidance scales.

    eh <- r eh std(e_y) / std(eh) + (1 - r) eh, with the standard deviation of each view.

    Source: Lin et al., Common Diffusion Noise Schedules and Sample Steps Are Flawed (2024), eq. 14
    to 16, in noise space.
    """
    spread = positive.std(dim=(1, 2, 3), keepdim=True) / guided.std(dim=(1, 2, 3), keepdim=True)
    return guided * (strength * spread + (1 - strength))
