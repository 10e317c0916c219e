"""Image prompts: what the denoiser sees is what the pipelines of diffusers show it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import cameras_at
from PIL import Image
from safetensors.torch import save_file
from tiny_models import save_tiny_pipeline, save_tiny_sdxl, tiny_unet
from user_files import SEEN, save_adapter, save_clip

from dreamlab.core.config import build
from dreamlab.core.errors import InputError, MissingError
from dreamlab.core.pictures import open_picture
from dreamlab.core.schedules import Schedule
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.priors import image_prompt
from dreamlab.priors.footprint import META, Demand, step_bytes
from dreamlab.priors.image_prompt import ImagePrompt, load_image_prompt, with_sight
from dreamlab.priors.learned import LoraConfig
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.memory import take
from dreamlab.priors.unet import UNetPrior
from dreamlab.systems.components import find

T = torch.tensor([0.3, 0.7])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    save_clip(root / "image_encoder")
    for name, save in (("sd", save_tiny_pipeline), ("sdxl", save_tiny_sdxl)):
        save(root / name)
        save_adapter(root / f"{name}.safetensors", root / name)
        save_adapter(root / f"{name}-patches.safetensors", root / name, patches=True)
    pixels = torch.randint(0, 256, (40, 50, 3), generator=torch.Generator().manual_seed(0))
    Image.fromarray(pixels.byte().numpy()).save(root / "chair.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DREAMLAB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def prior(root: Path) -> UNetPrior:
    return load(root)


def load(
    root: Path, name: str = "sd", device: Any = "cpu", model: str | None = None, **changes: Any
) -> UNetPrior:
    files = {"image": root / "chair.png", "adapter": root / f"{name}.safetensors"}
    prompt: dict[str, Any] = {part: str(file) for part, file in files.items()}
    config = PriorConfig(
        model=str(root / (model or name.partition("-")[0])),
        image_prompt=ImagePrompt(**(prompt | changes)),
        memory=[],
    )
    prior = load_prior(config, device)
    assert isinstance(prior, UNetPrior)
    return prior


def noisy() -> torch.Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))


def texts(prior: UNetPrior, *sight: bool, progress: float | None = None) -> torch.Tensor:
    told = zip(prior.encode_text(["a chair", ""]), sight, strict=True)
    rows = [
        with_sight(prior, text[None, None], progress, sees_image=sees)[0] for text, sees in told
    ]
    return torch.cat(rows)


@pytest.mark.parametrize(
    "name",
    [
        "sd",
        pytest.param("sd-patches", marks=pytest.mark.slow),
        pytest.param("sdxl", marks=pytest.mark.slow),
        pytest.param("sdxl-patches", marks=pytest.mark.slow),
    ],
)
def test_the_prediction_is_that_of_the_pipeline_with_the_same_image(root: Path, name: str):
    import diffusers

    family = name.partition("-")[0]
    is_xl = family == "sdxl"
    cls = diffusers.StableDiffusionXLPipeline if is_xl else diffusers.StableDiffusionPipeline
    options = {"add_watermarker": False} if is_xl else {"safety_checker": None}
    pipeline: Any = cls.from_pretrained(root / family, **options)
    pipeline.load_ip_adapter(
        str(root),
        subfolder="",
        weight_name=f"{name}.safetensors",
        image_encoder_folder="image_encoder",
    )
    pipeline.set_ip_adapter_scale(0.7)
    # negative first, as pipelines order rows
    embeds = pipeline.prepare_ip_adapter_image_embeds(
        open_picture(root / "chair.png", "image"), None, "cpu", 1, True
    )
    prior = load(root, name, scale=0.7)
    told = prior.told(prior.encode_text(["", "a chair"]))
    with torch.no_grad():
        expected = pipeline.unet(
            noisy(),
            prior.schedule.time(T),
            encoder_hidden_states=told.tokens,
            added_cond_kwargs=told.added | {"image_embeds": embeds},
        ).sample
    found = prior.predict(noisy(), T, texts(prior, True, False).flip(0)).eps
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    blind = prior.predict(noisy(), T, texts(prior, False, False).flip(0)).eps
    torch.testing.assert_close(found[:1], blind[:1])
    assert (found[1] - blind[1]).abs().max() > 1e-3


def test_the_scale_is_a_factor_of_what_the_picture_adds(root: Path):
    plain = load_prior(PriorConfig(model=str(root / "sd"), memory=[]), "cpu")
    silent = load(root, scale=0.0)
    bare = plain.predict(noisy(), T, plain.encode_text(["a chair", ""])).eps
    torch.testing.assert_close(silent.predict(noisy(), T, texts(silent, True, False)).eps, bare)
    assert with_sight(plain, bare, 0.0, sees_image=True).equal(bare)


def test_a_scale_that_moves_is_the_number_that_it_is_at_the_moment(root: Path, prior: UNetPrior):
    moving = load(root, scale=Schedule(0.2, 0.8))

    def seen(prior: UNetPrior, progress: float | None = None) -> torch.Tensor:
        return prior.predict(noisy(), T, texts(prior, True, False, progress=progress)).eps

    first = seen(moving, 0.1)
    assert torch.equal(seen(moving, 0.5), seen(prior)), "0.5 is the default"
    assert (seen(moving, 0.9) - seen(prior)).abs().max() > 1e-3
    assert torch.equal(seen(moving, 0.1), first), "nothing of other moments is left"
    with pytest.raises(ValueError, match="only at a progress"):
        seen(moving)


def test_rows_of_one_call_may_hear_it_each_by_its_own_scale(root: Path):
    moving = load(root, scale=Schedule(0.0, 1.0))
    early, late = (texts(moving, True, True, progress=p) for p in (0.0, 1.0))
    both = moving.predict(noisy(), T, torch.cat([early[:1], late[1:]])).eps
    alone = [moving.predict(noisy(), T, told).eps[i] for i, told in enumerate((early, late))]
    torch.testing.assert_close(both, torch.stack(alone))


def test_every_rule_hears_the_scale_of_the_moment(root: Path, prior: UNetPrior):
    """With a scale of 1 and a score that begins as the prior, vsd has nothing to say, ever."""
    moving = load(root, scale=Schedule(0.2, 0.8))
    cameras, z = cameras_at([0.0, 90.0]), noisy()
    plain = PromptConfig(view="none")

    def judged(prior: UNetPrior, name: str, progress: float) -> torch.Tensor:
        prompts = Prompts.encode(prior, "a chair", "", plain)
        found = find("guidance", {"name": name, "guidance_scale": 1.0})
        rule = found.module.build(found.config, prior, prompts)
        if name == "vsd":
            rule.begin(prior, prompts, torch.Generator().manual_seed(0))
        told = prompts.for_views(cameras, progress=progress)
        return rule.judge(z, T, noisy().flip(0), told, progress, cameras=cameras).gradient

    assert torch.equal(judged(moving, "sds", 0.5), judged(prior, "sds", 0.0))
    assert not torch.allclose(judged(moving, "sds", 0.9), judged(prior, "sds", 0.0), atol=1e-4)
    assert judged(moving, "vsd", 0.9).abs().max() < 1e-5


def test_a_scale_is_read_from_settings_and_is_never_negative():
    said = {"image": "chair.png", "adapter": "adapter.safetensors"}
    moving = build(ImagePrompt, said | {"scale": {"from": 1, "to": 0.2, "end": 0.5}}, "prompt")
    assert moving.scale == Schedule(1.0, 0.2, end=0.5)
    with pytest.raises(InputError, match=r"scale must be >= 0, got 1 to -0\.1"):
        build(ImagePrompt, said | {"scale": {"from": 1, "to": -0.1}}, "prompt")


def test_clip_looks_once(root: Path, prior: UNetPrior, monkeypatch: pytest.MonkeyPatch):
    first = prior
    monkeypatch.setattr(image_prompt, "_look", lambda *_, **__: pytest.fail("it looked again"))
    again = load(root)
    assert first.image is not None and again.image is not None
    assert again.image.image.equal(first.image.image) and again.image.image.shape == (1, SEEN)
    assert not again.image.none.any()


def test_prompts_for_views_see_the_picture_and_negative_ones_do_not(prior: UNetPrior):
    config = PromptConfig(view="perp_neg", negative="{prompt}, ugly")
    prompts = Prompts.encode(prior, "a chair", "", config)
    told = prompts.for_views(cameras_at([0.0, 120.0]))
    see, blind = [told.positive, told.away], [told.negative, told.empty]
    assert all((rows[:, :, -1, 0] == 1).all() and rows.numel() for rows in see)
    assert all((rows[:, :, -1, 0] == 0).all() and rows.numel() for rows in blind)
    assert all((rows[:, :, -1, 1] == 0.5).all() for rows in see + blind), "as loud for all"


def test_a_learned_score_begins_as_the_prior_with_the_picture(prior: UNetPrior):
    told = texts(prior, True, True)
    before = prior.predict(noisy(), T, told).eps
    score = prior.learned_score(LoraConfig(rank=2), torch.Generator().manual_seed(0))
    torch.testing.assert_close(score.predict(noisy(), T, told, torch.zeros(2, 12)).eps, before)
    assert torch.equal(prior.predict(noisy(), T, told).eps, before)


@pytest.mark.slow
def test_memory_is_counted_and_attention_that_sees_is_not_replaced(root: Path):
    assert step_bytes(load(root, device=META), Demand(1, 2)) > 0
    prior = load(root)
    before = prior.predict(noisy(), T, texts(prior, True, False)).eps
    assert not take(prior, "attention_slicing") and take(prior, "half_precision")
    after = prior.predict(noisy(), T, texts(prior, True, False)).eps
    assert (after - before).std() < 0.05 * before.std()


def test_what_does_not_fit_is_refused(root: Path, tmp_path: Path):
    clip = tmp_path / "clip" / "config.json"
    clip.parent.mkdir()
    clip.write_text('{"projection_dim": 7}')
    face = tmp_path / "face.safetensors"
    save_file({"image_proj.proj.0.weight": torch.zeros(1)}, face)
    unet, encoder = tiny_unet(), str(root / "image_encoder")

    def refused(kind: type[Exception], match: str, **changes: str) -> None:
        settings = {"image": str(root / "chair.png"), "adapter": str(root / "sd.safetensors")}
        prompt = ImagePrompt(**(settings | changes))  # type: ignore[arg-type]
        with pytest.raises(kind, match=match):
            load_image_prompt(prompt, unet, torch.device("cpu"))

    refused(InputError, r"must be a \.safetensors file", adapter="ip-adapter_sd15.bin")
    refused(MissingError, "there is no file", image=str(tmp_path / "no.png"))
    refused(MissingError, "cannot be had", adapter="h94/IP-Adapter/models/x.safetensors")
    refused(MissingError, "there is no x/y", encoder="x/y")
    refused(InputError, r"embeddings of 20 numbers, .* makes 7", encoder=str(clip.parent))
    refused(InputError, "no IP-Adapter of pictures", adapter=str(face), encoder=encoder)
    refused(InputError, "of another network", adapter=str(root / "sdxl.safetensors"))
    refused(InputError, "cannot be read as a picture", image=str(root / "sd.safetensors"))
