"""Claims that hold for all rules: the formula, company, spaces, precision, random numbers."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from analytic import GaussianPrior
from guided_views import as_render, cameras_at
from half_precision import BrainLearnablePrior, HalfLearnablePrior
from learned_gaussian import LearnableGaussianPrior
from rules import CASES, Scene, begin, gaussian, reference_of
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.guidance.base import Guidance, needs_albedo, needs_normals
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.rule import Rule, RuleConfig
from dreamlab.systems.components import available, find

KINDS = ["epsilon", "v_prediction", "sample", "flow"]
MOSTLY_SLOW = ["epsilon", *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS[1:])]
"""For claims that are about rules more than about what a model predicts."""
CAMERAS = cameras_at([10.0, -60.0, 100.0, 170.0, 45.0], [0.0, 20.0, 0.0, 10.0, 75.0])
TIMES = torch.tensor([0.07, 0.18, 0.33, 0.62, 0.9])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(
    case: str, prior: GaussianPrior | None = None, *, view: str = "none", **options: Any
) -> Rule:
    chosen = CASES[case]
    found = find("guidance", {"name": chosen.name, **chosen.options, **options})
    prior = prior or gaussian()
    config = PromptConfig(view=view)  # type: ignore[arg-type]
    rule = found.module.build(found.config, prior, Prompts.encode(prior, "cat", "ugly", config))
    begin(rule, prior, "ugly", config)
    prior.calls.clear()
    return rule


def drawn(rule: Rule, num_views: int = 5, size: int = 4) -> tuple[Tensor, Tensor, Tensor | None]:
    z = torch.randn(num_views, 3, size, size, generator=seeded(1))
    noise = torch.randn(z.shape, generator=seeded(2))
    return z, noise, rule.draw_extra(noise, seeded(3))


def judged(rule: Rule, which: slice = slice(None), progress: float = 0.0):
    z, noise, extra = drawn(rule)
    return rule.judge(
        z[which],
        TIMES[which],
        noise[which],
        rule.prompts.for_views(CAMERAS[which]),
        progress,
        None if extra is None else extra[which],
        reference_of(rule, z[which], CAMERAS[which]),
        CAMERAS[which],
    )


def test_every_rule_of_the_frame_has_a_case():
    rules = set()
    for name in available("guidance"):
        config = find("guidance", {"name": name}).config
        if isinstance(config, RuleConfig):
            rules.add(name)
    assert rules <= {case.name for case in CASES.values()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_the_formula(case: str, kind: str):
    prior = gaussian(kind)
    rule = make(case, prior)
    z, noise, extra = drawn(rule)
    found = judged(rule).gradient
    expected = CASES[case].formula(Scene(prior), z, TIMES, noise, extra)
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-4 * scale)
    assert scale > 0.01


@pytest.mark.parametrize("case", CASES)
def test_the_loss_hands_the_gradient_to_the_pixels(case: str):
    rule = make(case, gaussian(image_size=4), timesteps={"t_min": 0.15, "t_max": 0.8})
    rgb = torch.rand(3, 4, 4, 3, generator=seeded(9)).requires_grad_(True)
    output = rule(as_render(rgb), CAMERAS[:3], 0.5, seeded(1))
    (found,) = torch.autograd.grad(output.loss, rgb)
    generator = seeded(1)
    config = rule.config.timesteps
    if config.policy == "uniform":
        t = 0.15 + 0.65 * torch.rand(3, generator=generator)
    else:
        torch.rand(3, generator=generator)
        t = torch.full((3,), 0.475)
    noise = torch.randn(3, 3, 4, 4, generator=generator)
    extra = rule.draw_extra(noise, generator)
    z = rgb.detach().permute(0, 3, 1, 2) * 2 - 1
    conditionings = rule.prompts.for_views(CAMERAS[:3])
    before = reference_of(rule, z, CAMERAS[:3])
    g = rule.judge(z, t, noise, conditionings, 0.5, extra, before, CAMERAS[:3]).gradient
    expected = 2 * g.permute(0, 2, 3, 1) / 3  # z = 2 x - 1, mean over three views
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert output.metrics["t"] == pytest.approx(float(t.mean()), rel=1e-5)
    assert isinstance(rule, Guidance)


@pytest.mark.parametrize("kind", MOSTLY_SLOW)
@pytest.mark.parametrize("case", CASES)
def test_a_views_gradient_does_not_depend_on_its_company(case: str, kind: str):
    rule = make(case, gaussian(kind), view="perp_neg")
    together = judged(rule)
    for i in (0, 2, 4):
        alone = judged(rule, slice(i, i + 1))
        for name in ("gradient", "x0"):
            many, one = getattr(together, name)[i], getattr(alone, name)[0]
            torch.testing.assert_close(many, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


@pytest.mark.parametrize("case", CASES)
def test_wrong_views_push_wherever_the_prompt_is_compared_with_another(case: str):
    plain, pushed = (judged(make(case, view=v)).gradient for v in ("interpolate", "perp_neg"))
    differs = ((plain - pushed).abs().amax(dim=(1, 2, 3)) > 1e-6).tolist()
    expected = [True, True, True, True, False]  # the last view is an overhead one
    if case == "ssd":
        assert differs[1:] == expected[1:]
    else:
        assert differs == expected


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_a_pull_to_what_the_preview_shows(case: str):
    rule = make(case)
    result, z = judged(rule), drawn(rule)[0]
    pulled = result.pull * (z - result.x0)
    scale = float(result.gradient.abs().max())
    torch.testing.assert_close(result.gradient, pulled, rtol=1e-3, atol=1e-4 * scale)
    prior = gaussian(image_size=4)
    shown = make(case, prior).denoised_preview(
        as_render(torch.rand(2, 4, 4, 3)), CAMERAS[:2], 0.0, seeded()
    )
    assert shown.shape == (2, 4, 4, 3) and 0 <= shown.min() and shown.max() <= 1


@pytest.mark.parametrize("case", CASES)
def test_pixels_can_be_pulled_instead_of_latents(case: str):
    """The analytic encoder is z = 2 x - 1, so the pull of pixels is half of that of latents."""
    rgb = torch.rand(2, 8, 8, 3, generator=seeded(9)).requires_grad_(True)

    def gradient(**weights: float) -> Tensor:
        rule = make(case, **weights)
        loss = rule(as_render(rgb), CAMERAS[:2], 0.5, seeded(1)).loss
        return torch.autograd.grad(loss, rgb)[0]

    latent, image = gradient(), gradient(latent_weight=0.0, image_weight=1.0)
    tolerance = 1e-4 * float(latent.abs().max())
    torch.testing.assert_close(4 * image, latent, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("kind", MOSTLY_SLOW)
@pytest.mark.parametrize(
    ("half_prior", "share"), [(HalfLearnablePrior, 0.05), (BrainLearnablePrior, 0.4)]
)
@pytest.mark.parametrize("case", CASES)
def test_a_prior_of_half_precision_gives_finite_gradients_near_the_exact_ones(
    case: str, half_prior: type[HalfLearnablePrior], share: float, kind: str
):
    rgb = torch.rand(4, 8, 8, 3, generator=seeded(9)).requires_grad_(True)
    options = {"timesteps": {"policy": "uniform", "t_min": 0.05, "t_max": 0.98}}

    def gradient(prior_of: type[GaussianPrior], **weights: float) -> Tensor:
        exact = gaussian(kind)
        prior = prior_of(**{f: getattr(exact, f) for f in ("mean", "std", "parametrisation")})
        rule = make(case, prior, **options, **weights)
        output = rule(as_render(rgb), CAMERAS[:4], 0.5, seeded(1))
        assert output.loss.dtype == torch.float32 and output.metrics["nonfinite_fraction"] == 0
        return torch.autograd.grad(output.loss, rgb)[0]

    half, full = gradient(half_prior), gradient(LearnableGaussianPrior)
    assert half.isfinite().all()
    assert (half - full).norm() < share * full.norm()
    assert gradient(half_prior, latent_weight=0.0, image_weight=1.0).isfinite().all()


@pytest.mark.parametrize("case", CASES)
def test_random_numbers_come_from_the_generator_alone(case: str):
    rule = make(case)
    render = as_render(torch.rand(2, 8, 8, 3, generator=seeded(5)))
    first, again, other = (rule(render, CAMERAS[:2], 0.3, seeded(s)).loss for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class FourChannels(GaussianPrior):
    """Latents of four channels: means get a fourth number."""

    def encode_text(self, prompts: list[str]) -> Tensor:
        means = super().encode_text(prompts)
        return torch.cat([means, means[..., :1]], dim=-1)


def with_normals(size: int = 8) -> Render:
    normal = torch.nn.functional.normalize(
        torch.randn(2, size, size, 3, generator=seeded(1)), dim=-1
    )
    alpha = torch.rand(2, size, size, 1, generator=seeded(2))
    render = as_render(torch.rand(2, size, size, 3))
    before = replace(render, normal=normal.flip(1) * alpha, alpha=alpha.clone(), reference=None)
    return replace(
        render,
        normal=(normal * alpha).requires_grad_(True),
        alpha=alpha.requires_grad_(True),
        reference=before,
    )


@pytest.mark.parametrize("case", CASES)
def test_every_rule_can_judge_normals(case: str):
    render = with_normals()
    rule = make(case, sees="normal")
    assert needs_normals(rule) and not needs_normals(make(case)) and not needs_normals(None)
    seen: list[Tensor] = []
    honest = rule.prior.encode_image
    rule.prior.encode_image = lambda images, generator: (  # type: ignore[method-assign]
        seen.append(images) or honest(images, generator)
    )
    rule(render, CAMERAS[:2], 0.5, seeded()).loss.backward()
    assert render.normal is not None and render.normal.grad is not None
    assert render.normal.grad.isfinite().all() and (render.normal.grad != 0).all()
    unit = render.normal / render.alpha
    torch.testing.assert_close(seen[-1], render.alpha * (unit + 1) / 2)
    assert 0 <= seen[0].min() and seen[0].max() <= 1


@pytest.mark.parametrize("case", [*CASES, "sdedit"])
def test_every_rule_can_judge_colours_without_light(case: str):
    """As it judges colours, and nothing goes back to those that are lit."""
    unlit, lit = torch.rand(2, 2, 8, 8, 3, generator=seeded(5))

    def gradients(sees: str) -> list[Tensor | None]:
        render = as_render(lit.clone().requires_grad_(True))
        albedo = unlit.clone().requires_grad_(True)
        assert render.reference is not None
        before = replace(as_render(lit), albedo=render.reference.rgb)
        shown = replace(render, albedo=albedo, reference=before)
        if sees == "rgb":
            shown = replace(as_render(albedo), albedo=render.rgb)
        rule = edit(sees) if case == "sdedit" else make(case, sees=sees)
        assert needs_albedo(rule) == (sees == "albedo") and not needs_normals(rule)
        loss = rule(shown, CAMERAS[:2], 0.5, seeded()).loss
        return list(torch.autograd.grad(loss, [albedo, render.rgb], allow_unused=True))

    found, expected = gradients("albedo"), gradients("rgb")
    assert found[1] is None and expected[1] is None
    assert found[0] is not None and expected[0] is not None
    assert found[0].any() and torch.equal(found[0], expected[0])


def edit(sees: str) -> Guidance:
    found = find("guidance", {"name": "sdedit", "sees": sees, "num_steps": 5})
    prompts = Prompts.encode(gaussian(), "cat", "ugly", PromptConfig(view="none"))
    return found.module.build(found.config, gaussian(), prompts)


@pytest.mark.parametrize("case", ["sds", "ism"])
def test_normal_and_opacity_can_be_the_latents(case: str):
    prior = FourChannels(gaussian().mean, image_size=32, latent_channels=4)
    prior.__class__ = type("Shrunk", (FourChannels,), {"latent_size": 8})
    rule = make(case, prior, sees="shape")
    render = with_normals(size=16)
    rule(render, CAMERAS[:2], 0.5, seeded()).loss.backward()
    assert not any(name == "encode_image" for name, _ in prior.calls)
    assert render.normal is not None and render.normal.grad is not None
    assert (render.normal.grad != 0).all() and (render.alpha.grad != 0).all()  # type: ignore[union-attr]


def test_what_cannot_be_seen_is_refused():
    with pytest.raises(InputError, match="4 channels, got 3 from gaussian"):
        make("sds", sees="shape")
    with pytest.raises(InputError, match="image_weight must be 0"):
        make("sds", sees="shape", image_weight=0.1)
    for sees in ("albedo", "normal"):
        with pytest.raises(InputError, match=f"looks at .*{sees}.*makes none"):
            make("sds", sees=sees)(as_render(torch.rand(1, 8, 8, 3)), CAMERAS[:1], 0.0, seeded())


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("csd", {"negative_share": 1.5}, "negative_share"),
        ("csd", {"stride": 0.0}, "stride"),
        ("csd", {"negative_share": {"from": 0, "to": -1}}, "negative_share"),
        ("nfsd", {"clean_below": 2.0}, "clean_below"),
        ("ssd", {"steady_below": -0.1}, "steady_below"),
        ("asd", {"shift": -1.0}, "shift"),
        ("asd", {"cfg_rescale": 2.0}, "cfg_rescale"),
        ("ism", {"interval": 0.0}, "interval"),
        ("ism", {"stride": 1.5}, "stride"),
        ("sdi", {"inversion_steps": 0}, "inversion_steps"),
        ("sdi", {"inversion_eta": -0.1}, "inversion_eta"),
        ("nfsd", {"latent_weight": 0.0}, "latent_weight"),
    ],
)
def test_impossible_settings_are_refused(name: str, options: dict, word: str):
    with pytest.raises(InputError, match=word):
        find("guidance", {"name": name, **options})


@pytest.mark.parametrize("case", CASES)
def test_a_step_calls_the_prior_no_more_than_its_formula_needs(case: str):
    prior = gaussian()
    rule = make(case, prior, timesteps={"policy": "uniform", "t_min": 0.5, "t_max": 0.5})
    rule(as_render(torch.rand(2, 8, 8, 3)), CAMERAS[:2], 0.0, seeded())
    found = [count for name, count in prior.calls if name == "predict"]
    assert found == [2 * rows for rows in CASES[case].rows]


def test_a_share_of_the_negative_prompt_of_zero_leaves_it_out():
    prior = gaussian()
    rule = make("csd", prior, negative_share={"from": 0.0, "to": 1.0})
    for progress, rows in ((0.0, 4), (0.5, 6), (1.0, 4)):
        prior.calls.clear()
        judged(rule, slice(2), progress)
        assert prior.calls == [("predict", rows)]
