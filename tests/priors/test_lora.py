"""Claims about the learned score on real networks of diffusers, U-Nets and transformers alike."""

import pytest
import torch
from tiny_denoisers import DENOISERS, TinyDenoiser
from torch import Tensor, nn

from dreamlab.core.errors import InputError
from dreamlab.priors.learned import LearnedScore, LoraConfig, denoising_loss
from dreamlab.priors.lora import LoraScore

KINDS = list(DENOISERS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def inputs(rows: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = seeded(1)
    noisy = torch.randn(rows, 4, 8, 8, generator=generator)
    return noisy, torch.linspace(0.1, 0.9, rows), torch.randn(rows, 5, 32, generator=generator)


def poses(rows: int = 3) -> Tensor:
    return torch.randn(rows, 12, generator=seeded(2))


def score_on(tiny: TinyDenoiser, config: LoraConfig | None = None, **options) -> LoraScore:
    settings = config or LoraConfig()
    return LoraScore(
        tiny.network, tiny.denoise, tiny.parametrisation, settings, seeded(), **options
    )


def shake(score: LoraScore, seed: int = 3) -> None:
    """Move the trained weights off where they begin."""
    generator = seeded(seed)
    with torch.no_grad():
        for weight in score.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))


def train(score: LoraScore, tiny: TinyDenoiser, steps: int) -> list[float]:
    """Fit one batch with fixed noise; return the losses."""
    optimizer = torch.optim.AdamW(score.parameters(), lr=5e-3)
    latents, t, text = inputs()
    noise, (alpha, sigma) = torch.randn(latents.shape, generator=seeded(4)), tiny.alpha_sigma(t)
    losses = []
    for _ in range(steps):
        predicted = score.predict(alpha * latents + sigma * noise, t, text, poses())
        loss = denoising_loss(tiny.parametrisation, predicted, latents, noise, alpha, sigma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_without_adapters_stays_what_it_was_bit_for_bit(kind: str):
    tiny = TinyDenoiser(kind)
    bare, weights = (
        tiny.denoise(*inputs()),
        {name: parameter.clone() for name, parameter in tiny.network.named_parameters()},
    )
    score = score_on(tiny)
    assert torch.equal(tiny.denoise(*inputs()).eps, bare.eps)
    train(score, tiny, steps=2)
    assert not torch.equal(score.predict(*inputs(), poses()).eps, bare.eps)
    assert torch.equal(tiny.denoise(*inputs()).eps, bare.eps)
    now = {n.replace(".base_layer", ""): p for n, p in tiny.network.named_parameters()}
    for name, weight in weights.items():
        assert torch.equal(now[name], weight) and now[name].grad is None
        assert not now[name].requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_the_learned_score_begins_as_the_pretrained_one_and_steps_lower_its_loss(kind: str):
    tiny = TinyDenoiser(kind)
    bare = tiny.denoise(*inputs())
    score = score_on(tiny)
    assert isinstance(score, LearnedScore)
    torch.testing.assert_close(score.predict(*inputs(), poses()).eps, bare.eps)
    losses = train(score, tiny, steps=12)
    assert losses[1] < losses[0] and losses[-1] < 0.97 * losses[0]


@pytest.mark.parametrize("kind", KINDS)
def test_all_attention_projections_and_the_camera_are_trained_and_nothing_else(kind: str):
    tiny = TinyDenoiser(kind)
    size = sum(parameter.numel() for parameter in tiny.network.parameters())
    score = score_on(tiny, LoraConfig(rank=2))
    names = {name.rpartition(".")[0] for name in score.state() if name[-2:] in (".A", ".B")}
    attention = [n for n, _ in tiny.network.named_modules() if n.endswith("to_q")]
    assert {n for n in names if n.endswith("to_q")} == set(attention)
    assert len(names) >= 4 * len(attention) - 1  # a last joint block may lack an output
    trained = sum(weight.numel() for weight in score.parameters())
    total = sum(parameter.numel() for parameter in tiny.network.parameters())
    camera = sum(weight.numel() for weight in score.camera.parameters())
    assert total == size + trained - camera, "the network is there once"
    shake(score)
    score.predict(*inputs(), poses()).eps.square().sum().backward()
    for name, weight in zip(score.state(), score.parameters(), strict=True):
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert weight.grad.any() and weight.dtype == torch.float32, name


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_has_its_own_camera_however_rows_are_split_over_calls(kind: str):
    tiny = TinyDenoiser(kind)
    score, single = score_on(tiny), score_on(tiny, max_rows=1)
    shake(score)
    single.load_state(score.state())
    whole = score.predict(*inputs(), poses()).eps
    torch.testing.assert_close(single.predict(*inputs(), poses()).eps, whole, rtol=1e-4, atol=1e-5)
    turned = score.predict(*inputs(), torch.cat([poses()[:2], -poses()[2:]])).eps
    torch.testing.assert_close(turned[:2], whole[:2], rtol=1e-4, atol=1e-5)
    assert (turned[2] - whole[2]).abs().max() > 1e-3


def test_the_camera_enters_a_unet_where_its_class_embedding_would():
    tiny = TinyDenoiser("unet")
    score = score_on(tiny)
    shake(score)
    hooked = score.predict(*inputs(), poses())
    tiny.network.class_embedding = nn.Identity()  # of labels that are embedded already
    noisy, t, text = inputs()
    with score._switched_on(torch.zeros(3, 1)):  # adapters alone
        slot = tiny.network(
            noisy,
            (t * 999).round().long(),
            encoder_hidden_states=text,
            class_labels=score.camera(poses()),
        ).sample
    torch.testing.assert_close(hooked.v, slot)


def test_scores_on_one_network_do_not_disturb_each_other():
    tiny = TinyDenoiser("unet")
    first, second = score_on(tiny), score_on(tiny, LoraConfig(rank=3))
    shake(first, seed=5)
    shake(second, seed=6)
    before = first.predict(*inputs(), poses())
    other = second.predict(*inputs(), poses())
    before.eps.square().sum().backward()  # after the other one was switched on and off
    other.eps.square().sum().backward()
    for weight in [*first.parameters(), *second.parameters()]:
        assert weight.grad is not None and weight.grad.any()
    assert not torch.equal(before.eps, other.eps)
    assert torch.equal(first.predict(*inputs(), poses()).eps, before.eps)


def test_the_scale_multiplies_the_change_of_a_weight():
    found = []
    for scale in (1.0, 2.0):
        score = score_on(TinyDenoiser("unet"), LoraConfig(scale=scale))
        with torch.no_grad():
            for name, weight in score._weights.items():
                if name.endswith(".B"):
                    weight.fill_(0.1 / scale)
        found.append(score.predict(*inputs(), poses()).eps)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_initial_values_come_from_the_generator_alone():
    tiny = TinyDenoiser("unet")
    global_state = torch.get_rng_state()
    first, second = score_on(tiny), score_on(tiny)
    assert torch.equal(torch.get_rng_state(), global_state)
    for name, weight in first.state().items():
        assert torch.equal(weight, second.state()[name])
        begins_at_zero = name.endswith(".B") or name.startswith("camera.2")
        assert bool(weight.any()) != begins_at_zero, name


def test_a_saved_score_returns_and_one_of_another_rank_is_refused():
    tiny = TinyDenoiser("unet")
    score, other = score_on(tiny), score_on(tiny)
    shake(score)
    other.load_state(score.state())
    assert torch.equal(other.predict(*inputs(), poses()).eps, score.predict(*inputs(), poses()).eps)
    with pytest.raises(InputError, match="rank"):
        score_on(tiny, LoraConfig(rank=2)).load_state(score.state())


def test_networks_without_the_layers_or_without_a_time_are_refused():
    tiny = TinyDenoiser("unet")
    with pytest.raises(InputError, match="projection_of_nothing"):
        score_on(tiny, LoraConfig(targets=("projection_of_nothing",)))
    tiny.network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(InputError, match="Sequential has no embedding of the time"):
        score_on(tiny)
