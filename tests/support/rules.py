"""The rules' formulas once more, term by term, for a prior that is a Gaussian or a mixture of them.

`Scene` knows means and spread of a `GaussianPrior` and evaluates its score without dreamlab's code.
A formula gets clean latents, times, noise and what `draw_extra` drew, and returns g.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from analytic import GaussianPrior, exact_eps
from guided_views import REFERENCE, as_render
from learned_gaussian import GaussianScore, LearnableGaussianPrior
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.rule import Reference, Rule
from dreamlab.guidance.vsd import VSD
from dreamlab.priors.base import Prior

MEANS = {"cat": (0.6, -0.2, 0.1), "": (0.2, 0.1, -0.3), "ugly": (-0.4, 0.3, 0.0)}
VIEW_MEANS = {
    "cat, front view": (0.8, -0.8, -0.8),
    "cat, side view": (-0.8, 0.8, -0.8),
    "cat, back view": (-0.8, -0.8, 0.8),
    "cat, overhead view": (0.5, 0.5, 0.5),
    "ugly, front view": (-0.2, 0.4, 0.3),
    "ugly, side view": (0.3, 0.1, -0.6),
    "ugly, back view": (-0.7, 0.2, 0.4),
    "ugly, overhead view": (0.1, -0.5, 0.2),
}
STD = 0.4


LEARNED_OFFSET, LEARNED_STD = (0.1, -0.3, 0.2), 0.6
"""Where the score of the renders is, beside the prompt's mean, and how wide."""


def gaussian(kind: str = "epsilon", **changes: Any) -> LearnableGaussianPrior:
    means = MEANS | VIEW_MEANS
    return LearnableGaussianPrior(
        **{"mean": means.__getitem__, "std": STD, "parametrisation": kind, **changes}
    )


