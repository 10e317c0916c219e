"""SDEdit against the exact probability flow of priors whose score is known."""

import math
from dataclasses import replace

import pytest
import torch
from analytic import GaussianPrior
from guided_views import as_render, cameras_at
from half_precision import HalfPrior

from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.core.schedules import Schedule
from dreamlab.guidance.base import Guidance, needs_normals
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sdedit import Config, SDEdit, build, path
from dreamlab.priors.base import Prediction

KINDS = ["epsilon", "v_prediction", "sample", "flow"]
MEANS = {"cat": [0.6, -0.2, 0.1], "": [0.2, 0.1, -0.3], "ugly": [-0.4, 0.3, 0.0]}
VIEW_MEANS = {
    "cat, front view": [0.8, -0.8, -0.8],
    "cat, side view": [-0.8, 0.8, -0.8],
    "cat, back view": [-0.8, -0.8, 0.8],
    "cat, overhead view": [0.5, 0.5, 0.5],
}
STD = 0.3


def gaussian(kind: str = "epsilon") -> GaussianPrior:
    return GaussianPrior(mean=(MEANS | VIEW_MEANS).__getitem__, std=STD, parametrisation=kind)


def sdedit(config: Config, prior: GaussianPrior, view: str = "none", negative: str = "") -> SDEdit:
    prompts = Prompts.encode(prior, "cat", negative, PromptConfig(view=view))  # type: ignore[arg-type]
    prior.calls.clear()
    return build(config, prior, prompts)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def edited(rule: SDEdit, z: torch.Tensor, noise: torch.Tensor, progress: float = 0.0):
    return rule.edit(z, noise, rule.prompts.for_views(cameras_at([0] * len(z))), progress)


def guided_mean(scale: float, negative: str) -> torch.Tensor:
    """With one spread for all prompts, guidance is the score of a Gaussian around this."""
    base, mean = torch.tensor(MEANS[negative]), torch.tensor(MEANS["cat"])
    return (base + scale * (mean - base))[:, None, None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("scale", "negative"), [(1.0, ""), (4.0, "ugly")])
def test_every_step_moves_a_gaussian_by_its_closed_form(kind: str, scale: float, negative: str):
    prior = gaussian(kind)
    rule = sdedit(Config(guidance_scale=scale, t_start=0.6, num_steps=10), prior, "none", negative)
    z, noise = draw(3, 3, 4, 4, seed=1), draw(3, 3, 4, 4, seed=2)
    times = [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    a, s = (
        torch.cat(x).flatten()
        for x in zip(*(prior.alpha_sigma(torch.tensor([t])) for t in times), strict=True)
    )
    mean = guided_mean(scale, negative)
    rest = a[0] * z + s[0] * noise - a[0] * mean
    variance = a**2 * STD**2 + s**2
    for k in range(len(times) - 1):
        rest = rest * (a[k + 1] * a[k] * STD**2 + s[k + 1] * s[k]) / variance[k]
    expected = mean + rest * a[-1] * STD**2 / variance[-1]
    torch.testing.assert_close(edited(rule, z, noise), expected, rtol=1e-3, atol=1e-4)
    assert prior.calls == [("predict", 6)] * len(times)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_with_many_steps_it_is_the_probability_flow_of_a_gaussian(kind: str):
    prior = gaussian(kind)
    z, noise = draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    alpha, sigma = prior.alpha_sigma(torch.tensor([0.7]))
    mean = guided_mean(3.0, "")
    spread = (alpha**2 * STD**2 + sigma**2).sqrt()
    flow = mean + STD * (alpha * z + sigma * noise - alpha * mean) / spread
    errors = []
    for num_steps in (100, 200):
        config = Config(guidance_scale=3.0, t_start=0.7, num_steps=num_steps)
        errors.append(float((edited(sdedit(config, prior), z, noise) - flow).abs().max()))
    assert errors[0] < 0.05
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)  # first order


