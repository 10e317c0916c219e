"""SDS against closed-form answers: a prior that is a Gaussian per prompt."""

import math

import pytest
import torch
from analytic import GaussianPrior, exact_eps
from guided_views import as_render, cameras_at

from dreamlab.core.render import Render
from dreamlab.core.schedules import Schedule
from dreamlab.guidance.base import Guidance
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sds import SDS, Config, build
from dreamlab.guidance.timesteps import TimestepConfig
from dreamlab.guidance.weighting import weight
from dreamlab.priors.base import Prediction

KINDS = ["epsilon", "v_prediction", "sample", "flow"]
MEANS = {"cat": [0.6, -0.2, 0.1], "": [0.2, 0.1, -0.3], "ugly": [-0.4, 0.3, 0.0]}
VIEW_MEANS = {
    "cat, front view": [0.8, -0.8, -0.8],
    "cat, side view": [-0.8, 0.8, -0.8],
    "cat, back view": [-0.8, -0.8, 0.8],
    "cat, overhead view": [0.5, 0.5, 0.5],
}


def gaussian(kind: str = "epsilon", std: float = 0.2) -> GaussianPrior:
    return GaussianPrior(mean=(MEANS | VIEW_MEANS).__getitem__, std=std, parametrisation=kind)


def sds(config: Config, prior: GaussianPrior, view: str = "none", negative: str = "") -> SDS:
    prompts = Prompts.encode(prior, "cat", negative, PromptConfig(view=view))  # type: ignore[arg-type]
    prior.calls.clear()
    return build(config, prior, prompts)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def descend(rule: SDS, pixels: torch.Tensor, cameras, steps: int = 120) -> torch.Tensor:
    """Plain gradient descent on pixels; returns the mean latents of the second half."""
    pixels = pixels.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([pixels], lr=0.5 * len(cameras) / 2)
    total = torch.zeros(len(cameras), 3)
    for step in range(steps):
        optimizer.zero_grad()
        rule(as_render(pixels), cameras, step / steps, seeded(step)).loss.backward()
        optimizer.step()
        if step >= steps // 2:
            total += (pixels.detach() * 2 - 1).mean(dim=(1, 2))
    return total / (steps - steps // 2)


@pytest.mark.parametrize("kind", KINDS)
def test_descent_on_pixels_finds_the_mean_for_every_parametrisation(kind: str):
    config = Config(guidance_scale=1.0, timesteps=TimestepConfig(t_min=0.3, t_max=0.7))
    found = descend(sds(config, gaussian(kind)), torch.rand(4, 8, 8, 3), cameras_at([0] * 4))
    torch.testing.assert_close(found, torch.tensor(MEANS["cat"]).expand(4, 3), atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("negative", ["", "ugly"])
def test_guidance_overshoots_to_its_closed_form(kind: str, negative: str):
    scale = 4.0
    config = Config(guidance_scale=scale, timesteps=TimestepConfig(t_min=0.3, t_max=0.7))
    rule = sds(config, gaussian(kind), negative=negative)
    found = descend(rule, torch.rand(4, 8, 8, 3), cameras_at([0] * 4))
    base, mean = torch.tensor(MEANS[negative]), torch.tensor(MEANS["cat"])
    expected = base + scale * (mean - base)
    torch.testing.assert_close(found, expected.expand(4, 3), atol=0.03, rtol=0)


def test_adam_and_the_image_space_loss_find_the_mean_too():
    config = Config(guidance_scale=1.0, latent_weight=0.0, image_weight=1.0, weighting="x0")
    rule = sds(config, gaussian())
    pixels = torch.rand(2, 8, 8, 3).requires_grad_(True)
    optimizer = torch.optim.Adam([pixels], lr=0.03)
    average = torch.zeros(3)
    for step in range(300):
        optimizer.zero_grad()
        rule(as_render(pixels), cameras_at([0, 0]), 0.0, seeded(step)).loss.backward()
        optimizer.step()
        average += (pixels.detach() * 2 - 1).mean(dim=(0, 1, 2)) / 150 if step >= 150 else 0.0
    torch.testing.assert_close(average, torch.tensor(MEANS["cat"]), atol=0.03, rtol=0)


def test_each_view_is_pulled_to_the_mean_of_its_own_words():
    config = Config(guidance_scale=1.0, timesteps=TimestepConfig(t_min=0.3, t_max=0.7))
    cameras = cameras_at([0, 90, 180, 0], [0, 0, 0, 80])
    found = descend(sds(config, gaussian(), "words"), torch.rand(4, 8, 8, 3), cameras)
    torch.testing.assert_close(found, torch.tensor(list(VIEW_MEANS.values())), atol=0.02, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighting", ["sds", "uniform", "fantasia3d", "x0", "inverse_variance"])
def test_the_gradient_is_the_formula(kind: str, weighting):
    prior = gaussian(kind)
    rule = sds(Config(guidance_scale=7.5, weighting=weighting), prior)
    rgb = torch.rand(3, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
    output = rule(as_render(rgb), cameras_at([0, 90, 180]), 0.5, seeded(1))
    (found,) = torch.autograd.grad(output.loss, rgb)
    generator = seeded(1)
    t = 0.02 + 0.96 * torch.rand(3, generator=generator)
    noise = torch.randn(3, 3, 8, 8, generator=generator)
    alpha, sigma = prior.alpha_sigma(t)
    z = rgb.detach().permute(0, 3, 1, 2) * 2 - 1
    noisy = alpha * z + sigma * noise
    e_y, e_0 = (
        exact_eps(noisy, alpha, sigma, torch.tensor(MEANS[p])[:, None, None], prior.std)
        for p in ("cat", "")
    )
    g = weight(weighting, alpha, sigma) * (e_0 + 7.5 * (e_y - e_0) - noise)
    expected = 2 * g.permute(0, 2, 3, 1) / 3  # z = 2 x - 1, mean over three views
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert output.metrics["t"] == pytest.approx(float(t.mean()), rel=1e-5)
    assert output.metrics["gradient_rms"] == pytest.approx(
        float(g.square().mean().sqrt()), rel=1e-3
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_gradient_is_its_closed_form(kind: str):
    prior = gaussian(kind, std=0.5)
    rule = sds(Config(guidance_scale=1.0, weighting="uniform"), prior)
    num_draws = 4000
    t = torch.tensor([0.1, 0.4, 0.6, 0.9]).repeat_interleave(num_draws)
    z = torch.full((len(t), 3, 2, 2), 0.3)
    noise = torch.randn(z.shape, generator=seeded())
    conditionings = rule.prompts.for_views(cameras_at([0] * len(t)))
    gradient = rule.judge(z, t, noise, conditionings, 0.0).gradient
    average = gradient.mean(dim=(2, 3)).unflatten(0, (4, num_draws)).mean(dim=1)
    alpha, sigma = (x.flatten()[::num_draws, None] for x in prior.alpha_sigma(t))
    variance = alpha**2 * prior.std**2 + sigma**2
    expected = alpha * sigma * (0.3 - torch.tensor(MEANS["cat"])) / variance
    deviation = alpha**2 * prior.std**2 / variance / (4 * num_draws) ** 0.5
    assert ((average - expected).abs() < 4 * deviation + 1e-5).all()


@pytest.mark.parametrize("view", ["none", "words", "interpolate", "perp_neg"])
@pytest.mark.parametrize("cfg_rescale", [0.0, 0.7])
def test_a_views_gradient_does_not_depend_on_its_company(view: str, cfg_rescale: float):
    rule = sds(Config(guidance_scale=20.0, cfg_rescale=cfg_rescale), gaussian(), view, "ugly")
    azimuth, elevation = [10.0, -60.0, 100.0, 170.0, 45.0], [0.0, 20.0, 0.0, 10.0, 75.0]
    z = torch.randn(5, 3, 8, 8, generator=seeded(1))
    t, noise = torch.linspace(0.1, 0.9, 5), torch.randn(5, 3, 8, 8, generator=seeded(2))
    together = rule.judge(z, t, noise, rule.prompts.for_views(cameras_at(azimuth, elevation)), 0.0)
    for i in range(5):
        alone = rule.judge(
            z[i : i + 1],
            t[i : i + 1],
            noise[i : i + 1],
            rule.prompts.for_views(cameras_at(azimuth[i : i + 1], elevation[i : i + 1])),
            0.0,
        )
        torch.testing.assert_close(together.gradient[i], alone.gradient[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.x0[i], alone.x0[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighting", ["sds", "x0"])
def test_the_gradient_is_a_pull_to_the_denoised_image(weighting):
    rule = sds(Config(guidance_scale=7.5, weighting=weighting), gaussian())
    z = torch.randn(3, 3, 8, 8, generator=seeded(1))
    t, noise = torch.linspace(0.2, 0.8, 3), torch.randn(3, 3, 8, 8, generator=seeded(2))
    judged = rule.judge(z, t, noise, rule.prompts.for_views(cameras_at([0, 1, 2])), 0.0)
    torch.testing.assert_close(judged.gradient, judged.pull * (z - judged.x0), rtol=1e-3, atol=1e-4)
    if weighting == "x0":
        torch.testing.assert_close(judged.pull, torch.ones_like(judged.pull))


def test_nothing_is_decoded_unless_pixels_are_compared():
    prior = gaussian()
    rule = sds(Config(), prior)
    assert isinstance(rule, Guidance)
    render = as_render(torch.rand(2, 8, 8, 3, requires_grad=True))
    rule(render, cameras_at([0, 90]), 0.0, seeded())
    assert prior.calls == [("encode_image", 2), ("predict", 4)]
    prior.calls.clear()
    rule.denoised_preview(render, cameras_at([0, 90]), 0.0, seeded())
    assert ("decode", 2) in prior.calls


def test_both_spaces_add_up_with_their_weights():
    def gradient(**weights) -> torch.Tensor:
        rgb = torch.rand(2, 16, 16, 3, generator=seeded(3)).requires_grad_(True)
        rule = sds(Config(guidance_scale=5.0, **weights), gaussian())
        loss = rule(as_render(rgb), cameras_at([0, 90]), 0.25, seeded(4)).loss
        return torch.autograd.grad(loss, rgb)[0]

    latent = gradient(latent_weight=1.0)
    image = gradient(latent_weight=0.0, image_weight=1.0)
    both = gradient(latent_weight=Schedule(3.0, 1.0, end=0.5), image_weight=0.01)
    torch.testing.assert_close(both, 2.0 * latent + 0.01 * image)
    assert image.abs().max() > 0


def test_the_image_loss_is_the_weighted_pull_of_pixels():
    prior = gaussian()
    rule = sds(Config(guidance_scale=5.0, latent_weight=0.0, image_weight=1.0), prior)
    rgb = torch.rand(2, 8, 8, 3, generator=seeded(3)).requires_grad_(True)
    cameras = cameras_at([0, 90])
    (found,) = torch.autograd.grad(rule(as_render(rgb), cameras, 0.0, seeded(4)).loss, rgb)
    generator = seeded(4)
    t = 0.02 + 0.96 * torch.rand(2, generator=generator)
    noise = torch.randn(2, 3, 8, 8, generator=generator)
    z = rgb.detach().permute(0, 3, 1, 2) * 2 - 1
    judged = rule.judge(z, t, noise, rule.prompts.for_views(cameras), 0.0)
    expected = judged.pull * (rgb.detach().permute(0, 3, 1, 2) - (judged.x0 + 1) / 2) / 2
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_the_preview_shows_the_mean_at_high_noise_and_the_render_at_low_noise():
    render = as_render(torch.rand(1, 8, 8, 3, generator=seeded(5)))
    for t, expected, tolerance in [
        (0.97, (torch.tensor(MEANS["cat"]) + 1) / 2, 0.02),
        (0.01, render.rgb, 0.05),
    ]:
        config = Config(guidance_scale=1.0, timesteps=TimestepConfig(t_min=t, t_max=t))
        shown = sds(config, gaussian()).denoised_preview(render, cameras_at([0]), 0.0, seeded())
        assert shown.shape == (1, 8, 8, 3) and not shown.requires_grad
        torch.testing.assert_close(shown, expected.expand(1, 8, 8, 3), atol=tolerance, rtol=0)


def test_the_same_generator_gives_the_same_loss():
    rule = sds(Config(), gaussian())
    render = as_render(torch.rand(2, 8, 8, 3, generator=seeded(5)))
    cameras = cameras_at([0, 90])
    first, second, third = (rule(render, cameras, 0.0, seeded(s)).loss for s in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_the_gradient_of_latents_can_be_clipped_value_by_value():
    rgb = torch.rand(1, 8, 8, 3, generator=seeded(5)).requires_grad_(True)

    def gradient(clip) -> torch.Tensor:
        rule = sds(Config(gradient_clip=clip), gaussian())
        loss = rule(as_render(rgb), cameras_at([0]), 1.0, seeded()).loss
        return torch.autograd.grad(loss, rgb)[0]

    free, clipped = gradient(None), gradient(Schedule(0.0001, 0.01))
    torch.testing.assert_close(clipped, free.clamp(-0.02, 0.02))  # two per unit of a pixel
    assert (clipped != free).any()


def test_a_prior_that_returns_nan_shows_in_loss_and_metrics(monkeypatch: pytest.MonkeyPatch):
    prior = gaussian()
    rule = sds(Config(), prior)
    honest = GaussianPrior.predict

    def broken(self, noisy, t, conditioning) -> Prediction:
        prediction = honest(self, noisy, t, conditioning)
        prediction.eps[:2] = math.nan  # both rows of the first view
        return prediction

    monkeypatch.setattr(GaussianPrior, "predict", broken)
    render = as_render(torch.rand(4, 8, 8, 3, requires_grad=True))
    output = rule(render, cameras_at([0] * 4), 0.0, seeded())
    assert not output.loss.isfinite()
    assert output.metrics["nonfinite_fraction"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    "options",
    [
        {"cfg_rescale": 1.5},
        {"cfg_rescale": -0.1},
        {"parallel": 1.1},
        {"latent_weight": 0.0},
        {"latent_weight": -1.0, "image_weight": 1.0},
    ],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"cfg_rescale|parallel|latent_weight"):
        Config(**options)


def test_the_render_may_be_larger_than_the_priors_images():
    rgb = torch.rand(1, 32, 32, 3, requires_grad=True)
    rule = sds(Config(), gaussian())
    rule(Render(rgb, rgb[..., :1], rgb[..., :1]), cameras_at([0]), 0.0, seeded()).loss.backward()
    assert rgb.grad is not None and (rgb.grad != 0).all()
