"""Claims about prompts of objects: shares, formula, fixed points, view words of objects."""

from dataclasses import replace

import pytest
import torch
from analytic import GaussianPrior, exact_eps
from guided_views import cameras_at
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.layout import Box, Layout
from dreamlab.core.render import Render
from dreamlab.guidance.prompts import PromptConfig, Prompts, ViewConditionings, view_index
from dreamlab.guidance.rule import Rule
from dreamlab.guidance.semantic import (
    SemanticConfig,
    SemanticPrompts,
    cameras_about,
    latent_masks,
    prompt_shares,
)
from dreamlab.systems.components import find

SIZE, STD = 8, 0.4
MEANS = {
    "cat": (0.8, -0.4, 0.0),
    "dog": (-0.6, 0.5, 0.2),
    "both": (0.1, 0.1, 0.7),
    "": (0.0, 0.2, -0.3),
    "ugly": (-0.4, 0.3, 0.0),
}
LAYOUT = Layout(
    (Box("cat", (0.0, -0.5, 0.0), (0.6, 0.6, 0.6)), Box("dog", (0.0, 0.5, 0.0), (0.6, 0.6, 0.6)))
)
GUIDED = ("sds", "asd", "ism", "sdi", "rfds_rev")
RULES = (*GUIDED, "csd", "nfsd", "ssd")


def mean_of(prompt: str) -> tuple[float, float, float]:
    """View words shift the mean, so that they can be told apart."""
    name, _, view = prompt.partition(", ")
    r, g, b = MEANS[name]
    return (r + 0.3 * len(view) / 20, g - 0.2 * ("back" in view), b)


def prior_of(kind: str = "epsilon") -> GaussianPrior:
    return GaussianPrior(mean=mean_of, std=STD, parametrisation=kind, image_size=SIZE)


def semantic(
    prior: GaussianPrior, view: str = "none", negative: str = "", share: float = 0.0, **options
) -> SemanticPrompts:
    config = PromptConfig(**{"view": view, **options})
    return SemanticPrompts.of_layout(
        prior, LAYOUT, "both", negative, config, SemanticConfig(scene_share=share, margin=0.0)
    )


def halves(num_views: int = 1, shown: tuple[int, ...] = (0, 1), size: int = SIZE) -> Render:
    """The cat fills the left quarter, the dog the right one; the middle is empty."""
    regions = torch.zeros(num_views, size, size, 2)
    regions[:, :, : size // 4, 0] = 1.0
    regions[:, :, -size // 4 :, 1] = 1.0
    regions[..., [k for k in range(2) if k not in shown]] = 0.0
    alpha = regions.sum(dim=-1, keepdim=True)
    rgb = torch.zeros(num_views, size, size, 3)
    return Render(rgb=rgb, alpha=alpha, depth=alpha, regions=regions, shown=shown)


def make(name: str, prior: GaussianPrior, prompts: Prompts, **options) -> Rule:
    found = find("guidance", {"name": name, **options})
    return found.module.build(found.config, prior, prompts)


def drawn(rule: Rule, count: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(count, 3, SIZE, SIZE, generator=generator) for _ in range(2))
    t = torch.linspace(0.3, 0.8, count)
    return z, t, noise, rule.draw_extra(noise, generator)


# --- shares


def random_regions(size: int = 24, objects: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    share = (3 * torch.randn(2, size, size, objects, generator=generator)).softmax(dim=-1)
    alpha = torch.rand(2, size, size, 1, generator=generator)
    alpha = torch.where(alpha < 0.4, 0.0, alpha)
    alpha[:, :, : size // 2] = 0.0
    return share * alpha


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.3])
def test_masks_grow_into_what_is_empty_only_and_shares_partition(margin: float):
    regions = random_regions()
    plain, grown = latent_masks(regions, 8, 0.0), latent_masks(regions, 8, margin)
    torch.testing.assert_close(plain.mean(dim=(2, 3)), regions.mean(dim=(1, 2)))
    assert (grown >= plain - 1e-6).all() and (grown.sum(dim=1) <= 1 + 1e-5).all()
    full = plain.sum(dim=1, keepdim=True).expand_as(plain) > 1 - 1e-6
    torch.testing.assert_close(grown[full], plain[full], atol=1e-5, rtol=0)
    for share in (0.0, 0.3, 1.0, None):
        shares = prompt_shares(grown, share)
        assert shares.shape[1] == 3 + (share is not None)
        assert shares.min() > -1e-6
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 8, 8))
    assert (grown > plain + 1e-3).any() == (margin >= 0.1)


def test_masks_take_no_gradient():
    regions = random_regions().requires_grad_()
    assert not latent_masks(regions, 8, 0.1).requires_grad


# --- the formula


