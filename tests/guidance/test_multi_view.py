"""Guidance by a prior of several views: groups, and where they end up on a joint Gaussian."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from joint_gaussian import JointGaussianPrior
from rules import CASES, MEANS, STD, begin, reference_of
from torch import Tensor

from dreamlab.core.cameras import CameraRanges, Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.layout import Box, Layout
from dreamlab.guidance.base import predict_scores
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.rule import Rule
from dreamlab.guidance.sds import SDS, Config
from dreamlab.guidance.semantic import SemanticConfig, SemanticPrompts
from dreamlab.priors.conditioning import unpack
from dreamlab.priors.multi_view import CAMERA_NUMBERS, camera_numbers
from dreamlab.systems.components import find
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.passes import look_at_shown
from dreamlab.systems.settings import Milestone, StageConfig
from dreamlab.systems.stage import Stage

N = 4
SPREAD = [20.0 + 90.0 * v for v in range(N)]
ONE = cameras_at(SPREAD, [10.0] * N)
TWO = cameras_at([*SPREAD, *(a + 31.0 for a in SPREAD)], [10.0] * N + [-5.0] * N)
T = torch.tensor([0.35] * N + [0.7] * N)
SOME = [
    case if case in ("sds", "csd", "ism", "sdi") else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES
]
"""All rules, but for most of them when there is time."""
MVDREAM = {"weighting": "x0", "cfg_rescale": 0.5, "cfg_rescale_of": "x0", "guidance_scale": 50.0}


def joint(**changes: Any) -> JointGaussianPrior:
    return JointGaussianPrior(**{"mean": MEANS.__getitem__, "std": STD, **changes})


def make(case: str, prior: JointGaussianPrior, *, view: Any = "none", **options: Any) -> Rule:
    chosen = CASES[case]
    found = find("guidance", {"name": chosen.name, **chosen.options, **options})
    config = PromptConfig(view=view)
    rule = found.module.build(found.config, prior, Prompts.encode(prior, "cat", "ugly", config))
    begin(rule, prior, "ugly", config)
    prior.calls.clear()
    return rule


def randn(views: int = 2 * N, seed: int = 0) -> Tensor:
    return torch.randn(views, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def judged(rule: Rule, rows: Any, cameras: Cameras = TWO) -> Tensor:
    """The gradients of some of eight views, in the order of `rows`."""
    z, noise = randn()[rows], randn(seed=1)[rows]
    extra = rule.draw_extra(randn(seed=1), torch.Generator().manual_seed(2))
    if extra is not None:
        extra = extra[rows]
    seen = cameras[rows]
    reference = reference_of(rule, z, seen)
    told = rule.prompts.for_views(seen)
    return rule.judge(z, T[rows], noise, told, 0.0, extra, reference, seen).gradient


@pytest.mark.parametrize("case", CASES)
def test_a_groups_gradient_does_not_depend_on_other_groups(case: str):
    rule = make(case, joint())
    whole = judged(rule, slice(None))
    alone = judged(rule, slice(N, 2 * N))
    torch.testing.assert_close(whole[N:], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", SOME)
def test_permuted_views_with_their_cameras_have_permuted_gradients(case: str):
    rule, order = make(case, joint()), torch.tensor([2, 0, 3, 1])
    whole = judged(rule, slice(0, N))
    torch.testing.assert_close(judged(rule, order), whole[order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", SOME)
def test_a_step_gives_the_views_of_a_group_one_time(case: str):
    """The prior refuses anything else; `shared` gives all groups one."""
    rule, times = make(case, joint()), []
    find_gradient = rule.formula
    rule.formula = lambda views: (times.append(views.t), find_gradient(views))[1]  # type: ignore[method-assign]
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(2 * N, 8, 8, 3, generator=generator)
    rule(as_render(picture), TWO, 0.5, generator)
    (t,) = times
    assert torch.equal(t, t[::N].repeat_interleave(N))
    assert (t[0] != t[N]) == (case != "sdi")  # whose time is a function of progress


def joint_mean(prompt: str, prior: JointGaussianPrior, cameras: Cameras) -> Tensor:
    """The mean picture of each view, `[B 3 4 4]`."""
    place = torch.nn.functional.normalize(cameras.position, dim=-1)
    means = torch.tensor(MEANS[prompt]) + prior.tilt * place
    return means[:, :, None, None].expand(-1, -1, 4, 4)


def expected_gradient(rule: Rule, z: Tensor, cameras: Cameras, t: float) -> Tensor:
    """The mean over the noise, exactly: the score is affine in it."""
    noise = randn(len(z), seed=5)
    told, times = rule.prompts.for_views(cameras), torch.full((len(z),), t)
    both = [rule.judge(z, times, sign * noise, told, 0.0).gradient for sign in (1, -1)]
    return (both[0] + both[1]) / 2


def test_sds_settles_at_the_mean_of_all_views_together():
    prior = joint()
    rule = make("sds", prior, weighting="x0", guidance_scale=1.0)
    z = randn(N)
    for _ in range(8):
        z = z - expected_gradient(rule, z, ONE, 0.6)
    torch.testing.assert_close(z, joint_mean("cat", prior, ONE), rtol=0, atol=1e-3)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_a_view_that_is_off_moves_the_others_as_far_as_views_depend_on_each_other(rho: float):
    """g = w alpha sigma S^-1 (z - mean), over the views."""
    prior, t = joint(rho=rho), 0.6
    rule = make("sds", prior, weighting="uniform", guidance_scale=1.0)
    mean = joint_mean("cat", prior, ONE)
    push = torch.zeros_like(mean)
    push[0] = 0.3
    found = expected_gradient(rule, mean + push, ONE, t)
    alpha, sigma = (float(x.flatten()[0]) for x in prior.alpha_sigma(torch.tensor([t])))
    noised = alpha**2 * prior.covariance() + sigma**2 * torch.eye(N)
    matrix = alpha * sigma * torch.linalg.inv(noised)
    torch.testing.assert_close(found, torch.einsum("uv,vchw->uchw", matrix, push))
    assert (found[1:].abs().max() > 1e-3) == (rho > 0)


def test_views_that_are_paired_with_the_wrong_cameras_are_pushed_to_their_own():
    prior = joint()
    rule = make("sds", prior, weighting="x0", guidance_scale=1.0)
    mean, wrong = joint_mean("cat", prior, ONE), torch.tensor([1, 2, 3, 0])
    assert expected_gradient(rule, mean, ONE, 0.6).abs().max() < 1e-5
    gradient = expected_gradient(rule, mean[wrong], ONE, 0.6)
    assert gradient.flatten(1).norm(dim=1).min() > 0.1
    away = (mean[wrong] - mean).flatten(1)
    assert ((gradient.flatten(1) * away).sum(dim=1) > 0).all()


def test_mvdreams_loss_is_sds_that_pulls_to_the_rescaled_clean_latents():
    """grad of 1/2 ||z - sg(x0h')||^2 with x0h' = x0h (r std(x0_y) / std(x0h) + 1 - r), by group."""
    prior = joint()
    rule = make("sds", prior, **MVDREAM)
    z, noise, told = randn(), randn(seed=1), rule.prompts.for_views(TWO)
    found = rule.judge(z, T, noise, told, 0.0)
    alpha, sigma = prior.alpha_sigma(T)
    noisy = alpha * z + sigma * noise
    x0_y, x0_0 = (prior.predict(noisy, T, row[:, 0]).x0 for row in (told.positive, told.negative))
    guided = x0_0 + 50.0 * (x0_y - x0_0)
    for group in (slice(0, N), slice(N, 2 * N)):
        factor = x0_y[group].std() / guided[group].std()
        target = guided[group] * (0.5 * factor + 0.5)
        torch.testing.assert_close(found.gradient[group], z[group] - target, rtol=1e-3, atol=1e-3)


def test_view_words_and_wrong_views_meet_their_own_views_in_their_groups():
    prior = joint(mean=lambda text: [len(text) / 40, text.count("e") / 9, -text.count("i") / 9])
    rule = make("sds", prior, view="perp_neg")
    told = rule.prompts.for_views(TWO)
    assert told.away.shape[1] == 2 and told.away_weights.abs().sum() > 0
    noisy, groups = randn(), {"positive": told.positive, "away": told.away}
    prior.calls.clear()
    scores = predict_scores(prior, noisy, T, groups)
    assert prior.calls == [("predict", 3 * 2 * N)]
    for name, group in groups.items():
        for j in range(group.shape[1]):
            alone = prior.predict(noisy, T, group[:, j]).eps
            torch.testing.assert_close(scores[name][:, j], alone, rtol=1e-4, atol=1e-5)


def test_sdedit_denoises_groups_apart_and_views_of_a_group_together():
    prior = joint()
    found = find("guidance", {"name": "sdedit", "t_start": 0.5, "num_steps": 8})
    rule = found.module.build(
        found.config, prior, Prompts.encode(prior, "cat", "", PromptConfig(view="none"))
    )
    z, noise = randn(), randn(seed=1)

    def edit(rows: slice, z: Tensor) -> Tensor:
        told = rule.prompts.for_views(TWO[rows])
        return rule.edit(z[rows], noise[rows], told, 0.0)

    whole = edit(slice(None), z)
    torch.testing.assert_close(edit(slice(N, 2 * N), z), whole[N:], rtol=1e-4, atol=1e-5)
    z[0] += 1
    moved = (edit(slice(None), z) - whole).abs().amax(dim=(1, 2, 3))
    assert (moved[:N] > 1e-3).all() and (moved[N:] < 1e-5).all()


SCENE = Layout(
    boxes=(
        Box(prompt="cat", center=(0.5, 0.0, 0.0), size=(0.4, 0.4, 0.4), yaw=90.0),
        Box(prompt="ugly", center=(-0.5, 0.0, 0.0), size=(0.4, 0.4, 0.4)),
    )
)


@pytest.mark.parametrize("shown", [(0, 1), (0,)])
def test_every_prompt_of_a_scene_is_told_the_cameras_of_the_picture(shown: tuple[int, ...]):
    """Of what a step shows: of a scene as it stands, of an object alone about its own front."""
    prior = joint()
    prompts = SemanticPrompts.of_layout(
        prior, SCENE, "", "", PromptConfig(view="none"), SemanticConfig()
    )
    seen = look_at_shown(ONE, SCENE, shown, 0.85)
    regions = torch.rand(N, 8, 8, 2, generator=torch.Generator().manual_seed(0)) / 2
    render = replace(as_render(torch.rand(N, 8, 8, 3)), regions=regions, shown=shown)
    told = prompts.for_views(seen, render)
    expected = camera_numbers(ONE)
    for group in (told.positive, told.negative, told.empty):
        for j in range(group.shape[1]):
            _, numbers = unpack(group[:, j], CAMERA_NUMBERS)
            torch.testing.assert_close(numbers, expected)
    assert told.positive.shape[1] == (3 if len(shown) == 2 else 1)
    found = find("guidance", {"name": "sds"})
    rule = found.module.build(found.config, prior, prompts)
    z, noise = (torch.randn(N, 3, 8, 8, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    gradient = rule.judge(z, T[:N], noise, told, 0.0).gradient
    assert gradient.isfinite().all()


class Watching(SDS):
    """Keeps the cameras that it is shown."""

    seen: list[Cameras]

    def __call__(self, render, cameras, progress, generator):
        self.seen.append(cameras)
        return super().__call__(render, cameras, progress, generator)


SMALL = {
    "steps": 3,
    "guidance": {"name": "sds"},
    "representation": {"name": "gaussians", "count": 20, "max_count": 40},
    "renderer": {"name": "splat"},
    "milestones": (Milestone(until=1.0, size=8),),
}


def test_a_stage_shows_groups_of_one_elevation_distance_and_fov_a_quarter_turn_apart():
    prior = joint()
    rule = Watching(Config(), prior, Prompts.encode(prior, "cat", "", PromptConfig(view="none")))
    rule.seen = []
    stage = Stage("only", StageConfig(**SMALL, views=8), rule, seed=0, device=torch.device("cpu"))
    stage.step(0)
    (cameras,) = rule.seen
    for group in (cameras[:N], cameras[N:]):
        for values in (group.elevation, group.distance, group.fov_y):
            assert torch.equal(values, values[:1].expand(N))
        torch.testing.assert_close(group.azimuth.diff() % 360, torch.full((3,), 90.0))
    assert cameras.elevation[0] != cameras.elevation[N]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"views": 6}, r"4 views .*, and there are 6 .*set stages\.only\.views .* such as 8"),
        ({"views": 4, "cameras": CameraRanges(azimuth=(-90.0, 90.0))}, "a whole turn"),
        ({"views": 4, "renderer": {"name": "flat"}}, "makes a picture"),
    ],
)
def test_a_stage_that_shows_no_whole_groups_is_refused_before_it_begins(changes: dict, part: str):
    config = StageConfig(**{**SMALL, **changes})
    with pytest.raises(InputError, match=part):
        build_guidance("only", config, joint(), prompt="cat", negative_prompt="", seed=0)


def test_a_rule_that_is_shown_too_few_views_says_so():
    rule = make("sds", joint())
    with pytest.raises(InputError, match="there are 3"):
        rule(as_render(torch.rand(3, 8, 8, 3)), ONE[:3], 0.0, torch.Generator())