@dataclass
class Scene:
    """Scores of the three prompts, in closed form."""

    prior: GaussianPrior

    def path(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.prior.alpha_sigma(t)

    def noisy(self, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        alpha, sigma = self.path(t)
        return alpha * z + sigma * noise

    def score(self, prompt: str, noisy: Tensor, t: Tensor) -> Tensor:
        mu = torch.tensor(MEANS[prompt], dtype=noisy.dtype)[:, None, None]
        return exact_eps(noisy, *self.path(t), mu, self.prior.std)

    def guided(self, scale: float, noisy: Tensor, t: Tensor) -> Tensor:
        e_y, e_neg = self.score("cat", noisy, t), self.score("ugly", noisy, t)
        return e_neg + scale * (e_y - e_neg)

    def weight(self, t: Tensor) -> dict[str, Tensor]:
        alpha, sigma = self.path(t)
        return {"sds": sigma**2, "x0": sigma / alpha, "flow": (alpha + sigma) / alpha}

    def step(self, noisy: Tensor, eps: Tensor, now: Tensor, after: Tensor) -> Tensor:
        (alpha, sigma), (alpha_2, sigma_2) = self.path(now), self.path(after)
        return alpha_2 * (noisy - sigma * eps) / alpha + sigma_2 * eps


Formula = Callable[[Scene, Tensor, Tensor, Tensor, Tensor | None], Tensor]


def sds(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    return scene.weight(t)["sds"] * (scene.guided(5.0, scene.noisy(z, t, noise), t) - noise)


def rfds(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """With velocities u = eps - x0 all the way."""
    noisy = scene.noisy(z, t, noise)
    alpha, sigma = scene.path(t)

    def velocity(prompt: str) -> Tensor:
        eps = scene.score(prompt, noisy, t)
        return eps - (noisy - sigma * eps) / alpha

    u_neg = velocity("ugly")
    return u_neg + 5.0 * (velocity("cat") - u_neg) - (noise - z)


def rfds_rev(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """With the velocity of the paper's correction, and of the difference."""
    alpha, sigma = scene.path(t)
    noisy = scene.noisy(z, t, noise)
    eps = scene.score("cat", noisy, t)
    u = eps - (noisy - sigma * eps) / alpha
    corrected = noise + alpha / (alpha + sigma) * (u + z - noise)
    return rfds(scene, z, t, corrected, None)


def csd(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    noisy = scene.noisy(z, t, noise)
    e_y, e_0, e_neg = (scene.score(p, noisy, t) for p in ("cat", "", "ugly"))
    return scene.weight(t)["sds"] * 3.0 * (e_y - 0.75 * e_0 - 0.25 * e_neg)


def bridge(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    noisy = scene.noisy(z, t, noise)
    return scene.weight(t)["sds"] * (scene.score("cat", noisy, t) - scene.score("ugly", noisy, t))


def nfsd(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    noisy = scene.noisy(z, t, noise)
    e_y, e_0, e_neg = (scene.score(p, noisy, t) for p in ("cat", "", "ugly"))
    domain = torch.where((t < 0.2)[:, None, None, None], e_0, e_0 - e_neg)
    return scene.weight(t)["sds"] * (7.5 * (e_y - e_0) + domain)


def ssd(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    noisy = scene.noisy(z, t, noise)
    e_y, e_0 = scene.score("cat", noisy, t), scene.score("", noisy, t)
    result = 7.5 * (e_y - e_0)
    for i in range(len(z)):
        if t[i] <= 0.1:
            a, n = e_y[i].flatten(), noise[i].flatten()
            r = a - (a @ n) / (n @ n) * n
            result[i] = (result[i].norm() / r.norm() * r).view_as(z[i])
    return scene.weight(t)["sds"] * result


def asd(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    assert extra is not None
    later = (t + extra * 0.1 * (t - 0.02)).clamp(max=0.999)
    plain = scene.score("cat", scene.noisy(z, later, noise), later)
    return scene.weight(t)["sds"] * (scene.guided(5.0, scene.noisy(z, t, noise), t) - plain)


def ism(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """View by view, in a loop."""
    result = []
    for i in range(len(z)):
        one, s = slice(i, i + 1), t[i : i + 1] - 0.05
        now = torch.full_like(s, 0.001)
        noisy = scene.noisy(z[one], now, noise[one])
        for k in range(1, math.ceil(float(s) / 0.2) + 1):
            after = torch.minimum(torch.full_like(s, 0.2 * k), s)
            noisy = scene.step(noisy, scene.score("", noisy, now), now, after)
            now = after
        e_s = scene.score("", noisy, s)
        noisy = scene.step(noisy, e_s, s, t[one])
        result.append(scene.weight(t[one])["x0"] * (scene.guided(5.0, noisy, t[one]) - e_s))
    return torch.cat(result)


def csm(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """View by view, in a loop; strides of 0.2."""
    result = []
    for i in range(len(z)):
        one, end = slice(i, i + 1), t[i : i + 1]
        now = torch.full_like(end, 0.001)
        noisy = scene.noisy(z[one], now, noise[one])
        for k in range(math.ceil(float(end) / 0.2)):
            after = torch.minimum(torch.full_like(end, 0.2 * (k + 1)), end)
            noisy = scene.step(noisy, scene.score("", noisy, now), now, after)
            now = after
        difference = scene.score("cat", noisy, end) - scene.score("", noisy, end)
        result.append(scene.weight(end)["sds"] * 3.0 * difference)
    return torch.cat(result)


def sdi(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """View by view, in a loop; ten steps, eta 0.3, guidance -5 on the way up."""
    assert extra is not None
    result = []
    for i in range(len(z)):
        one, end = slice(i, i + 1), t[i : i + 1]
        now = torch.full_like(end, 0.001)
        noisy = scene.noisy(z[one], now, torch.zeros_like(z[one]))
        for k in range(math.ceil(float(end) / 0.1)):
            after = torch.minimum(torch.full_like(end, 0.1 * (k + 1)), end)
            (alpha, sigma), (alpha_2, sigma_2) = scene.path(now), scene.path(after)
            variance = (sigma_2**2 - alpha_2**2 * sigma**2 / alpha**2) * sigma**2 / sigma_2**2
            noisy = scene.step(noisy, scene.guided(-5.0, noisy, now), now, after)
            noisy = noisy + 0.3 * variance.sqrt() * extra[one, k]
            now = after
        alpha, sigma = scene.path(end)
        result.append(z[one] - (noisy - sigma * scene.guided(5.0, noisy, end)) / alpha)
    return torch.cat(result)


def dds(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """Both guided away from `ugly`, so that the second term is its prediction alone."""
    before = (2 * torch.tensor(REFERENCE) - 1)[:, None, None].expand_as(z)
    then = scene.score("ugly", scene.noisy(before, t, noise), t)
    return scene.guided(5.0, scene.noisy(z, t, noise), t) - then


def vsd(scene: Scene, z: Tensor, t: Tensor, noise: Tensor, extra: Tensor | None) -> Tensor:
    """With a score of the renders that is no longer the prior's."""
    noisy = scene.noisy(z, t, noise)
    mean = (torch.tensor(MEANS["cat"]) + torch.tensor(LEARNED_OFFSET))[:, None, None]
    learned = exact_eps(noisy, *scene.path(t), mean, LEARNED_STD)
    return scene.weight(t)["sds"] * (scene.guided(5.0, noisy, t) - learned)


def begin(rule: object, prior: Prior, negative: str, config: PromptConfig) -> None:
    """Give a rule that compares the prompt of its reference, and one that learns a score."""
    if isinstance(rule, Comparing):
        texts = (rule.reference_prompt, negative, config)
        rule.compare_with(Prompts.encode(prior, *texts))
    if isinstance(rule, VSD):
        plain = Prompts.encode(prior, "cat", negative, replace(config, view="none"))
        rule.begin(prior, plain, torch.Generator().manual_seed(0))
        if isinstance(rule.score, GaussianScore):
            rule.score.set(torch.tensor(LEARNED_OFFSET), LEARNED_STD)


def reference_of(rule: Rule, z: Tensor, cameras: Cameras) -> Reference | None:
    """What `rule` finds as its reference in renders of `as_render`."""
    pictures = torch.zeros(len(z), rule.prior.image_size, rule.prior.image_size, 3)
    found = rule.refer(as_render(pictures), cameras, 0.0, torch.Generator())
    if found is None:
        return None
    plain = found.latents[..., :1, :1].expand(-1, -1, *z.shape[2:])
    return replace(found, latents=plain)


@dataclass(frozen=True)
class Case:
    """A rule with settings, and its formula with these settings."""

    name: str
    options: dict[str, Any]
    formula: Formula
    rows: tuple[int, ...]
    """Predictions that the formula needs for a view at t = 0.5, call by call."""


CASES = {
    "sds": Case("sds", {"guidance_scale": 5.0}, sds, (2,)),
    "rfds": Case("sds", {"guidance_scale": 5.0, "weighting": "flow"}, rfds, (2,)),
    "rfds_rev": Case("rfds_rev", {"guidance_scale": 5.0}, rfds_rev, (1, 2)),
    "csd": Case("csd", {"scale": 3.0, "negative_share": 0.25}, csd, (3,)),
    # 0.001, 0.2, 0.4, and t = 0.5
    "csm": Case("csd", {"scale": 3.0, "stride": 0.2}, csm, (1, 1, 1, 2)),
    "bridge": Case("csd", {"negative_share": 1.0}, bridge, (2,)),
    "nfsd": Case("nfsd", {}, nfsd, (3,)),
    "ssd": Case("ssd", {}, ssd, (2,)),
    "asd": Case("asd", {"guidance_scale": 5.0}, asd, (1, 2)),
    # 0.001, 0.2, 0.4, and s = 0.45
    "ism": Case("ism", {"guidance_scale": 5.0, "interval": 0.05}, ism, (1, 1, 1, 1, 2)),
    # 0.001, 0.1, 0.2, 0.3, 0.4, and t = 0.5
    "sdi": Case("sdi", {"guidance_scale": 5.0, "inversion_scale": -5.0}, sdi, (2,) * 6),
    # what is learned stays as it is
    "vsd": Case("vsd", {"guidance_scale": 5.0, "learning_rate": 0.0}, vsd, (2,)),
    "dds": Case("dds", {"guidance_scale": 5.0, "reference_prompt": "ugly"}, dds, (2, 2)),
}
