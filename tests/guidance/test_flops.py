"""No computation is wasted: the operations of a step are those of what its formula names.

Counted are the multiplications and additions of matrix products and convolutions, as tensors
without values go through the real classes. With F(.) for the operations of a part, R rows a view
(`rules.Case.rows`) and B views, a step of a rule is

    F(step) = F(words of the views) + R B F(denoiser, one row) + F(encoder, there and back, B)

and, for a rule that compares with a reference, its words and its encoding without a way back; for
one that learns, a prediction by what it learns, and one there and back. Nothing else: no decoder,
no second encoding, no gradient of frozen weights. Of a model of several views, a row is its part of
a group's call.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from real_shapes import SD15, SDXL, shaped
from rules import CASES
from tiny_models import (
    save_tiny_flux,
    save_tiny_if,
    save_tiny_mvdream,
    save_tiny_pipeline,
    save_tiny_sd3,
    save_tiny_sdxl,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dreamlab.core.cameras import Cameras
from dreamlab.core.layout import Box, Layout
from dreamlab.core.render import Render
from dreamlab.guidance import vsd
from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sdedit import path
from dreamlab.guidance.semantic import SemanticConfig, SemanticPrompts
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.footprint import META, new_score
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.multi_view import MultiView, group_size
from dreamlab.systems.components import available, find

TIME, SIDE = 0.5, 32
AROUND = cameras_at([10.0, -120.0, 100.0, 170.0])
FIXED: dict[str, Any] = {"policy": "uniform", "t_min": TIME, "t_max": TIME}


class NumbersAre(TorchDispatchMode):
    """Lets code read numbers from tensors without values: all of them are `value`."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return self.value
        return func(*args, **(kwargs or {}))