def by_hand(prior: GaussianPrior, name: str, z: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """g of SDS for one prompt, without dreamlab's guidance."""
    alpha, sigma = prior.alpha_sigma(t)
    noisy = alpha * z + sigma * noise

    def score(prompt: str) -> Tensor:
        mu = torch.tensor(mean_of(prompt))[:, None, None]
        return exact_eps(noisy, alpha, sigma, mu, STD)

    guided = score("ugly") + 4.0 * (score(name) - score("ugly"))
    return sigma**2 * (guided - noise)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_sds_is_the_sum_of_the_gradients_of_its_prompts(kind: str, share: float):
    prior = prior_of(kind)
    rule = make("sds", prior, semantic(prior, negative="ugly", share=share), guidance_scale=4.0)
    z, t, noise, _ = drawn(rule)
    render = halves(2)
    assert render.regions is not None
    conditionings = rule.prompts.for_views(cameras_at([0.0, 90.0]), render)
    found = rule.judge(z, t, noise, conditionings, 0.0).gradient
    masks = (1 - share) * render.regions.permute(0, 3, 1, 2)
    rest = 1 - masks.sum(dim=1, keepdim=True)
    expected = sum(
        m[:, None] * by_hand(prior, name, z, t, noise)
        for m, name in zip(
            torch.cat([masks, rest], dim=1).unbind(1), ("cat", "dog", "both"), strict=True
        )
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("view", ["none", "words", "perp_neg"])
@pytest.mark.parametrize("name", RULES)
def test_every_rule_judges_each_region_as_its_prompt_alone_would(name: str, view: str):
    """Where a prompt has all of a latent, the gradient there is that of a run with this prompt."""
    t = torch.tensor([0.5, 0.8])  # below 0.1 ssd looks at all latents of a view at once
    prior = prior_of()
    together = make(name, prior, semantic(prior, view, negative="ugly"))
    z, _, noise, extra = drawn(together)
    cameras = cameras_at([20.0, 140.0])
    conditionings = together.prompts.for_views(cameras, halves(2))
    found = together.judge(z, t, noise, conditionings, 0.5, extra).gradient
    quarter = SIZE // 4
    columns = {0: slice(0, quarter), 1: slice(SIZE - quarter, SIZE), 2: slice(quarter, -quarter)}
    for k, prompt in enumerate(("cat", "dog", "both")):
        alone = make(name, prior, Prompts.encode(prior, prompt, "ugly", together.prompts.config))
        about = cameras_about(LAYOUT.boxes[k], cameras) if k < 2 else cameras
        own = alone.judge(z, t, noise, alone.prompts.for_views(about), 0.5, extra).gradient
        where = columns[k]
        torch.testing.assert_close(found[..., where], own[..., where], rtol=1e-3, atol=1e-4)


def test_each_region_comes_to_rest_at_the_guided_mean_of_its_own_prompt():
    prior = prior_of()
    rule = make("sds", prior, semantic(prior), guidance_scale=2.0, weighting="x0")
    conditionings = rule.prompts.for_views(cameras_at([0.0, 0.0]), halves(2))
    z = torch.zeros(1, 3, SIZE, SIZE)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    pair = torch.cat([noise, -noise])  # the score is affine in the noise: their mean is exact
    for _ in range(60):
        g = rule.judge(z.expand(2, -1, -1, -1), torch.full((2,), 0.6), pair, conditionings, 0.0)
        z = z - 0.5 * g.gradient.mean(dim=0, keepdim=True)
    for prompt, column in (("cat", 0), ("dog", -1), ("both", SIZE // 2)):
        mu, mu_0 = torch.tensor(mean_of(prompt)), torch.tensor(mean_of(""))
        expected = (mu_0 + 2.0 * (mu - mu_0))[:, None].expand(3, SIZE)
        torch.testing.assert_close(z[0, :, :, column], expected, atol=2e-2, rtol=0)


def test_negative_prompts_that_repeat_the_prompt_are_those_of_the_objects():
    prior = prior_of()
    prior.mean = lambda p: MEANS.get(p.removesuffix(", bad"), (0, 0, 0)) if p else MEANS[""]
    prompts = semantic(prior, negative="{prompt}, bad", **{})
    repeated = SemanticPrompts.of_layout(
        prior,
        LAYOUT,
        "both",
        "",
        PromptConfig(view="none", negative="{prompt}, bad"),
        SemanticConfig(margin=0.0),
    )
    views = cameras_at([0.0])
    assert prompts.for_views(views, halves()).negative.shape[1] == 1
    found = repeated.for_views(views, halves())
    assert found.negative.shape[1] == found.positive.shape[1] == 3
    assert torch.equal(found.negative, found.positive)  # this prior does not hear "bad"


# --- objects shown alone


def test_an_object_alone_has_the_whole_picture_at_the_price_of_one_prompt():
    prior = prior_of()
    prompts = semantic(prior, "words")
    cameras = cameras_at([10.0, 200.0])
    found = prompts.for_views(cameras, halves(2, shown=(1,)))
    own = prompts.objects[1].for_views(cameras_about(LAYOUT.boxes[1], cameras))
    assert found.shares is None and torch.equal(found.positive, own.positive)


def test_a_call_costs_a_row_for_each_prompt_and_one_for_the_empty_prompt():
    prior = prior_of()
    rule = make("sds", prior, semantic(prior))
    for shown, rows in (((0, 1), 4), ((0,), 2)):
        prior.calls.clear()
        rule(halves(2, shown), cameras_at([0.0, 90.0]), 0.0, torch.Generator().manual_seed(0))
        assert [n for call, n in prior.calls if call == "predict"] == [2 * rows]


def test_objects_shown_without_the_others_share_what_is_empty():
    layout = Layout((*LAYOUT.boxes, Box("both", (0.0, 0.0, 0.8), (0.2, 0.2, 0.2))))
    prior = prior_of()
    prompts = SemanticPrompts.of_layout(
        prior, layout, "both", "", PromptConfig(view="none"), SemanticConfig(margin=0.0)
    )
    render = halves()
    assert render.regions is not None
    regions = torch.cat([render.regions, torch.zeros(1, SIZE, SIZE, 1)], dim=-1)
    found = prompts.for_views(cameras_at([0.0]), replace(render, regions=regions))
    assert found.positive.shape[1] == 2 and found.shares is not None
    torch.testing.assert_close(found.shares[0, :, 0, SIZE // 2], torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found.shares[0, :, 0, 0], torch.tensor([1.0, 0.0]))


def test_a_render_without_regions_is_refused():
    render = replace(halves(), regions=None)
    with pytest.raises(ValueError, match="need a render with regions"):
        semantic(prior_of()).for_views(cameras_at([0.0]), render)


# --- views


def test_a_view_does_not_depend_on_the_others_of_its_batch():
    prior = prior_of()
    rule = make("sds", prior, semantic(prior, "perp_neg", share=0.3))
    z, t, noise, _ = drawn(rule, 3)
    cameras = cameras_at([0.0, 100.0, -150.0], [0.0, 30.0, 70.0])
    render = halves(3)
    assert render.regions is not None
    regions = render.regions * torch.tensor([1.0, 0.5, 0.8])[:, None, None, None]

    def judged(which: slice) -> Tensor:
        seen = replace(halves(len(regions[which])), regions=regions[which])
        conditionings: ViewConditionings = rule.prompts.for_views(cameras[which], seen)
        return rule.judge(z[which], t[which], noise[which], conditionings, 0.0).gradient

    together = judged(slice(0, 3))
    for i in range(3):
        torch.testing.assert_close(judged(slice(i, i + 1))[0], together[i], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("yaw", "front"), [(0.0, 0.0), (90.0, 0.0), (30.0, 60.0), (-120.0, 10.0)])
def test_an_object_that_is_turned_has_its_own_front(yaw: float, front: float):
    box = Box("cat", (0.0, 0.0, 0.0), (0.4, 0.4, 0.4), yaw=yaw, front=front)
    azimuth = torch.tensor([0.0, 75.0, 170.0, -100.0])
    cameras = cameras_at((azimuth + yaw + front).tolist(), [0.0, 20.0, 40.0, -10.0])
    seen = cameras_about(box, cameras)
    torch.testing.assert_close(seen.azimuth, azimuth, atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.elevation, cameras.elevation, atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.distance, cameras.distance)
    assert torch.equal(seen.camera_to_world, cameras.camera_to_world)


def test_two_objects_of_one_view_may_show_different_sides():
    boxes = (
        Box("cat", (0.0, -0.5, 0.0), (0.4, 0.4, 0.4), yaw=180.0, views={"back": "rear"}),
        Box("dog", (0.0, 0.5, 0.0), (0.4, 0.4, 0.4)),
    )
    heard: list[str] = []
    prior = prior_of()
    prior.mean = lambda prompt: heard.append(prompt) or [float(len(heard)), 0.0, 0.0]
    config = PromptConfig(view="words")
    prompts = SemanticPrompts.of_layout(prior, Layout(boxes), "both", "", config, SemanticConfig())
    found = prompts.for_views(cameras_at([0.0]), halves())
    said = [heard[int(row[0, 0]) - 1] for row in found.positive[0]]
    assert said == ["cat, rear", "dog, front view", "both, front view"]


def test_an_object_below_the_camera_is_seen_from_above():
    one: Cameras = cameras_at([0.0], [45.0])
    low = Box("cat", (0.9, 0.0, -0.9), (0.1, 0.1, 0.1))
    config = PromptConfig()
    assert view_index(one, config).item() == 0
    assert view_index(cameras_about(low, one), config).item() == 3
