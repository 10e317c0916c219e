"""Combinations of noise predictions: classifier-free guidance, projection, Perp-Neg, rescaling.

Classifier-free guidance is written as diffusers writes it, eh = e_0 + s (e_y - e_0), so s = 1 is
the plain conditional prediction. Code that computes e_y + s (e_y - e_0) instead (threestudio's SDS,
PGC-3D, SemanticSDS) means s + 1: its 100 is 101 here. e_0 belongs to the negative prompt, which is
the empty one if none was given.

Whatever is combined costs one U-Net call, and with wrong views (Perp-Neg) e_y stands for
e_y + sum_i w_i perp(e_i - e_0, e_y - e_0) wherever it is compared with an e_0.

Where several prompts share a view (`semantic.py`), e_y and its push are sums over them, each latent
with its own shares m_k:   e_y = sum_k m_k e_{y_k},   sum_k m_k = 1.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from dreamlab.guidance.base import Scores, compose, predict_scores
from dreamlab.guidance.perp_neg import away_direction
from dreamlab.guidance.prompts import ViewConditionings
from dreamlab.priors.base import Latents, PerView, Prior
from dreamlab.priors.multi_view import group_size

Form = Literal["noise", "x0"]
Group = Literal["positive", "negative", "empty"]
GUIDED: tuple[Group, ...] = ("positive", "negative")
"""What classifier-free guidance predicts in one call."""
ALL: tuple[Group, ...] = ("positive", "negative", "empty")


def guided_noise(
    prior: Prior,
    noisy: Latents,
    t: Float[Tensor, " batch"],
    conditionings: ViewConditionings,
    *,
    scale: float,
    parallel: float = 1.0,
    cfg_rescale: float = 0.0,
    cfg_rescale_of: Form = "noise",
) -> Latents:
    """Return eh = e_0 + s (e_y - e_0 + sum_i w_i perp(e_i - e_0, e_y - e_0)), changed as asked.

    Args:
        prior: the diffusion model.
        noisy: z_t.
        t: times, one a view.
        conditionings: what the prior is told about each view; without wrong views the sum is empty.
        scale: s.
        parallel: share that `project` keeps, in [0, 1].
        cfg_rescale: strength of `rescale`, which comes last, in [0, 1].
        cfg_rescale_of: what is rescaled.
    """
    scores, push = view_scores(prior, noisy, t, conditionings, GUIDED)
    guided = compose(scores, {"positive": scale, "negative": 1 - scale})
    if push is not None:
        guided = guided + scale * push
    positive, together = scores["positive"][:, 0], group_size(prior, len(noisy))
    alpha, sigma = prior.alpha_sigma(t)
    if parallel < 1:
        guided = project(guided, positive, noisy - sigma * positive, parallel)
    if not cfg_rescale:
        return guided
    if cfg_rescale_of == "noise":
        return rescale(guided, positive, cfg_rescale, together)
    x0, positive_x0 = ((noisy - sigma * eps) / alpha for eps in (guided, positive))
    return (noisy - alpha * rescale(x0, positive_x0, cfg_rescale, together)) / sigma


def composed_noise(
    prior: Prior,
    noisy: Latents,
    t: Float[Tensor, " batch"],
    conditionings: ViewConditionings,
    coefficients: Mapping[str, float | PerView],
) -> Latents:
    """Return sum_k c_k e_k; e_y carries Perp-Neg's push if an e_0 is among the others.

    Args:
        prior: the diffusion model.
        noisy: z_t.
        t: times, one a view.
        conditionings: what the prior is told about each view.
        coefficients: of `positive`, `negative` and `empty`; what has the number 0 is not evaluated.
    """
    used = {k: c for k, c in coefficients.items() if isinstance(c, Tensor) or c != 0}
    scores, push = view_scores(prior, noisy, t, conditionings, tuple(used))
    total = compose(scores, used)
    return total if push is None else total + used["positive"] * push


def view_scores(
    prior: Prior,
    noisy: Latents,
    t: Float[Tensor, " batch"],
    conditionings: ViewConditionings,
    names: Sequence[str],
) -> tuple[dict[str, Scores], Latents | None]:
    """Return the predictions of the named groups, and the push away from the wrong views.

    Directions start at the prediction for the empty prompt if that is named, else at the negative
    prompt's. Without either, without `positive` or without wrong views there is no push (None).
    Every group comes back as one prediction a view, whoever shares the view.
    """
    base = base_of(names)
    groups = {name: getattr(conditionings, name) for name in names}
    if base is None or not conditionings.away.shape[1]:
        scores = predict_scores(prior, noisy, t, groups, conditionings.control)
        return _shared(scores, conditionings), None
    groups["away"] = conditionings.away
    scores = predict_scores(prior, noisy, t, groups, conditionings.control)
    scores["push"] = _pushes(scores["positive"], scores[base], scores.pop("away"), conditionings)
    shared = _shared(scores, conditionings)
    return shared, shared.pop("push")[:, 0]


def base_of(names: Sequence[str]) -> str | None:
    """Return the group at which directions start in a call of these groups, if there are any."""
    if "positive" not in names:
        return None
    return next((name for name in ("empty", "negative") if name in names), None)


def _pushes(
    positive: Scores, base: Scores, away: Scores, conditionings: ViewConditionings
) -> Scores:
    """Return the push of every prompt of every view from its own wrong views."""
    num_prompts = positive.shape[1]
    pushes = away_direction(
        positive.flatten(0, 1),
        base.expand_as(positive).flatten(0, 1),
        away.unflatten(1, (num_prompts, -1)).flatten(0, 1),
        conditionings.away_weights.unflatten(1, (num_prompts, -1)).flatten(0, 1),
    )
    return pushes.unflatten(0, positive.shape[:2])


def _shared(scores: dict[str, Scores], conditionings: ViewConditionings) -> dict[str, Scores]:
    """Sum the predictions of prompts that share a view, each latent with their shares."""
    if conditionings.shares is None:
        return scores
    shares = conditionings.shares[:, :, None]
    return {
        name: score if score.shape[1] == 1 else (shares * score).sum(dim=1, keepdim=True)
        for name, score in scores.items()
    }


def project(guided: Latents, positive: Latents, x0: Latents, kept: float) -> Latents:
    """Weaken what guidance adds along the clean latents themselves, channel by channel.

    eh <- eh - (1 - eta) <eh - e_y, u> u,        u = x0_y / |x0_y|

    That part makes contrasts and colours of what is there stronger, step after step, and adds
    nothing to it. Products and norms are over the pixels of a channel of a view.

    Args:
        guided: eh.
        positive: e_y.
        x0: x0_y, the clean latents that e_y says, or any positive multiple.
        kept: eta.

    Source: Sadat et al., Eliminating Oversaturation and Artifacts of High Guidance Scales in
    Diffusion Models (2025), where products are over all values of a latent. By channels it also
    holds back what guidance adds to one colour alone.
    """
    along = nn.functional.normalize(x0.flatten(2), dim=-1)
    share = ((guided - positive).flatten(2) * along).sum(dim=-1, keepdim=True)
    return guided - (1 - kept) * (share * along).view_as(guided)


def rescale(guided: Latents, positive: Latents, strength: float, together: int = 1) -> Latents:
    """Bring the spread of a guided prediction back to that of e_y, for high guidance scales.

    eh <- r eh std(e_y) / std(eh) + (1 - r) eh, or the same of x0h = (z_t - sigma eh) / alpha: of
    the noise, or of the contrast of the picture that z is pulled to.

    Args:
        guided: eh, or the x0h of it.
        positive: e_y, or the x0h of it.
        strength: r.
        together: views in a row that have one standard deviation, that of all their values.

    Source: Lin et al., Common Diffusion Noise Schedules and Sample Steps Are Flawed (2024), eq. 14
    to 16; of x0h and over the views of an object: Shi et al., MVDream (2024), with its code.
    """
    spread = _spread(positive, together) / _spread(guided, together)
    return guided * (strength * spread + (1 - strength))


def _spread(latents: Latents, together: int) -> PerView:
    groups = latents.unflatten(0, (-1, together)).flatten(1)
    return groups.std(dim=1).repeat_interleave(together)[:, None, None, None]
