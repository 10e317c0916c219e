"""No computation is wasted: the operations of a step are those of what its formula names.

Counted are the multiplications and additions of matrix products and convolutions, as tensors
without values go through the real classes. With F(.) for the operations of a part, R rows a view
(`rules.Case.rows`) and B views, a step of a rule is

    F(step) = F(words of the views) + R B F(denoiser, one row) + F(encoder, there and back, B)

and, for a rule that compares with a reference, its words and its encoding without a way back.
Nothing else: no decoder, no second encoding, no gradient of frozen weights.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from rules import CASES
from tiny_models import save_tiny_pipeline, save_tiny_sdxl
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dreamlab.guidance.comparing import Comparing
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.guidance.sdedit import path
from dreamlab.priors.diffusion import DiffusionPrior
from dreamlab.priors.footprint import META
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.systems.components import available, find

VIEWS, TIME, SIDE = 2, 0.5, 32
CAMERAS = cameras_at([10.0, -120.0])
FIXED: dict[str, Any] = {"policy": "uniform", "t_min": TIME, "t_max": TIME}
VAE = {
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
SD15: dict[str, dict[str, Any]] = {
    "unet": {
        "sample_size": 64,
        "block_out_channels": [320, 640, 1280, 1280],
        "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
        "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "cross_attention_dim": 768,
    },
    "vae": VAE,
    "text_encoder": {"hidden_size": 768, "max_position_embeddings": 77},
}
SDXL: dict[str, dict[str, Any]] = {
    "unet": {
        **SD15["unet"],
        "sample_size": 128,
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "use_linear_projection": True,
        "cross_attention_dim": 2048,
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 1280 + 6 * 256,
    },
    "vae": VAE,
    "text_encoder": {"hidden_size": 768},
    "text_encoder_2": {"hidden_size": 1280, "projection_dim": 1280},
}


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


def shaped(folder: Path, shapes: dict[str, dict[str, Any]]) -> Path:
    """Write other sizes into the configs of a model, whose weights no longer fit."""
    for part, changes in shapes.items():
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


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
}
SHAPES = [name if name == "tiny" else pytest.param(name, marks=pytest.mark.slow) for name in SAVERS]


@pytest.fixture(scope="module", params=SHAPES)
def prior(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = SAVERS[request.param](tmp_path_factory.mktemp("flops") / request.param)
    loaded = load_prior(PriorConfig(model=str(folder), memory=[]), META)
    assert isinstance(loaded, DiffusionPrior)
    return loaded


@pytest.fixture(scope="module")
def parts(prior: DiffusionPrior) -> dict[str, int]:
    return parts_of(prior)


def parts_of(prior: DiffusionPrior) -> dict[str, int]:
    """Operations of each part by itself."""
    prompts = prompts_of(prior)
    text = prompts.for_views(CAMERAS).positive[:1, 0]
    z, t = latents_of(prior), torch.full((1,), TIME, device=prior.device)
    return {
        "words": flops(lambda: prompts.for_views(CAMERAS)),
        "row": flops(lambda: prior.predict(z[:1], t, text)),
        "encode": flops(lambda: prior.encode_image(pictures(prior).detach(), None)),
        "encode and back": flops(
            lambda: prior.encode_image(pictures(prior), None).sum().backward()
        ),
        "decode": flops(lambda: prior.decode(z)),
    }


def pictures(prior: DiffusionPrior) -> torch.Tensor:
    return torch.zeros(VIEWS, SIDE, SIDE, 3, device=prior.device, requires_grad=True)


def latents_of(prior: DiffusionPrior) -> torch.Tensor:
    size = prior.latent_size
    return torch.zeros(VIEWS, prior.latent_channels, size, size, device=prior.device)


def prompts_of(prior: DiffusionPrior, view: str = "words") -> Prompts:
    views, one = prior.embed(["a"] * 4), prior.embed(["b"])[0]
    return Prompts(views, one, one, PromptConfig(view=view))  # type: ignore[arg-type]


def step_of(prior: DiffusionPrior, name: str, *, begin: bool = False, **options: Any) -> int:
    found = find("guidance", {"name": name, **options})
    rule = found.module.build(found.config, prior, prompts_of(prior))
    if begin:
        rule.begin(prior, prompts_of(prior, "none"), torch.Generator().manual_seed(0))
    if isinstance(rule, Comparing):
        rule.compare_with(prompts_of(prior))
    generator = torch.Generator().manual_seed(0)
    return flops(lambda: rule(as_render(pictures(prior)), CAMERAS, 0.0, generator).loss.backward())


def test_the_encoders_weights_get_no_gradient(parts: dict[str, int]):
    """Back to the pixels is as long as there, but for attention, which has two factors."""
    assert 2 * parts["encode"] <= parts["encode and back"] < 2.2 * parts["encode"]
    assert parts["encode"] < parts["decode"] and parts["words"] < 1e-2 * parts["row"]


LONG = {"ism", "sdi"}
QUICK = {"sds", "nfsd", "rfds_rev", "dds"}
"""One for each way in which rules call the denoiser; the others are counted by `-m slow`."""


@pytest.mark.parametrize(
    "case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in CASES]
)
def test_a_step_is_the_rows_of_its_formula_and_one_encoding(
    prior: DiffusionPrior, parts: dict[str, int], case: str
):
    chosen = CASES[case]
    if case in LONG and prior.latent_size == SDXL["unet"]["sample_size"]:
        pytest.skip("takes minutes, and is counted at the other shapes")
    found = step_of(prior, chosen.name, **chosen.options, timesteps=FIXED)
    rows = VIEWS * sum(chosen.rows)
    reference = parts["words"] + parts["encode"] if chosen.name == "dds" else 0
    assert found == parts["words"] + rows * parts["row"] + parts["encode and back"] + reference


@pytest.mark.parametrize("case", ["sds", pytest.param("sdi", marks=pytest.mark.slow)])
def test_in_image_space_a_decoding_takes_the_place_of_the_way_back(
    prior: DiffusionPrior, parts: dict[str, int], case: str
):
    chosen = CASES[case]
    weights: dict[str, Any] = {"latent_weight": 0.0, "image_weight": 1.0}
    found = step_of(prior, chosen.name, **chosen.options, **weights, timesteps=FIXED)
    rows = VIEWS * sum(chosen.rows)
    assert found == parts["words"] + rows * parts["row"] + parts["encode"] + parts["decode"]


@pytest.mark.slow
def test_sdedit_denoises_to_the_end_and_decodes_once(prior: DiffusionPrior, parts: dict[str, int]):
    found = step_of(prior, "sdedit", t_start=0.2, num_steps=10)
    rows = 2 * VIEWS * len(path(0.2, 10))
    assert found == parts["words"] + rows * parts["row"] + parts["encode"] + parts["decode"]


@pytest.mark.slow
def test_vsd_adds_a_learned_prediction_and_one_step_of_learning(sd_folder: Path):
    """With values, since adapters are not made on the meta device."""
    prior = load_prior(PriorConfig(model=str(sd_folder), memory=[]), "cpu")
    assert isinstance(prior, DiffusionPrior)
    parts = parts_of(prior)
    score = prior.learned_score(find("guidance", {"name": "vsd"}).config.lora, torch.Generator())
    text = prompts_of(prior, "none").for_views(CAMERAS).positive[:, 0]
    arguments = (latents_of(prior), torch.full((VIEWS,), TIME), text, torch.zeros(VIEWS, 12))

    def judge() -> None:
        with torch.no_grad():
            score.predict(*arguments)

    judged, learned = flops(judge), flops(lambda: score.predict(*arguments).eps.sum().backward())
    found = step_of(prior, "vsd", begin=True, timesteps=FIXED)
    words = 3 * parts["words"]  # those of the view, and twice those without
    pretrained = 2 * VIEWS * parts["row"]
    assert found == words + pretrained + parts["encode and back"] + judged + learned


def test_every_rule_is_counted():
    assert set(available("guidance")) == {case.name for case in CASES.values()} | {"sdedit", "vsd"}
