"""ControlNets: the residuals are those of diffusers, and what does not fit is refused early."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    IMAGE_SIZE,
    POOLED,
    SAVERS,
    WIDTH,
    save_tiny_controlnet,
    save_tiny_pipeline,
    save_tiny_sdxl,
)

from dreamlab.core.errors import InputError, MissingError
from dreamlab.priors.controlnet import Control
from dreamlab.priors.footprint import META, Demand, step_bytes, weight_bytes
from dreamlab.priors.image_prompt import ImagePrompt
from dreamlab.priors.load import PriorConfig, known_models, load_prior, resolve_model
from dreamlab.priors.memory import step_down
from dreamlab.priors.unet import UNetPrior

OF_SDXL: dict[str, Any] = {
    "cross_attention_dim": 2 * WIDTH,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": POOLED + 6 * 8,
}
T = torch.tensor([0.2, 0.5, 0.8])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("controls")
    save_tiny_pipeline(root / "sd")
    save_tiny_sdxl(root / "sdxl")
    for seed, name in enumerate(("depth", "normal")):
        save_tiny_controlnet(root / f"sd-{name}", seed=seed)
        save_tiny_controlnet(root / f"sdxl-{name}", seed=seed, **OF_SDXL)
    return root


def load(root: Path, family: str = "sd", **options: Any) -> UNetPrior:
    names = [str(root / f"{family}-{sees}") for sees in ("depth", "normal")]
    config = PriorConfig(model=str(root / family), memory=[], **options)
    prior = load_prior(config, options.pop("device", "cpu"), controls=[*names, names[0]])
    assert isinstance(prior, UNetPrior) and list(prior.controls) == names
    return prior


def inputs(prior: UNetPrior) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    noisy = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return noisy, T, prior.encode_text(["a cat", "", "a dog"])


def shown(prior: UNetPrior, *strengths: float) -> Control:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(3, len(strengths), 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator)
    return Control(tuple(prior.controls)[: len(strengths)], strengths, pictures)


@pytest.fixture(scope="module")
def prior(root: Path) -> UNetPrior:
    return load(root)


@pytest.mark.parametrize("family", [pytest.param("sd", marks=pytest.mark.slow), "sdxl"])
def test_the_prediction_is_the_unets_with_the_sum_of_residuals(root: Path, family: str):
    """As the pipelines of diffusers call U-Net and ControlNets, loaded apart from ours."""
    from diffusers import MultiControlNetModel
    from diffusers.models import ControlNetModel, UNet2DConditionModel

    prior = load(root, family)
    noisy, t, text = inputs(prior)
    control = shown(prior, 0.7, 1.3)
    nets = [ControlNetModel.from_pretrained(name) for name in prior.controls]
    told = prior.told(text)
    call: dict[str, Any] = {
        "encoder_hidden_states": told.tokens,
        "added_cond_kwargs": told.added,
        "return_dict": False,
    }
    times = prior.schedule.time(t)
    with torch.no_grad():
        down, middle = MultiControlNetModel(nets)(
            noisy,
            times,
            controlnet_cond=list(control.pictures.unbind(1)),
            conditioning_scale=[0.7, 1.3],
            **call,
        )
        unet = UNet2DConditionModel.from_pretrained(root / family / "unet")
        expected = unet(
            noisy,
            times,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
            **call,
        )[0]
    found = prior.predict(noisy, t, text, control)
    torch.testing.assert_close(found.eps, expected, rtol=1e-4, atol=1e-5)
    assert (found.eps - prior.predict(noisy, t, text).eps).abs().max() > 0.01
    assert not found.eps.requires_grad


def test_strength_zero_changes_nothing_and_rows_do_not_depend_on_their_company(
    prior: UNetPrior, monkeypatch: pytest.MonkeyPatch
):
    noisy, t, text = inputs(prior)
    nothing = prior.predict(noisy, t, text, shown(prior, 0.0)).eps
    torch.testing.assert_close(nothing, prior.predict(noisy, t, text).eps)
    control = shown(prior, 1.0, 0.5)
    whole = prior.predict(noisy, t, text, control).eps
    alone = Control(control.names, control.strengths, control.pictures[1:2])
    one = prior.predict(noisy[1:2], t[1:2], text[1:2], alone).eps
    torch.testing.assert_close(whole[1:2], one, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(prior.running, "max_rows", 2)
    split = prior.predict(noisy, t, text, control).eps
    torch.testing.assert_close(split, whole, rtol=1e-4, atol=1e-5)


def test_repeating_keeps_a_views_rows_together():
    control = Control(
        ("a",), (1.0,), torch.arange(2.0)[:, None, None, None, None].expand(2, 1, 3, 1, 1)
    )
    assert control.repeated(3).pictures[:, 0, 0, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.slow
def test_they_share_the_ladder_of_memory_and_are_counted(root: Path):
    prior, plain = load(root), load_prior(PriorConfig(model=str(root / "sd"), memory=[]), "cpu")
    assert isinstance(plain, UNetPrior)
    own = sum(p.numel() * 4 for net in prior.controls.values() for p in net.parameters())
    assert weight_bytes(prior) == weight_bytes(plain) + own
    noisy, t, text = inputs(prior)
    before = prior.predict(noisy, t, text, shown(prior, 1.0)).eps
    taken = []
    while (rung := step_down(prior)) is not None:
        taken.append(rung)
    assert {"attention_slicing", "half_precision"} <= set(taken)
    assert {net.dtype for net in prior.controls.values()} == {torch.bfloat16}
    after = prior.predict(noisy, t, text, shown(prior, 1.0)).eps
    assert (after - before).std() < 0.05 * before.std()
    twin = load_prior(
        PriorConfig(model=str(root / "sd"), memory=[]), META, controls=list(prior.controls)
    )
    bare = load_prior(PriorConfig(model=str(root / "sd"), memory=[]), META)
    assert isinstance(twin, UNetPrior) and isinstance(bare, UNetPrior)
    assert step_bytes(twin, Demand(2, 2)) > step_bytes(bare, Demand(2, 2))


def test_what_does_not_fit_is_refused(root: Path, tmp_path: Path):
    def refused(model: Path, control: str, match: str) -> None:
        with pytest.raises(InputError, match=match):
            load_prior(PriorConfig(model=str(model)), "cpu", controls=[control])

    flow = SAVERS["flux"](tmp_path / "flux")
    refused(flow, "sd15-depth", r"FLUX\.1 model, which ControlNets \(sd15-depth\) cannot steer")
    prompt = ImagePrompt(image="chair.png", adapter="x.safetensors")
    with pytest.raises(InputError, match="which an image prompt cannot steer here"):
        load_prior(PriorConfig(model=str(flow), image_prompt=prompt), "cpu")
    refused(root / "sd", str(root / "sdxl-depth"), "another U-Net.*cross_attention_dim")
    refused(root / "sd", str(root / "sd" / "unet"), "UNet2DConditionModel, not a ControlNet")
    refused(root / "sd", "sd15-dept", "no ControlNet 'sd15-dept'")
    wide = save_tiny_controlnet(tmp_path / "wide", conditioning_embedding_out_channels=(8, 16))
    refused(root / "sd", str(wide), "pixels of a latent")
    with pytest.raises(MissingError, match=r"control_v11f1p_sd15_depth.*sd-controlnet-depth"):
        load_prior(PriorConfig(model=str(root / "sd")), "cpu", controls=["sd15-depth"])


def test_the_table_tells_controlnets_from_models():
    controls = known_models("controlnet")
    assert {name: model.sees for name, model in controls.items()} == {
        "sd15-depth": "depth",
        "sd15-normal": "normal",
    }
    assert not controls.keys() & known_models().keys()
    with pytest.raises(InputError, match="no model 'sd15-depth'"):
        resolve_model("sd15-depth")