class TwoColours(GaussianPrior):
    """Every value is near -0.7 or near 0.5, independently of the others."""

    CENTRES, SHARES = (-0.7, 0.5), (0.3, 0.7)

    def predict(self, noisy, t, conditioning) -> Prediction:
        alpha, sigma = self.alpha_sigma(t)
        variance = alpha**2 * self.std**2 + sigma**2
        away = torch.stack([noisy - alpha * centre for centre in self.CENTRES])
        share = torch.tensor(self.SHARES).log()[:, None, None, None, None]
        belongs = (share - away.square() / (2 * variance)).softmax(dim=0)
        eps = (belongs * sigma * away / variance).sum(dim=0)
        x0 = (noisy - sigma * eps) / alpha
        return Prediction(eps, x0, alpha * eps - sigma * x0)


def test_with_many_steps_it_keeps_the_quantiles_of_a_mixture():
    """The flow of one value is monotone, so it maps quantiles at t to the same ones at 0."""
    prior = TwoColours(mean=MEANS.__getitem__, std=0.15)
    rule = sdedit(Config(guidance_scale=1.0, t_start=0.5, num_steps=300), prior)
    z = torch.linspace(-1, 0.8, 12).reshape(1, 3, 2, 2)
    alpha, sigma = prior.alpha_sigma(torch.tensor([0.5]))

    def quantile(value: torch.Tensor, a: float, s: float) -> torch.Tensor:
        spread = math.sqrt(a**2 * prior.std**2 + s**2)
        normal = torch.distributions.Normal(0.0, 1.0)
        parts = zip(prior.SHARES, prior.CENTRES, strict=True)
        return sum((p * normal.cdf((value - a * c) / spread) for p, c in parts), torch.zeros(()))

    result = edited(rule, z, torch.zeros_like(z))
    expected = quantile(alpha * z, float(alpha), float(sigma))
    torch.testing.assert_close(quantile(result, 1.0, 0.0), expected, atol=0.01, rtol=0)
    assert (result.diff(dim=-1) > 0).all() and (result - z).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_render_less_the_edited_picture(kind: str):
    prior = gaussian(kind)
    rule = sdedit(Config(guidance_scale=2.0, t_start=0.3, num_steps=10), prior)
    rgb = torch.rand(3, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
    cameras = cameras_at([0, 90, 180])
    output = rule(as_render(rgb), cameras, 0.5, seeded(1))
    (found,) = torch.autograd.grad(output.loss, rgb)
    noise = torch.randn(3, 3, 8, 8, generator=seeded(1))
    z = rgb.detach().permute(0, 3, 1, 2) * 2 - 1
    picture = ((edited(rule, z, noise) + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    g = rgb.detach() - picture
    torch.testing.assert_close(found, g / 3, rtol=1e-4, atol=1e-6)
    assert output.loss.item() == pytest.approx(float(0.5 * g.square().sum() / 3), rel=1e-4)
    assert output.metrics["gradient_rms"] == pytest.approx(
        float(g.square().mean().sqrt()), rel=1e-4
    )
    assert output.metrics["t"] == 0.3
    assert isinstance(rule, Guidance)


def test_a_views_picture_does_not_depend_on_its_company():
    rule = sdedit(
        Config(guidance_scale=5.0, t_start=0.5, num_steps=10), gaussian(), "words", "ugly"
    )
    azimuth = [0.0, 90.0, 180.0, -30.0]
    z, noise = draw(4, 3, 4, 4, seed=1), draw(4, 3, 4, 4, seed=2)
    together = rule.edit(z, noise, rule.prompts.for_views(cameras_at(azimuth)), 0.0)
    for i, angle in enumerate(azimuth):
        one = slice(i, i + 1)
        alone = rule.edit(z[one], noise[one], rule.prompts.for_views(cameras_at([angle])), 0.0)
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_of_half_precision_gives_finite_gradients_near_the_exact_ones(kind: str):
    config = Config(guidance_scale=5.0, t_start=0.5, num_steps=10)
    found: list[torch.Tensor] = []
    for prior_of in (HalfPrior, GaussianPrior):
        prior = prior_of(mean=MEANS.__getitem__, std=STD, parametrisation=kind)
        rgb = torch.rand(4, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
        output = sdedit(config, prior)(as_render(rgb), cameras_at([0] * 4), 0.0, seeded(1))
        assert output.metrics["nonfinite_fraction"] == 0
        found += torch.autograd.grad(output.loss, rgb)
    half, full = found
    assert half.isfinite().all() and (half - full).norm() < 0.05 * full.norm()


def test_descent_ends_where_the_prior_no_longer_changes_the_picture():
    """That is its mean: noise is drawn anew each time, and shrinks every distance from it."""
    rule = sdedit(Config(guidance_scale=1.0, t_start=0.7, num_steps=4), gaussian())
    pixels = torch.rand(2, 8, 8, 3, generator=seeded(3)).requires_grad_(True)
    optimizer = torch.optim.SGD([pixels], lr=1.0)
    total = torch.zeros(3)
    for step in range(30):
        optimizer.zero_grad()
        rule(as_render(pixels), cameras_at([0, 0]), 0.0, seeded(step)).loss.backward()
        optimizer.step()
        total += (pixels.detach() * 2 - 1).mean(dim=(0, 1, 2)) / 20 if step >= 10 else 0.0
    torch.testing.assert_close(total, torch.tensor(MEANS["cat"]), atol=0.03, rtol=0)


def test_the_same_generator_gives_the_same_picture():
    rule = sdedit(Config(), gaussian())
    render, cameras = as_render(torch.rand(2, 8, 8, 3, generator=seeded(5))), cameras_at([0, 90])
    first, second, third = (rule.target(render, cameras, 0.0, seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_less_noise_changes_less_and_takes_fewer_steps():
    prior = gaussian()
    rule = sdedit(Config(guidance_scale=1.0, t_start=Schedule(0.8, 0.1), num_steps=20), prior)
    render, cameras = as_render(torch.rand(1, 8, 8, 3, generator=seeded(5))), cameras_at([0])
    changes, calls = [], []
    for progress in (0.0, 0.5, 1.0):
        prior.calls.clear()
        picture = rule.target(render, cameras, progress, seeded())
        changes.append(float((picture - render.rgb).abs().mean()))
        calls.append(sum(name == "predict" for name, _ in prior.calls))
    assert changes[0] > changes[1] > changes[2]
    assert calls == [16, 9, 2]


def test_the_path_falls_evenly_and_has_its_share_of_the_steps():
    assert path(0.2, 50) == pytest.approx([0.2 - 0.02 * k for k in range(10)])
    assert len(path(0.05, 50)) == 3
    assert path(0.01, 10) == [0.01]


def test_the_render_may_have_another_size_but_must_be_square():
    rule = sdedit(Config(), gaussian())
    rgb = torch.rand(1, 32, 32, 3, requires_grad=True)
    rule(Render(rgb, rgb[..., :1], rgb[..., :1]), cameras_at([0]), 0.0, seeded()).loss.backward()
    assert rgb.grad is not None and (rgb.grad != 0).any()
    with pytest.raises(InputError, match="square"):
        rule(as_render(torch.rand(1, 8, 16, 3)), cameras_at([0]), 0.0, seeded())


def test_normals_are_edited_as_colours_are():
    rule = sdedit(Config(sees="normal"), gaussian())
    assert needs_normals(rule) and not needs_normals(sdedit(Config(), gaussian()))
    alpha = torch.rand(2, 8, 8, 1, generator=seeded(1)).requires_grad_(True)
    normal = (alpha.detach() * torch.nn.functional.normalize(draw(2, 8, 8, 3), dim=-1)).clone()
    normal.requires_grad_(True)
    render = replace(as_render(torch.rand(2, 8, 8, 3)), alpha=alpha, normal=normal)
    cameras = cameras_at([0, 90])
    rule(render, cameras, 0.0, seeded()).loss.backward()
    colours = ((normal + alpha) / 2).detach()
    target = sdedit(Config(), gaussian()).target(as_render(colours), cameras, 0.0, seeded())
    assert normal.grad is not None and alpha.grad is not None
    torch.testing.assert_close(normal.grad, (colours - target) / 4)  # half a colour, two views
    torch.testing.assert_close(alpha.grad, normal.grad.sum(-1, keepdim=True))


@pytest.mark.parametrize(
    "options",
    [{"t_start": 0.0}, {"t_start": Schedule(1.0, 0.5)}, {"num_steps": 0}, {"cfg_rescale": 2.0}],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Config(**options)
