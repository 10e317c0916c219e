"""VSD against closed-form answers: prior and renders are Gaussians, so both scores are known."""

import pytest
import torch
from analytic import GaussianPrior, exact_eps
from guided_views import as_render, cameras_at
from half_precision import HalfLearnablePrior
from learned_gaussian import GaussianScore, LearnableGaussianPrior

from dreamlab.core.errors import InputError
from dreamlab.core.schedules import Schedule
from dreamlab.guidance import sds
from dreamlab.guidance.base import Guidance
from dreamlab.guidance.learning import Learning
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.timesteps import TimestepConfig
from dreamlab.guidance.vsd import VSD, Config, build
from dreamlab.guidance.weighting import weight

KINDS = ["epsilon", "v_prediction", "sample", "flow"]
MU, STD = [0.3, -0.2, 0.1], 0.3
MEANS = {
    "cat": MU,
    "": [0.2, 0.1, -0.3],
    "cat, front view": [0.8, -0.8, -0.8],
    "cat, side view": [-0.8, 0.8, -0.8],
    "cat, back view": [-0.8, -0.8, 0.8],
    "cat, overhead view": [0.5, 0.5, 0.5],
}
MIDDLE = TimestepConfig(t_min=0.2, t_max=0.8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vsd(
    config: Config,
    kind: str = "epsilon",
    view: str = "none",
    learner: LearnableGaussianPrior | None = None,
    prior_of: type[LearnableGaussianPrior] = LearnableGaussianPrior,
) -> VSD:
    prior = prior_of(MEANS.__getitem__, std=STD, parametrisation=kind)
    encoded = [
        Prompts.encode(prior, "cat", "", PromptConfig(view=v))  # type: ignore[arg-type]
        for v in (view, "none")
    ]
    rule = build(config, prior, encoded[0])
    rule.begin(learner or prior, encoded[1], seeded())
    return rule


def score_of(rule: VSD) -> GaussianScore:
    assert isinstance(rule.score, GaussianScore)
    return rule.score


def cloud(num_views: int, mean: float, spread: float, seed: int) -> torch.Tensor:
    """Pixels whose latents are N(mu + mean, spread^2)."""
    z = torch.randn(num_views, 8, 8, 3, generator=seeded(seed)) * spread
    return (z + torch.tensor(MU) + mean + 1) / 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighting", ["sds", "x0"])
def test_the_gradient_is_the_formula_with_view_words_for_the_pretrained_score_alone(
    kind: str, weighting
):
    rule = vsd(Config(weighting=weighting, learning_rate=0.0), kind, "words")
    score_of(rule).set([0.1, 0.0, -0.1], 0.4)
    rgb = torch.rand(3, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
    output = rule(as_render(rgb), cameras_at([0, 90, 180]), 0.5, seeded(1))
    (found,) = torch.autograd.grad(output.loss, rgb)

    generator = seeded(1)
    t = 0.02 + 0.96 * torch.rand(3, generator=generator)
    noise = torch.randn(3, 3, 8, 8, generator=generator)
    alpha, sigma = rule.prior.alpha_sigma(t)
    noisy = alpha * (rgb.detach().permute(0, 3, 1, 2) * 2 - 1) + sigma * noise

    def exact(means: torch.Tensor, std: float) -> torch.Tensor:
        return exact_eps(noisy, alpha, sigma, means[:, :, None, None], std)

    viewed = torch.tensor([MEANS[f"cat, {side} view"] for side in ("front", "side", "back")])
    e_y, e_0 = exact(viewed, STD), exact(torch.tensor([MEANS[""]]), STD)
    learned = exact(torch.tensor([[0.4, -0.2, 0.0]]), 0.4)  # plain prompt, moved by the offset
    g = weight(weighting, alpha, sigma) * (e_0 + 7.5 * (e_y - e_0) - learned)
    expected = 2 * g.permute(0, 2, 3, 1) / 3  # z = 2 x - 1, mean over three views
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert output.metrics["gradient_rms"] == pytest.approx(
        float(g.square().mean().sqrt()), rel=1e-3
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mean", "spread"), [(0.0, STD), (0.2, STD), (0.0, 0.1), (0.0, 0.6)])
def test_the_gradient_vanishes_only_where_mean_and_variance_of_the_renders_match(
    kind: str, mean: float, spread: float
):
    rule = vsd(Config(guidance_scale=1.0, learning_rate=0.0), kind)
    score_of(rule).set(mean, spread)
    cameras = cameras_at([0, 90, 180, -90])
    found = rule(as_render(cloud(4, mean, spread, seed=1)), cameras, 0.0, seeded(1))
    is_match = (mean, spread) == (0.0, STD)
    assert (found.metrics["gradient_rms"] < 1e-5) == is_match
    assert is_match or found.metrics["gradient_rms"] > 0.01


def fit_cloud(
    rule: Guidance, *, follow: bool, steps: int, rate: float = 0.05
) -> tuple[float, float]:
    """Descend on mean and spread of a cloud of renders; return what they end at.

    `follow`: hand the exact score of the cloud to the rule before each step.
    """
    mean, log_spread = torch.tensor(-0.5, requires_grad=True), torch.tensor(-0.3).requires_grad_()
    optimizer = torch.optim.Adam([mean, log_spread], lr=rate)
    trace = []
    for step in range(steps):
        spread = log_spread.exp()
        if follow:
            assert isinstance(rule, VSD)
            score_of(rule).set(mean.detach(), spread.detach())
        noise = torch.randn(4, 8, 8, 3, generator=seeded(step))
        rgb = (torch.tensor(MU) + mean + spread * noise + 1) / 2
        optimizer.zero_grad()
        rule(
            as_render(rgb), cameras_at([0, 90, 180, -90]), step / steps, seeded(step)
        ).loss.backward()
        optimizer.step()
        trace.append([float(mean.detach()), float(log_spread.detach().exp())])
    return tuple(torch.tensor(trace[-steps // 4 :]).mean(dim=0).tolist())


def test_a_cloud_of_renders_gets_mean_and_spread_of_the_prior_where_sds_makes_it_collapse():
    rule = vsd(Config(guidance_scale=1.0, learning_rate=0.0, timesteps=MIDDLE))
    mean, spread = fit_cloud(rule, follow=True, steps=110)
    assert mean == pytest.approx(0.0, abs=0.02) and spread == pytest.approx(STD, rel=0.07)
    point = sds.build(sds.Config(guidance_scale=1.0, timesteps=MIDDLE), rule.prior, rule.prompts)
    mean, spread = fit_cloud(point, follow=False, steps=110)
    assert mean == pytest.approx(0.0, abs=0.02) and spread < STD / 2


@pytest.mark.slow
def test_a_cloud_gets_there_too_while_its_score_is_being_learned():
    config = Config(guidance_scale=1.0, timesteps=MIDDLE, learning_rate=0.1, learning_steps=3)
    rule = vsd(config)
    mean, spread = fit_cloud(rule, follow=False, steps=120, rate=0.03)
    assert mean == pytest.approx(0.0, abs=0.05) and spread == pytest.approx(STD, rel=0.15)


@pytest.mark.parametrize("kind", ["epsilon", "flow"])
def test_the_learned_score_becomes_that_of_the_renders_camera_by_camera(kind: str):
    rule = vsd(Config(learning_rate=Schedule(0.05, 0.002), camera_dropout=0.0), kind)
    cameras = cameras_at([0, 180] * 8)
    shift = torch.tensor([0.4, -0.4] * 8)[:, None, None, None]
    steps, errors = 150, []
    for step in range(steps):
        z = cloud(16, 0.0, 0.5, seed=step).permute(0, 3, 1, 2) * 2 - 1 + shift
        errors.append(rule.learn(z, cameras, step / steps, seeded(step)))
    score = score_of(rule)
    poses = cameras.camera_to_world[:2, :3].flatten(1)
    found = (score.offset + poses @ score.turn.T).detach()
    expected = torch.tensor([0.4, -0.4])[:, None].expand(2, 3)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert float(score.log_spread.detach().exp()) == pytest.approx(0.5, rel=0.1)
    assert sum(errors[-20:]) < sum(errors[:20])


def test_a_hidden_camera_is_zero_and_is_hidden_as_often_as_was_asked(monkeypatch):
    rule = vsd(Config(camera_dropout=0.25))
    seen: list[torch.Tensor] = []
    honest = GaussianScore.predict

    def spy(self, noisy, t, conditioning, poses):
        seen.append(poses)
        return honest(self, noisy, t, conditioning, poses)

    monkeypatch.setattr(GaussianScore, "predict", spy)
    cameras = cameras_at([10.0] * 2000)
    rule.learn(torch.zeros(2000, 3, 2, 2), cameras, 0.0, seeded())
    hidden = (seen[0] == 0).all(dim=1)
    assert 0.21 < hidden.float().mean() < 0.29
    assert torch.equal(seen[0][~hidden], cameras.camera_to_world[~hidden][:, :3].flatten(1))


@pytest.mark.parametrize("view", ["none", "words", "perp_neg"])
def test_a_views_gradient_does_not_depend_on_its_company(view: str):
    rule = vsd(Config(), view=view)
    with torch.no_grad():
        score_of(rule).turn.copy_(torch.randn(3, 12, generator=seeded(3)) * 0.1)
    azimuth = [10.0, -60.0, 100.0, 170.0]
    z = torch.randn(4, 3, 8, 8, generator=seeded(1))
    t, noise = torch.linspace(0.1, 0.9, 4), torch.randn(4, 3, 8, 8, generator=seeded(2))

    def judged(which: slice) -> torch.Tensor:
        cameras = cameras_at(azimuth[which])
        told = rule.prompts.for_views(cameras)
        return rule.judge(z[which], t[which], noise[which], told, 0.0, cameras=cameras).gradient

    together = judged(slice(None))
    for i in range(4):
        one = slice(i, i + 1)
        torch.testing.assert_close(together[one], judged(one), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prior_of_half_precision_gives_finite_gradients_near_the_exact_ones(kind: str):
    found: list[torch.Tensor] = []
    for prior_of in (HalfLearnablePrior, LearnableGaussianPrior):
        rule = vsd(Config(learning_rate=0.01), kind, "words", prior_of=prior_of)
        score_of(rule).set([0.1, 0.0, -0.1], 0.4)
        rgb = torch.rand(4, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
        output = rule(as_render(rgb), cameras_at([0, 90, 180, -90]), 0.5, seeded(1))
        assert output.loss.dtype == torch.float32 and output.metrics["nonfinite_fraction"] == 0
        assert all(parameter.isfinite().all() for parameter in rule.parameters())
        found += torch.autograd.grad(output.loss, rgb)
    half, full = found
    assert half.isfinite().all() and (half - full).norm() < 0.05 * full.norm()


def test_a_call_judges_first_then_learns_as_often_as_asked_and_sends_nothing_but_g_to_the_render():
    rgb = torch.rand(2, 8, 8, 3, generator=seeded(5))
    found = []
    for steps, rate in ((1, 0.0), (1, 0.1), (3, 0.1)):
        rule = vsd(Config(learning_steps=steps, learning_rate=rate))
        leaf = rgb.clone().requires_grad_(True)
        loss = rule(as_render(leaf), cameras_at([0, 90]), 0.0, seeded(2)).loss
        assert leaf.grad is None
        (gradient,) = torch.autograd.grad(loss, leaf)
        found.append((gradient, score_of(rule).state(), rule.state()))
        assert all(parameter.grad is None for parameter in rule.parameters())
    (first, frozen, _), (second, moved, _), (third, _, state) = found
    assert torch.equal(first, second) and torch.equal(first, third)
    assert not frozen["offset"].any() and moved["offset"].any()
    assert state["optimizer.0.step"] == 3


def test_calls_go_on_the_same_after_their_state_was_loaded():
    config = Config(learning_rate=0.05)
    rgb, cameras = torch.rand(2, 8, 8, 3, generator=seeded(5)), cameras_at([0, 90])
    first, second = vsd(config), vsd(config)
    empty = {name: tensor.clone() for name, tensor in first.state().items()}
    for step in range(3):
        first(as_render(rgb), cameras, 0.0, seeded(step))
    second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    losses = [rule(as_render(rgb), cameras, 0.0, seeded(3)).loss for rule in (first, second)]
    assert torch.equal(*losses)
    for name, tensor in first.state().items():
        assert torch.equal(tensor, second.state()[name]), name
    second.load_state(empty)
    assert second.state().keys() == empty.keys(), "the moments are gone again"


@pytest.mark.parametrize("kind", ["v_prediction", "sample"])
def test_the_gradient_is_the_same_whatever_a_second_model_that_learns_predicts(kind: str):
    other = LearnableGaussianPrior(MEANS.__getitem__, std=STD, parametrisation=kind)
    rules = [vsd(Config(), learner=learner) for learner in (None, other)]
    found: list[torch.Tensor] = []
    for rule in rules:
        score_of(rule).set([0.1, 0.0, -0.1], 0.4)
        rgb = torch.rand(3, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
        output = rule(as_render(rgb), cameras_at([0, 90, 180]), 0.5, seeded(1))
        found += torch.autograd.grad(output.loss, rgb)
    assert score_of(rules[1]).parametrisation == kind
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_a_prior_that_cannot_learn_is_refused_and_so_is_a_rule_that_was_not_begun():
    prior = GaussianPrior(MEANS.__getitem__)
    prompts = Prompts.encode(prior, "cat", "", PromptConfig(view="none"))
    rule = build(Config(), prior, prompts)
    assert isinstance(rule, Learning) and isinstance(rule, Guidance)
    with pytest.raises(InputError, match="gaussian has no score"):
        rule.begin(prior, prompts, seeded())
    with pytest.raises(ValueError, match="begin"):
        rule(as_render(torch.rand(1, 8, 8, 3)), cameras_at([0]), 0.0, seeded())


@pytest.mark.parametrize(
    "options", [{"learning_steps": 0}, {"camera_dropout": 1.5}, {"learning_rate": -1e-4}]
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Config(**options)
