"""Multi-view models on the real classes: joint attention, cameras, and the layouts of folders."""

import json
import logging
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from guided_views import as_render
from ldm_names import original_unet
from safetensors.torch import load_file, save_file
from tiny_models import IMAGE_SIZE, WIDTH, save_tiny_mvdream
from torch import Tensor

from dreamlab.core.cameras import Cameras, orbit_cameras, turntable_cameras
from dreamlab.core.errors import InputError, MissingError
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.priors.base import Prior
from dreamlab.priors.folder import MVDREAM
from dreamlab.priors.footprint import META, Demand, step_bytes
from dreamlab.priors.learned import Adaptable, LoraConfig
from dreamlab.priors.load import PriorConfig, load_prior
from dreamlab.priors.memory import take
from dreamlab.priors.multi_view import MultiView, camera_numbers
from dreamlab.priors.mvdream import MVDreamPrior, converted_config
from dreamlab.priors.traits import foreseen, traits_of
from dreamlab.systems.components import find

N = 4
PUBLISHED = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_head_channels": 64,
    "transformer_depth": 1,
    "context_dim": 1024,
    "camera_dim": 16,
}
TINY = PUBLISHED | {
    "image_size": IMAGE_SIZE // 4,
    "model_channels": 32,
    "attention_resolutions": [1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 4,
    "context_dim": WIDTH,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_mvdream(tmp_path_factory.mktemp("mvdream") / "tiny")


@pytest.fixture(scope="module")
def prior(folder: Path) -> MVDreamPrior:
    return load(folder)


def load(folder: Path, device: str | torch.device = "cpu", **options: Any) -> MVDreamPrior:
    loaded = load_prior(PriorConfig(model=str(folder), **options), device)
    assert isinstance(loaded, MVDreamPrior)
    return loaded


def around(start: float = 20.0, elevation: float = 15.0) -> Cameras:
    azimuth = start + torch.arange(N) * 90.0
    one = torch.ones(N)
    return orbit_cameras(azimuth, elevation * one, 2.5 * one, 40 * one)


def inputs(prior: MVDreamPrior, groups: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, times and conditionings of groups at different elevations and times."""
    generator = torch.Generator().manual_seed(3)
    noisy = torch.randn(groups * N, 4, prior.latent_size, prior.latent_size, generator=generator)
    text = prior.encode_text(["a cat", "a red chair"])
    told = [
        prior.with_cameras(text[[g % 2] * N][:, None], around(20.0 + g, 15.0 * g))[:, 0]
        for g in range(groups)
    ]
    t = torch.linspace(0.3, 0.8, groups).repeat_interleave(N)
    return noisy, t, torch.cat(told)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_it_is_a_prior_of_four_views_that_can_be_adapted(prior: MVDreamPrior, folder: Path):
    assert isinstance(prior, Prior) and isinstance(prior, MultiView)
    assert isinstance(prior, Adaptable)
    assert (prior.num_views, prior.image_size) == (4, IMAGE_SIZE)
    assert not any(p.requires_grad for p in prior.network.parameters())


def test_no_library_warns_while_it_is_loaded(folder: Path, caplog: pytest.LogCaptureFixture):
    library = logging.getLogger("diffusers")
    library.addHandler(caplog.handler)
    try:
        load(folder, dtype="float16")
    finally:
        library.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_is_foreseen_of_its_folder_is_what_is_loaded(folder: Path, prior: MVDreamPrior):
    seen = foreseen(PriorConfig(str(folder)))
    assert seen == replace(traits_of(prior), family=MVDREAM) and seen.num_views == N


def test_the_front_cameras_numbers_are_known_and_a_quarter_turn_is_one_about_z():
    front = camera_numbers(turntable_cameras(1, elevation=0.0, distance=3.0, fov_y=40.0))
    expected = torch.tensor([[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    torch.testing.assert_close(front[0], expected.flatten(), rtol=0, atol=1e-6)
    turn = torch.tensor([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    c = camera_numbers(around()).unflatten(1, (4, 4))
    for view in range(N):
        torch.testing.assert_close(c[(view + 1) % N], turn @ c[view], rtol=0, atol=1e-6)
    torch.testing.assert_close(c[:, :3, 3].norm(dim=1), torch.ones(N))


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (90.0, 30.0), (-37.0, -20.0)])
def test_cameras_are_those_of_mvdreams_own_world(azimuth: float, elevation: float):
    """There y is up at first, and a camera looks at the front from its azimuth 90."""
    a, e = math.radians(azimuth + 90), math.radians(elevation)
    place = torch.tensor([math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a)])
    right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0]), place)
    right = right / right.norm()
    theirs = torch.eye(4)
    theirs[:3] = torch.stack([right, torch.linalg.cross(place, right), place, place], dim=1)
    to_z_up = torch.tensor([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    cameras = orbit_cameras(*(torch.tensor([x]) for x in (azimuth, elevation, 4.0, 50.0)))
    found = camera_numbers(cameras)[0]
    torch.testing.assert_close(found, (to_z_up @ theirs).flatten(), rtol=0, atol=1e-6)


def test_cameras_about_another_point_are_told_as_if_about_the_origin():
    values = [torch.tensor([x]) for x in (30.0, 10.0, 2.0, 40.0)]
    moved = orbit_cameras(*values, target=torch.tensor([[0.4, -0.2, 0.1]]))
    torch.testing.assert_close(camera_numbers(moved), camera_numbers(orbit_cameras(*values)))


class JointAttention:
    """Attention of the tokens of so many views to each other, written out."""

    def __init__(self, num_views: int) -> None:
        self.num_views = num_views

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states=None, **_) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        rows, tokens, width = hidden_states.shape
        own = encoder_hidden_states is None
        x = hidden_states
        if own:
            x = x.reshape(rows // self.num_views, self.num_views * tokens, width)
        y = x if own else encoder_hidden_states
        q, k, v = heads(attn.to_q(x)), heads(attn.to_k(y)), heads(attn.to_v(y))
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        return attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2)).reshape(rows, tokens, -1)


def test_the_network_is_diffusers_unet_with_joint_attention_and_cameras(
    prior: MVDreamPrior, folder: Path
):
    import diffusers

    unet = diffusers.UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    joint, apart = JointAttention(N), JointAttention(1)
    noisy, t, told = inputs(prior, groups=2)
    cameras = torch.cat([camera_numbers(around(20.0, 0.0)), camera_numbers(around(21.0, 15.0))])
    text = prior.encode_text(["a cat", "a red chair"]).repeat_interleave(N, dim=0)

    def reference(noisy: Tensor, processor: Any) -> Tensor:
        unet.set_attn_processor(processor)
        with torch.no_grad():
            return unet(
                noisy, prior.schedule.time(t), encoder_hidden_states=text, class_labels=cameras
            ).sample

    close(prior.predict(noisy, t, told).eps, reference(noisy, joint))
    before = reference(noisy, apart)
    noisy[0] += 1
    assert torch.equal(reference(noisy, apart)[1:], before[1:])  # if they are not joined


def test_permuted_views_with_their_cameras_give_permuted_predictions(prior: MVDreamPrior):
    noisy, t, told = inputs(prior)
    order = torch.tensor([2, 0, 3, 1])
    whole = prior.predict(noisy, t, told).eps
    close(prior.predict(noisy[order], t, told[order]).eps, whole[order])
    assert (prior.predict(noisy[order], t, told).eps - whole[order]).abs().max() > 1e-3


def test_views_hear_their_own_object_and_no_other(prior: MVDreamPrior):
    noisy, t, told = inputs(prior, groups=2)
    before = prior.predict(noisy, t, told).eps
    noisy[0] += 1
    moved = (prior.predict(noisy, t, told).eps - before).abs().amax(dim=(1, 2, 3))
    assert (moved[1:N] > 1e-4).all() and (moved[N:] < 1e-6).all()
    close(prior.predict(noisy[N:], t[N:], told[N:]).eps, before[N:])


@pytest.mark.slow
def test_a_model_of_one_view_joins_nothing(folder: Path, tmp_path: Path):
    alone = edited(folder, tmp_path / "alone", index={"num_views": 1})
    single = load(alone)
    noisy, t, told = inputs(single)
    before = single.predict(noisy, t, told).eps
    noisy[0] += 1
    assert torch.equal(single.predict(noisy, t, told).eps[1:], before[1:])


def test_views_stay_joined_on_the_memory_ladder(folder: Path, prior: MVDreamPrior):
    thrifty, rows = load(folder), inputs(prior, groups=2)
    expected = prior.predict(*rows).eps
    assert take(thrifty, "single_rows") and thrifty.max_rows == N
    close(thrifty.predict(*rows).eps, expected)
    assert take(thrifty, "attention_slicing")
    close(thrifty.predict(*rows).eps, expected)


@pytest.mark.slow
def test_half_precision_stays_near_and_speaks_float32(folder: Path, prior: MVDreamPrior):
    half = load(folder, dtype="float16")
    rows = inputs(prior)
    found, expected = half.predict(*rows).eps, prior.predict(*rows).eps
    assert found.dtype == torch.float32
    assert (found - expected).std() < 0.01 * expected.std()


@pytest.mark.slow
def test_a_step_is_counted_in_whole_groups(folder: Path):
    twin = load(folder, META)
    one, group, more = (step_bytes(twin, Demand(views, 2)) for views in (1, 4, 5))
    assert one == group < more


@pytest.mark.slow
def test_a_learned_score_begins_as_the_prior_and_leaves_it_as_it_is(folder: Path):
    adapted = load(folder)
    rows = inputs(adapted)
    bare = adapted.predict(*rows).eps
    score = adapted.learned_score(LoraConfig(), torch.Generator().manual_seed(0))
    close(score.predict(*rows, torch.zeros(N, 12)).eps.detach(), bare)
    assert torch.equal(adapted.predict(*rows).eps, bare)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sds", {"weighting": "x0", "cfg_rescale": 0.5, "cfg_rescale_of": "x0"}),
        ("csd", {}),
        ("ism", {"stride": 0.5}),
        ("vsd", {}),
    ],
)
@pytest.mark.parametrize("view", ["none", pytest.param("perp_neg", marks=pytest.mark.slow)])
def test_rules_send_a_gradient_to_every_pixel_of_every_view(
    folder: Path, prior: MVDreamPrior, name: str, options: dict[str, Any], view: Any
):
    prior = load(folder) if name == "vsd" else prior  # which changes its own
    found = find("guidance", {"name": name, **options})
    config = PromptConfig(view=view)
    rule = found.module.build(found.config, prior, Prompts.encode(prior, "a cat", "ugly", config))
    if name == "vsd":
        plain = Prompts.encode(prior, "a cat", "", PromptConfig(view="none"))
        rule.begin(prior, plain, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(N, IMAGE_SIZE, IMAGE_SIZE, 3, generator=generator).requires_grad_(True)
    rule(as_render(images), around(), 0.0, generator).loss.backward()
    assert images.grad is not None and images.grad.isfinite().all()
    assert ((images.grad != 0).float().mean(dim=(1, 2, 3)) > 0.99).all()


def edited(
    folder: Path,
    to: Path,
    *,
    index: dict[str, Any] | None = None,
    unet: dict[str, Any] | None = None,
) -> Path:
    """A copy with other entries; None takes an entry out."""
    shutil.copytree(folder, to)
    for path, changes in ((to / "model_index.json", index), (to / "unet" / "config.json", unet)):
        entries = json.loads(path.read_text()) | (changes or {})
        path.write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))
    return to


WEIGHTS = "diffusion_pytorch_model.safetensors"


def with_camera_proj(folder: Path, to: Path) -> Path:
    edited(
        folder,
        to,
        index={"camera_proj": ["mvdream.camera_proj", "CameraMatrixEmbedding"]},
        unet={"class_embed_type": None, "projection_class_embeddings_input_dim": None},
    )
    weights = load_file(to / "unet" / WEIGHTS)
    apart = {k: weights.pop(k) for k in list(weights) if k.startswith("class_embedding.")}
    save_file(weights, to / "unet" / WEIGHTS)
    (to / "camera_proj").mkdir()
    cameras = {name.removeprefix("class_embedding."): w for name, w in apart.items()}
    save_file(cameras, to / "camera_proj" / WEIGHTS)
    config = {"in_channels": 16, "camera_embed_dim": 128}
    (to / "camera_proj" / "config.json").write_text(json.dumps(config))
    return to


def with_original_names(folder: Path, to: Path) -> Path:
    edited(folder, to, index={"unet": ["mv_unet", "MultiViewUNetModel"]})
    (to / "unet" / "config.json").write_text(json.dumps(TINY))
    save_file(original_unet(load_file(to / "unet" / WEIGHTS)), to / "unet" / WEIGHTS)
    return to


@pytest.mark.parametrize(
    "layout", [pytest.param(with_camera_proj, marks=pytest.mark.slow), with_original_names]
)
def test_the_layouts_of_published_conversions_are_the_same_network(
    folder: Path, prior: MVDreamPrior, tmp_path: Path, layout: Any
):
    other = load(layout(folder, tmp_path / "other"))
    rows = inputs(prior)
    assert torch.equal(other.predict(*rows).eps, prior.predict(*rows).eps)


def test_the_published_config_is_stable_diffusion_21s_unet_with_an_embedding_of_cameras():
    import diffusers

    with torch.device("meta"):
        unet: Any = diffusers.UNet2DConditionModel.from_config(converted_config(PUBLISHED))
    cameras = 16 * 1280 + 1280 + 1280 * 1280 + 1280
    assert sum(p.numel() for p in unet.parameters()) == 865_910_724 + cameras


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda f, to: edited(f, to, unet={"class_embed_type": None}), "no embedding of cameras"),
        (lambda f, to: edited(f, to, index={"num_views": 0}), "positive integer, got 0"),
        (
            lambda f, to: edited(f, to, unet={"projection_class_embeddings_input_dim": 12}),
            "12 numbers, not 16",
        ),
        (
            lambda f, to: edited(
                with_original_names(f, to.with_name("b")), to, unet={"ip_dim": 16}
            ),
            "also reads a picture",
        ),
    ],
)
def test_other_models_are_refused_by_what_they_want(
    folder: Path, tmp_path: Path, make: Any, part: str
):
    with pytest.raises(InputError, match=part):
        load(make(folder, tmp_path / "other"))


@pytest.mark.slow
def test_weights_that_do_not_fit_are_named(folder: Path, tmp_path: Path):
    other = edited(folder, tmp_path / "other", unet={"block_out_channels": [32, 32]})
    with pytest.raises(MissingError, match="other weights than its config"):
        load(other)
    (other / "unet" / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(MissingError, match="cannot be loaded"):
        load(other)


def test_what_splits_groups_is_refused(folder: Path, prior: MVDreamPrior):
    with pytest.raises(InputError, match=r"multiple of 4 .*got 6.*use 8"):
        load(folder, max_rows=6)
    noisy, t, told = inputs(prior)
    with pytest.raises(InputError, match=r"4 views .* there are 3"):
        prior.predict(noisy[:3], t[:3], told[:3])
    with pytest.raises(ValueError, match="have no cameras"):
        prior.predict(noisy, t, prior.encode_text(["a cat"] * N))
