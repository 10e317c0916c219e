"""Claims about learning a score: the loss is that of the network's own output."""

import pytest
import torch

from dreamlab.priors.base import CONVERSIONS, Prediction, in_parts
from dreamlab.priors.learned import NATIVE, LoraConfig, denoising_loss


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


T = torch.tensor([0.2, 0.5, 0.8])[:, None, None, None]
LATENTS, NOISE, OUTPUT = (random(3, 4, 5, 5, seed=seed) for seed in range(3))


def schedule(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    return (1 - T, T) if kind == "flow" else (torch.cos(T * 1.5), torch.sin(T * 1.5))


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_the_networks_output_comes_back_from_its_prediction(kind: str):
    alpha, sigma = schedule(kind)
    prediction = CONVERSIONS[kind](OUTPUT, alpha * LATENTS + sigma * NOISE, alpha, sigma)
    torch.testing.assert_close(NATIVE[kind](prediction), OUTPUT, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_the_loss_is_the_squared_error_of_the_networks_own_output(kind: str):
    alpha, sigma = schedule(kind)
    target = {
        "epsilon": NOISE,
        "v_prediction": alpha * NOISE - sigma * LATENTS,
        "sample": LATENTS,
        "flow": NOISE - LATENTS,
    }[kind]
    prediction = CONVERSIONS[kind](OUTPUT, alpha * LATENTS + sigma * NOISE, alpha, sigma)
    loss = denoising_loss(kind, prediction, LATENTS, NOISE, alpha, sigma)
    torch.testing.assert_close(loss, (OUTPUT - target).square().sum() / 3, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("max_rows", [None, 1, 2, 7])
def test_parts_are_no_larger_than_allowed_and_join_to_the_whole(max_rows: int | None):
    sizes = []

    def denoise(noisy: torch.Tensor, t: torch.Tensor) -> Prediction:
        sizes.append(len(noisy))
        return Prediction(noisy * t, noisy + t, noisy - t)

    joined = in_parts(denoise, max_rows, LATENTS, T)
    assert torch.equal(joined.eps, LATENTS * T) and torch.equal(joined.v, LATENTS - T)
    assert torch.equal(joined.x0, LATENTS + T)
    assert sizes == {None: [3], 1: [1, 1, 1], 2: [2, 1], 7: [3]}[max_rows]


@pytest.mark.parametrize("options", [{"rank": 0}, {"scale": 0.0}, {"targets": ()}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LoraConfig(**options)
