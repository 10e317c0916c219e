"""The memory ladder: rungs change memory and not results, and the count is that of real tensors."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from tiny_models import IMAGE_SIZE, SAVERS, save_tiny_pipeline, save_tiny_sdxl
from torch import nn
from toy_run import toy_stage

from dreamlab.core.errors import InputError
from dreamlab.guidance import vsd
from dreamlab.guidance.base import Guidance, GuidanceOutput
from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.encoder_gradient import (
    EncoderGradient,
    with_latents,
    with_linear_backward,
)
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sum import Sum
from dreamlab.priors import load as loading
from dreamlab.priors import memory
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.footprint import (
    META,
    Demand,
    LiveBytes,
    Told,
    fused_attention,
    guided_step,
    network_bytes,
    step_bytes,
    weight_bytes,
)
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.memory import RUNGS, Estimate, estimate, rungs_to_fit, step_down, take
from dreamlab.renderers.flat import FlatRenderer
from dreamlab.renderers.shading import unlit
from dreamlab.representations import latent_image
from dreamlab.systems.components import find
from dreamlab.systems.prior import demands_of

VIEWS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sdxl(tmp_path_factory.mktemp("memory") / "sdxl")


def load(folder: Path, device: torch.device | str = "cpu", **options) -> DiffusionPrior:
    options = {"memory": [], **options}
    if folder.name == "flux":
        options["image_size"] = IMAGE_SIZE
    prior = load_prior(PriorConfig(model=str(folder), **options), device)
    assert isinstance(prior, DiffusionPrior)
    return prior


def step(prior: DiffusionPrior) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents, and the gradient at the pixels of a guided step."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, prior.image_size, prior.image_size, 3, generator=generator)
    images.requires_grad_(True)
    latents = prior.encode_image(images, torch.Generator().manual_seed(1))
    text = prior.encode_text(["a cat", ""])
    t = torch.tensor([0.3, 0.7])
    (latents * prior.predict(latents.detach(), t, text).eps).sum().backward()
    assert images.grad is not None
    return latents.detach(), images.grad


# The count


def test_live_bytes_are_those_of_the_tensors_alive_at_the_worst_moment():
    def chain(x: torch.Tensor) -> torch.Tensor:
        for _ in range(10):
            x = torch.relu(x + 1)  # two at a time: argument and result
        return x

    x = torch.zeros(1000)
    with LiveBytes() as live:
        chain(x)
    assert live.peak == pytest.approx(3 * 4000, rel=0.01)  # the last result, the sum, and its relu
    with LiveBytes() as graph:
        chain(x.clone().requires_grad_(True)).sum().backward()
    assert graph.peak > 10 * 4000  # a graph keeps the results of all ten
    with LiveBytes() as views:
        y = x.clone()
        y.view(10, 100).transpose(0, 1)[3:].add_(1)
    assert views.peak == 4000
    with LiveBytes() as given:
        x.view(10, 100).t().add_(1)
    assert given.peak == 0  # was there before


def test_the_count_without_values_is_that_with_values(folder: Path):
    real, twin = load(folder), load(folder, META)
    assert weight_bytes(twin) == weight_bytes(real)
    assert not any(p.is_meta for p in real.network.parameters())
    torch.manual_seed(0)
    text, side = real.embed([""]).expand(4, -1, -1), real.image_size
    with fused_attention(), LiveBytes() as live:
        images = torch.rand(2, side, side, 3).requires_grad_(True)
        latents = real.encode_image(images, None)
        noisy = latents.detach().repeat_interleave(2, dim=0)
        score = real.predict(noisy, torch.rand(4), text).eps[:2]
        (latents * score).sum().backward()
    counted = step_bytes(twin, Demand(views=2, rows=2))
    assert counted == pytest.approx(live.peak, rel=0.05)


@pytest.mark.slow
def test_more_rows_need_more_until_they_are_denoised_one_by_one(folder: Path):
    twin = load(folder, META)
    few, many = (step_bytes(twin, Demand(1, rows)) for rows in (2, 24))
    assert many > 1.2 * few
    assert take(twin, "single_rows")
    few, many = (step_bytes(twin, Demand(1, rows)) for rows in (2, 24))
    assert many < 1.1 * few


@pytest.mark.slow
def test_a_score_that_learns_is_counted_with_its_graph_as_vsd_makes_it(tmp_path: Path):
    model = save_tiny_pipeline(tmp_path / "sd")
    real, twin = load(model), load(model, META)
    prompts = prompts_of(real)
    rule = vsd.build(vsd.Config(), real, prompts)
    rule.begin(real, prompts, torch.Generator().manual_seed(0))
    counted = step_bytes(twin, Demand(VIEWS, 2, rule.config.lora))
    assert counted == pytest.approx(peak_of(rule, real), rel=0.05)
    assert counted > 1.1 * step_bytes(twin, Demand(VIEWS, 2))
    assert not twin.has_learned_scores, "counting leaves the model as it was"


PIXELS: dict[str, Any] = {"latent_weight": 0.0, "image_weight": {"from": 0.0, "to": 1.0}}
RULES: dict[str, dict[str, Any]] = {
    "sds": {"name": "sds"},
    "hifa": {"name": "sds", "image_weight": 0.01},
    "pixels alone": {"name": "sds", **PIXELS},
    "sees shape": {"name": "sds", "sees": "shape"},
    "sdedit": {"name": "sdedit", "t_start": 0.05},
    "dds": {"name": "dds", "reference_prompt": "b"},
    "dds on pixels": {"name": "dds", "reference_prompt": "b", **PIXELS},
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[DiffusionPrior, DiffusionPrior]:
    """A model with values, and without."""
    model = save_tiny_pipeline(tmp_path_factory.mktemp("pair") / "sd")
    return load(model), load(model, META)


@pytest.mark.parametrize("way", ["exact", pytest.param("linear", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "rule", [r if r == "hifa" else pytest.param(r, marks=pytest.mark.slow) for r in RULES]
)
def test_what_a_rule_encodes_and_decodes_is_counted_as_it_does_that(
    pair: tuple[DiffusionPrior, DiffusionPrior], rule: str, way: EncoderGradient
):
    real, twin = pair
    stage = toy_stage(guidance=RULES[rule], views=VIEWS, encoder_gradient=way)
    (demand,) = demands_of(stage)
    counted = step_bytes(twin, demand)
    found = find("guidance", RULES[rule])
    seen = with_linear_backward(real) if way == "linear" else real
    built = found.module.build(found.config, seen, prompts_of(real))
    if isinstance(built, Comparing):
        built.compare_with(prompts_of(real))
    assert counted == pytest.approx(peak_of(built, real), rel=0.05)


def test_the_rules_of_a_sum_take_turns_so_it_needs_what_its_largest_rule_needs(
    pair: tuple[DiffusionPrior, DiffusionPrior],
):
    real, twin = pair
    rules = {"colors": RULES["sds"], "normals": {"name": "sds", "sees": "normal"}}
    stage = toy_stage(guidance={"name": "sum", "rules": rules}, views=VIEWS)
    counted = [step_bytes(twin, demand) for demand in demands_of(stage)]

    def built(settings: dict[str, Any]) -> Guidance:
        found = find("guidance", settings)
        return found.module.build(found.config, real, prompts_of(real))

    total = Sum({name: built(settings) for name, settings in rules.items()}, real)
    assert max(counted) == pytest.approx(peak_of(total, real), rel=0.05)

    def at_once(*given: Any) -> GuidanceOutput:
        return GuidanceOutput(
            torch.stack([rule(*given).loss for rule in total.rules.values()]).sum()
        )

    assert peak_of(at_once, real) > 1.2 * max(counted), "two graphs of the encoder would not fit"


@pytest.mark.parametrize("weights", [{}, pytest.param(PIXELS, marks=pytest.mark.slow)])
def test_latents_that_are_optimised_are_counted_with_the_decoder_that_shows_them(
    pair: tuple[DiffusionPrior, DiffusionPrior], weights: dict[str, float]
):
    real, twin = pair
    side, cameras = real.image_size, cameras_at([0.0] * VIEWS)
    sizes = {"channels": real.latent_channels, "latent_size": real.latent_size, "size": side}
    config = latent_image.Config(**sizes)
    stage = toy_stage(
        representation={"name": "latent_image", **sizes},
        renderer={"name": "flat"},
        guidance={"name": "sds", **weights},
        views=VIEWS,
    )
    image = latent_image.build(config)
    image.connect(real.decode)
    found = find("guidance", stage.guidance)
    seen = with_latents(real, lambda: image.latents)
    rule = found.module.build(found.config, seen, prompts_of(real))
    with fused_attention(), LiveBytes() as live:
        render = FlatRenderer(image)(cameras, side, side, shading=unlit(cameras), training=True)
        rule(render, cameras, 0.5, torch.Generator().manual_seed(0)).loss.backward()
    (demand,) = demands_of(stage)
    assert step_bytes(twin, demand) == pytest.approx(live.peak, rel=0.05)


def prompts_of(prior: DiffusionPrior) -> Prompts:
    return Prompts.encode(prior, "a", "", PromptConfig(view="none"))


def peak_of(rule: Guidance, prior: DiffusionPrior) -> int:
    """Most bytes that a step of a rule really holds."""
    side = prior.image_size
    cameras, generator = cameras_at([0.0] * VIEWS), torch.Generator().manual_seed(0)
    with fused_attention(), LiveBytes() as live:
        rgb = torch.rand(VIEWS, side, side, 3).requires_grad_(True)
        rule(replace(as_render(rgb), normal=rgb), cameras, 0.5, generator).loss.backward()
    return live.peak


@pytest.mark.slow
def test_a_second_model_adds_its_network_and_takes_the_rungs_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(RUNGS, "vae_tiling", lambda _: False)  # slow to count
    twin = load(save_tiny_pipeline(tmp_path / "small"), META)
    other = load(save_tiny_pipeline(tmp_path / "large", block_out_channels=(64, 128)), META)
    demand = Demand(1, 2, LoraConfig(), "large")
    one, both = estimate(twin, [Demand(1, 2)]), estimate(twin, [demand], {"large": other})
    assert both.weights == one.weights + network_bytes(other.network)
    assert both.step > one.step
    options = {"can_offload": True, "learners": {"large": other}}
    rungs, _ = rungs_to_fit(twin, [demand], 0, **options)
    assert "half_precision" in rungs and other.dtype == torch.bfloat16
    assert rungs[-1] == "cpu_offload", "the prior may wait, and the network that learns is not it"
    own, _ = rungs_to_fit(
        load(tmp_path / "small", META), [Demand(1, 2, LoraConfig())], 0, **options
    )
    assert "cpu_offload" not in own


@pytest.mark.slow
@pytest.mark.parametrize("family", list(SAVERS))
def test_every_family_can_be_counted_and_needs_more_for_more(family: str, tmp_path: Path):
    twin = load(SAVERS[family](tmp_path / family), META)
    one, two = estimate(twin, [Demand(1)]), estimate(twin, [Demand(2)])
    assert estimate(twin, [Demand(1), Demand(2), Demand(1)]) == two, "the greatest of all stages"
    assert one.weights == two.weights > 0
    assert one.texts == two.texts > 0
    assert one.step < two.step < 2.5 * one.step
    assert one.total == int(1.15 * (one.weights + max(one.step, one.texts)))


def test_fused_attention_holds_no_matrix_of_weights():
    query = torch.zeros(1, 4, 2048, 8, device=META, requires_grad=True)
    matrix = 4 * 2048 * 2048 * 4
    functional = nn.functional
    with LiveBytes() as plain:
        functional.scaled_dot_product_attention(query, query, query).sum().backward()
    with fused_attention(), LiveBytes() as fused:
        functional.scaled_dot_product_attention(query, key=query, value=query).sum().backward()
    assert plain.peak > matrix > 20 * fused.peak
    assert query.grad is not None and query.grad.shape == query.shape


# The rungs


@pytest.mark.slow
def test_rungs_lower_the_count_one_after_another(folder: Path):
    twin = load(folder, META)
    before = estimate(twin, [Demand(2)]).total
    for rung in ("vae_slicing", "half_precision"):
        assert take(twin, rung)
        after = estimate(twin, [Demand(2)]).total
        assert after < before, rung
        before = after


@pytest.mark.parametrize("rung", ["vae_slicing", "single_rows", "attention_slicing"])
def test_exact_rungs_change_no_result(folder: Path, rung: memory.Rung):
    plain, saving = load(folder), load(folder, memory=[rung])
    assert saving.rungs == [rung]
    torch.testing.assert_close(step(saving), step(plain), rtol=1e-3, atol=1e-5)


def test_encoding_in_parts_is_recomputed_on_the_way_back(folder: Path):
    """Or the activations of all parts would wait for it."""

    def peak(prior: DiffusionPrior) -> int:
        images = torch.rand(4, prior.image_size, prior.image_size, 3).requires_grad_(True)
        with LiveBytes() as live:
            prior.encode_image(images, None).sum().backward()
        return live.peak

    assert peak(load(folder, memory=["vae_slicing"])) < 0.5 * peak(load(folder))


@pytest.mark.slow
def test_tiles_come_near_the_whole_and_their_gradient_reaches_every_pixel(folder: Path):
    whole, tiled = load(folder), load(folder, memory=["vae_tiling"])
    latents, gradient = step(tiled)
    assert latents.shape == step(whole)[0].shape
    assert (gradient != 0).all()
    correlation = torch.corrcoef(torch.stack([latents.flatten(), step(whole)[0].flatten()]))
    assert correlation[0, 1] > 0.8


def test_half_precision_is_taken_while_running_and_by_copies_too(folder: Path):
    from copy import copy

    prior = load(folder)
    other = copy(prior)  # as the ways back through the encoder make
    reference = step(prior)[0]
    assert take(prior, "half_precision")
    assert other.dtype == prior.network.dtype == torch.bfloat16
    torch.testing.assert_close(step(other)[0], reference, rtol=0.1, atol=0.05)
    assert not take(prior, "half_precision")


def test_a_network_with_learned_scores_is_not_halved(folder: Path):
    prior = load(folder)
    score = prior.learned_score(LoraConfig(), torch.Generator().manual_seed(0))
    while (rung := step_down(prior)) is not None:
        assert rung not in ("half_precision", "cpu_offload")
    assert all(p.dtype == torch.float32 for p in score.parameters())


@pytest.mark.slow
def test_a_ladder_ends_and_leaves_out_what_a_model_has_not(tmp_path: Path):
    taken: dict[str, list[str]] = {}
    for family in ("sd", "sd3", "if"):
        prior = load(SAVERS[family](tmp_path / family))
        while step_down(prior) is not None:
            pass
        taken[family] = list(prior.rungs)
    on_cpu = [rung for rung in RUNGS if rung != "cpu_offload"]
    assert taken["sd"] == on_cpu
    assert taken["sd3"] == [rung for rung in on_cpu if rung != "attention_slicing"]
    assert taken["if"] == [rung for rung in on_cpu if not rung.startswith("vae")]


# The choice before a run


@pytest.mark.slow
def test_as_few_rungs_as_needed_are_taken_before_the_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def fit(free: int, can_offload: bool = False) -> tuple[list[memory.Rung], Estimate]:
        return rungs_to_fit(load(folder, META), [Demand(2)], free, can_offload=can_offload)

    whole = estimate(load(folder, META), [Demand(2)]).total
    assert fit(whole)[0] == []
    some, needed = fit(int(0.8 * whole))
    assert some == ["vae_slicing"] and needed.total <= 0.8 * whole
    monkeypatch.setitem(RUNGS, "vae_tiling", lambda _: False)  # slow to count
    offloaded, less = fit(0, can_offload=True)
    assert offloaded == [rung for rung in RUNGS if rung != "vae_tiling"]
    assert less.weights < needed.weights / 2


@pytest.mark.slow
def test_small_models_are_not_counted_and_large_ones_say_what_they_need(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(
        loading, "rungs_to_fit", lambda *_, **__: pytest.fail("a small model was counted")
    )
    assert load(folder, memory="auto").rungs == []
    monkeypatch.setattr(loading, "rungs_to_fit", rungs_to_fit)
    needed = estimate(load(folder, META), [Demand()]).total
    monkeypatch.setattr(loading, "free_bytes", lambda _: int(0.9 * needed))
    with caplog.at_level(logging.INFO):
        prior = load(folder, memory="auto")
    assert prior.rungs[:1] == ["vae_slicing"]
    assert "GB of cpu" in caplog.text and "it runs with vae_slicing" in caplog.text


def test_what_is_counted_has_the_precision_of_what_will_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    """On CUDA that is half of a CPU's, which the device without values must not hide."""
    counted: list[torch.dtype] = []

    class CountedError(Exception):
        """Ends before anything is put onto a device that is not there."""

    def count(twin: DiffusionPrior, *_: object, **__: object):
        counted.append(next(twin.network.parameters()).dtype)
        raise CountedError

    monkeypatch.setattr(loading, "rungs_to_fit", count)
    monkeypatch.setattr(loading, "free_bytes", lambda _: 1)
    for device in ("cuda", "cpu"):
        with pytest.raises(CountedError):
            load_prior(PriorConfig(model=str(folder)), device)
    assert counted == [torch.float16, torch.float32]


def test_half_precision_from_the_start_loads_halves(folder: Path):
    prior = load(folder, memory=["half_precision"])
    assert prior.network.dtype == torch.bfloat16 and prior.rungs == ["half_precision"]


def test_an_unknown_rung_is_refused(tmp_path: Path):
    from dreamlab.core.config import build

    with pytest.raises(InputError, match=r"prior\.memory"):
        build(PriorConfig, {"memory": ["vae_slice"]}, "prior")
    assert build(PriorConfig, {"memory": ["single_rows"]}, "prior").memory == ["single_rows"]


def test_a_guided_step_on_the_meta_device_needs_no_weights(tmp_path: Path):
    folder = save_tiny_pipeline(tmp_path / "sd")
    twin = load(folder, META)
    guided_step(Told.nothing(twin), Demand(2, 2))
    assert all(p.is_meta for p in twin.network.parameters())