def flops(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    with NumbersAre(TIME), counter:
        work()
    return counter.get_total_flops()


ONE_BLOCK: dict[str, Any] = {
    "block_out_channels": (32,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "mid_block_type": None,
    "up_block_types": ("CrossAttnUpBlock2D",),
}
SAVERS: dict[str, Callable[[Path], Path]] = {
    "tiny": lambda folder: save_tiny_pipeline(folder, **ONE_BLOCK),
    "sd15": lambda folder: shaped(save_tiny_pipeline(folder), SD15),
    "sdxl": lambda folder: shaped(save_tiny_sdxl(folder), SDXL),
    "tiny sd3": save_tiny_sd3,
    "tiny flux": save_tiny_flux,
    "tiny if": save_tiny_if,
    "tiny mvdream": save_tiny_mvdream,
}
OWN_SIZE: dict[str, dict[str, Any]] = {"tiny flux": {"image_size": SIDE}}
SHAPES = [name if name == "tiny" else pytest.param(name, marks=pytest.mark.slow) for name in SAVERS]


@pytest.fixture(scope="module", params=SHAPES)
def prior(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    return shaped_prior(request.param, tmp_path_factory.mktemp("flops"))


def shaped_prior(shape: str, folder: Path) -> DiffusionPrior:
    model = str(SAVERS[shape](folder / shape))
    loaded = load_prior(PriorConfig(model=model, memory=[], **OWN_SIZE.get(shape, {})), META)
    assert isinstance(loaded, DiffusionPrior)
    return loaded


def cameras_of(prior: DiffusionPrior) -> Cameras:
    """Those of a step: one group of a model of several views, else two."""
    return AROUND if isinstance(prior, MultiView) else AROUND[:2]


@pytest.fixture(scope="module")
def parts(prior: DiffusionPrior) -> dict[str, int]:
    return parts_of(prior)


def parts_of(prior: DiffusionPrior) -> dict[str, int]:
    """Operations of each part by itself."""
    prompts, cameras = prompts_of(prior), cameras_of(prior)
    count = group_size(prior, len(cameras))
    text = prompts.for_views(cameras).positive[:count, 0]
    z, t = latents_of(prior), torch.full((count,), TIME, device=prior.device)
    return {
        "words": flops(lambda: prompts.for_views(cameras)),
        "row": flops(lambda: prior.predict(z[:count], t, text)) // count,
        "encode": flops(lambda: prior.encode_image(pictures(prior).detach(), None)),
        "encode and back": flops(
            lambda: prior.encode_image(pictures(prior), None).sum().backward()
        ),
        "decode": flops(lambda: prior.decode(z)),
    }


def pictures(prior: DiffusionPrior) -> torch.Tensor:
    views = len(cameras_of(prior))
    return torch.zeros(views, SIDE, SIDE, 3, device=prior.device, requires_grad=True)


def latents_of(prior: DiffusionPrior) -> torch.Tensor:
    size, views = prior.latent_size, len(cameras_of(prior))
    return torch.zeros(views, prior.latent_channels, size, size, device=prior.device)


def prompts_of(prior: DiffusionPrior, view: str = "words") -> Prompts:
    views, one = prior.embed(["a"] * 4), prior.embed(["b"])[0]
    config = PromptConfig(view=view)  # type: ignore[arg-type]
    return Prompts(views, one, one, config, prior=prior)


def step_of(
    prior: DiffusionPrior,
    name: str,
    *,
    begin: bool = False,
    prompts: Prompts | None = None,
    render: Render | None = None,
    **options: Any,
) -> int:
    found = find("guidance", {"name": name, **options})
    rule = found.module.build(found.config, prior, prompts or prompts_of(prior))
    if begin:
        rule.begin(prior, prompts_of(prior, "none"), torch.Generator().manual_seed(0))
    if isinstance(rule, Comparing):
        rule.compare_with(prompts_of(prior))
    generator = torch.Generator().manual_seed(0)
    shown, cameras = render or as_render(pictures(prior)), cameras_of(prior)
    return flops(lambda: rule(shown, cameras, 0.0, generator).loss.backward())


def test_the_encoders_weights_get_no_gradient(prior: DiffusionPrior, parts: dict[str, int]):
    """Back to the pixels is as long as there, but for attention, which has two factors."""
    assert 2 * parts["encode"] <= parts["encode and back"] <= 2.2 * parts["encode"]
    if prior.space.factor == 1:
        assert parts["decode"] == parts["encode"] == 0, "pixels are not encoded"
        return
    assert 0 < parts["encode"] < parts["decode"]
    if not prior.name.startswith("tiny "):
        assert parts["words"] < 1e-2 * parts["row"]


LONG = {("sdxl", "ism"), ("sdxl", "csm"), ("sdxl", "sdi"), ("sdxl", "objects")}
"""What takes minutes; it is counted at the other shapes."""
QUICK = {"sds", "nfsd", "rfds_rev", "dds"}
"""One for each way in which rules call the denoiser; the others are counted by `-m slow`."""


def is_quick(shape: str, case: str) -> bool:
    return shape == "tiny" and case in QUICK


@pytest.mark.parametrize(
    ("prior", "case"),
    [
        pytest.param(shape, case, marks=() if is_quick(shape, case) else pytest.mark.slow)
        for case in CASES
        for shape in SAVERS
        if (shape, case) not in LONG and case != "vsd"  # which has a test of its own
    ],
    indirect=["prior"],
)
def test_a_step_is_the_rows_of_its_formula_and_one_encoding(
    prior: DiffusionPrior, parts: dict[str, int], case: str
):
    chosen = CASES[case]
    found = step_of(prior, chosen.name, **chosen.options, timesteps=FIXED)
    rows = len(cameras_of(prior)) * sum(chosen.rows)
    reference = parts["words"] + parts["encode"] if chosen.name == "dds" else 0
    assert found == parts["words"] + rows * parts["row"] + parts["encode and back"] + reference


@pytest.mark.parametrize("case", ["sds", pytest.param("sdi", marks=pytest.mark.slow)])
def test_in_image_space_a_decoding_takes_the_place_of_the_way_back(
    prior: DiffusionPrior, parts: dict[str, int], case: str
):
    chosen = CASES[case]
    weights: dict[str, Any] = {"latent_weight": 0.0, "image_weight": 1.0}
    found = step_of(prior, chosen.name, **chosen.options, **weights, timesteps=FIXED)
    rows = len(cameras_of(prior)) * sum(chosen.rows)
    assert found == parts["words"] + rows * parts["row"] + parts["encode"] + parts["decode"]


@pytest.mark.slow
def test_sdedit_denoises_to_the_end_and_decodes_once(prior: DiffusionPrior, parts: dict[str, int]):
    found = step_of(prior, "sdedit", t_start=0.2, num_steps=10)
    rows = 2 * len(cameras_of(prior)) * len(path(0.2, 10))
    assert found == parts["words"] + rows * parts["row"] + parts["encode"] + parts["decode"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prior", "view"),
    [
        (shape, view)
        for view in ("perp_neg", "objects")
        for shape in SAVERS
        if shape != "tiny mvdream" and (shape, view) not in LONG
    ],
    indirect=["prior"],
)
@pytest.mark.parametrize("name", ["sds", "csd", "ism"])
def test_wrong_views_and_prompts_of_objects_cost_their_rows(
    prior: DiffusionPrior, parts: dict[str, int], name: str, view: str
):
    """Of every call that compares the prompt with another one."""
    views, rows = len(cameras_of(prior)), {"sds": 2, "csd": 2, "ism": 2 + 4}[name]
    options: dict[str, Any] = {"interval": 0.05} if name == "ism" else {}
    if view == "perp_neg":
        options |= {"prompts": prompts_of(prior, "perp_neg")}
        words, more = 1, 2
    else:
        options |= {"prompts": of_two_objects(prior), "render": with_objects(prior)}
        words, more = 3, 2
    found = step_of(prior, name, timesteps=FIXED, **options)
    denoised = views * (rows + more) * parts["row"]
    assert found == words * parts["words"] + denoised + parts["encode and back"]


def of_two_objects(prior: DiffusionPrior) -> SemanticPrompts:
    size = (0.5, 0.5, 0.5)
    layout = Layout((Box("a", (0.0, -0.5, 0.0), size), Box("b", (0.0, 0.5, 0.0), size)))
    scene, *objects = (prompts_of(prior) for _ in range(3))
    return SemanticPrompts(scene, objects, layout, SemanticConfig(), prior.latent_size)


def with_objects(prior: DiffusionPrior) -> Render:
    render = as_render(pictures(prior))
    regions = torch.zeros(*render.rgb.shape[:3], 2, device=prior.device)
    return replace(render, regions=regions, shown=(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("shape", SAVERS)
def test_vsd_adds_a_learned_prediction_and_one_step_of_learning(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its optimiser multiplies no matrices; the fused one does not know tensors without values."""

    class Unfused(torch.optim.AdamW):
        def __init__(self, parameters: Any, *, lr: float, fused: bool) -> None:
            super().__init__(parameters, lr=lr)

    monkeypatch.setattr(torch.optim, "AdamW", Unfused)
    prior = shaped_prior(shape, tmp_path)
    parts, views = parts_of(prior), len(cameras_of(prior))
    score = new_score(prior, vsd.Config().lora)
    text = prompts_of(prior, "none").for_views(cameras_of(prior)).positive[:, 0]
    t, poses = torch.full((views,), TIME, device=META), torch.zeros(views, 12, device=META)

    def judge() -> None:
        with torch.no_grad():
            score.predict(latents_of(prior), t, text, poses)

    def learn() -> None:
        score.predict(latents_of(prior), t, text, poses).eps.sum().backward()

    judged, learned = flops(judge), flops(learn)
    assert judged > views * parts["row"] and learned > 2 * judged
    found = step_of(prior, "vsd", begin=True, timesteps=FIXED)
    words = 3 * parts["words"]  # those of the view, and twice those without
    pretrained = 2 * views * parts["row"]
    assert found == words + pretrained + parts["encode and back"] + judged + learned


def test_every_rule_is_counted():
    others = {"sdedit", "sum"}  # a sum costs what its rules do
    assert set(available("guidance")) == {case.name for case in CASES.values()} | others
