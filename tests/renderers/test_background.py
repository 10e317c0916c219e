"""Claims about backgrounds."""

import pytest
import torch

from dreamlab.core.cameras import turntable_cameras
from dreamlab.renderers.background import Background, BackgroundConfig, encode_direction

DIRECTIONS = turntable_cameras(3, distance=3.0, fov_y=60.0).rays(6, 5)[1]


def draw(background: Background, *, seed: int = 0, training: bool = True) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return background(DIRECTIONS, generator=generator, training=training)


def test_solid_is_one_colour_for_all_views():
    color = (0.25, 0.5, 0.75)
    background = Background(BackgroundConfig(name="solid", color=color))
    assert torch.equal(draw(background), torch.tensor(color).expand(3, 6, 5, 3))
    assert not list(background.parameters())


def test_random_is_one_colour_a_view_and_another_with_another_seed():
    background = Background(BackgroundConfig(name="random", random_probability=1.0))
    first, again, other = draw(background), draw(background), draw(background, seed=1)
    assert torch.equal(first, first[:, :1, :1].expand_as(first))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first[:, 0, 0].unique(dim=0)) == 3


def test_random_shows_the_solid_colour_otherwise_and_in_evaluation():
    config = BackgroundConfig(name="random", color=(0.0, 1.0, 0.0), random_probability=0.3)
    background, green = Background(config), torch.tensor([0.0, 1.0, 0.0])
    shown = torch.cat([draw(background, seed=i)[:, 0, 0] for i in range(300)])
    solid = (shown == green).all(-1).float().mean()
    assert solid == pytest.approx(0.7, abs=0.06)
    assert (draw(background, training=False) == green).all()


def test_learned_starts_at_its_colour_and_learns_a_direction_dependence():
    config = BackgroundConfig(name="learned", color=(0.2, 0.4, 0.6), random_probability=0.0)
    background = Background(config, torch.Generator().manual_seed(0))
    start = draw(background)
    assert torch.allclose(start, torch.tensor(config.color).expand_as(start))
    target = (DIRECTIONS + 1) / 2
    optimiser = torch.optim.Adam(background.parameters(), lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        loss = (draw(background) - target).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.1 * (start - target).square().mean()


def test_a_learned_background_has_no_gradient_in_views_that_show_a_drawn_colour():
    config = BackgroundConfig(name="learned", random_probability=1.0)
    background = Background(config)
    draw(background).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in background.parameters())


def test_kinds_advance_the_generator_equally():
    states = []
    for name in ("solid", "random", "learned"):
        generator = torch.Generator().manual_seed(0)
        Background(BackgroundConfig(name=name))(DIRECTIONS, generator=generator, training=True)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("name", ["random", "learned"])
def test_shared_backgrounds_are_drawn_once_for_all_views(name: str):
    directions = DIRECTIONS[:1].expand(3, -1, -1, -1)
    kinds = set()
    for seed in range(8):
        config = BackgroundConfig(name=name, color=(0.2, 0.3, 0.4), shared=True)
        generator = torch.Generator().manual_seed(seed)
        made = Background(config, torch.Generator().manual_seed(0))
        behind = made(directions, generator=generator, training=True)
        assert torch.equal(behind, behind[:1].expand_as(behind))
        kinds.add(round(behind[0, 0, 0, 0].item(), 3))
    assert len(kinds) > 2


def test_direction_encoding_holds_the_direction_and_its_bands():
    encoding = encode_direction(torch.tensor([[0.0, 0.6, 0.8]]))
    assert encoding.shape == (1, 21)
    assert torch.equal(encoding[0, :3], torch.tensor([0.0, 0.6, 0.8]))
    assert torch.allclose(encoding[0, 3 + 5], torch.tensor(2.4).sin())


@pytest.mark.parametrize(
    "settings", [{"color": (0.0, 2.0, 0.0)}, {"random_probability": -0.5}, {"hidden_width": 0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        BackgroundConfig(**settings)
