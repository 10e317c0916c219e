"""View words by bins and by mixing, and which texts are asked of the prior."""

from pathlib import Path

import pytest
import torch
from analytic import GaussianPrior
from guided_views import cameras_at

from dreamlab.guidance.prompts import (
    BACK,
    FRONT,
    OVERHEAD,
    SIDE,
    PromptConfig,
    Prompts,
    view_index,
    view_mixture,
)

COLORS = {
    "cat, front view": [1.0, 0.0, 0.0],
    "cat, side view": [0.0, 1.0, 0.0],
    "cat, back view": [0.0, 0.0, 1.0],
    "cat, overhead view": [1.0, 1.0, 1.0],
    "cat": [0.5, 0.5, 0.0],
    "ugly": [-1.0, 0.0, 0.0],
    "": [0.0, 0.0, 0.0],
}


def prompts(view: str, negative: str = "ugly") -> tuple[Prompts, GaussianPrior]:
    prior = GaussianPrior(mean=COLORS.__getitem__)
    return Prompts.encode(prior, "cat", negative, PromptConfig(view=view)), prior  # type: ignore[arg-type]


def test_bins():
    azimuth = [0, 44, -44, 46, -90, 134, 136, -136, 180, 0, 180]
    elevation = [0, 0, 0, 0, 0, 0, 0, 59, 0, 61, 75]
    index = view_index(cameras_at(azimuth, elevation), PromptConfig())
    expected = [FRONT, FRONT, FRONT, SIDE, SIDE, SIDE, BACK, BACK, BACK, OVERHEAD, OVERHEAD]
    assert index.tolist() == expected


def test_bins_can_be_narrowed():
    config = PromptConfig(front_angle=30.0, back_angle=20.0, overhead_elevation=40.0)
    index = view_index(cameras_at([29, 31, 159, 161, 0], [0, 0, 0, 0, 41]), config)
    assert index.tolist() == [FRONT, SIDE, SIDE, BACK, OVERHEAD]


def test_words_choose_the_embedding_of_the_bin():
    found = prompts("words")[0].for_views(cameras_at([0, 100, 180, 0], [0, 0, 0, 80]))
    colors = [COLORS[f"cat, {view} view"] for view in ("front", "side", "back", "overhead")]
    assert found.positive[:, 0, 0].tolist() == colors
    assert found.negative[:, 0, 0].tolist() == [COLORS["ugly"]] * 4
    assert found.empty[:, 0, 0].tolist() == [COLORS[""]] * 4
    assert found.away.shape[:2] == (4, 0) and found.away_weights.shape == (4, 0)


def test_a_stage_may_have_a_negative_prompt_of_its_own():
    prior = GaussianPrior(mean=COLORS.__getitem__)
    config = PromptConfig(view="words", negative="cat")
    found = Prompts.encode(prior, "cat", "ugly", config).for_views(cameras_at([0, 180]))
    assert found.negative[:, 0, 0].tolist() == [COLORS["cat"]] * 2


def test_a_negative_prompt_that_repeats_the_prompt_has_the_words_of_the_view():
    """As in SDS-Bridge: only what is added to the prompt differs between the two."""
    seen: list[str] = []
    prior = GaussianPrior(mean=lambda text: seen.append(text) or [float(len(seen)), 0.0, 0.0])
    config = PromptConfig(view="words", negative="{prompt}, blurry")
    found = Prompts.encode(prior, "cat", "ugly", config)
    views = found.for_views(cameras_at([0, 100, 180, 0], [0, 0, 0, 80]))
    words = [seen[int(number) - 1] for number in views.negative[:, 0, 0, 0]]
    expected = [f"cat, blurry, {view} view" for view in ("front", "side", "back", "overhead")]
    assert words == expected and "ugly" not in seen
    plain = PromptConfig(view="none", negative="{prompt}, blurry")
    seen.clear()
    views = Prompts.encode(prior, "cat", "ugly", plain).for_views(cameras_at([0, 180]))
    assert {seen[int(number) - 1] for number in views.negative[:, 0, 0, 0]} == {"cat, blurry"}


def test_without_view_words_all_views_get_the_plain_prompt():
    found = prompts("none")[0].for_views(cameras_at([0, 100, 180], [0, 0, 80]))
    assert found.positive[:, 0, 0].tolist() == [COLORS["cat"]] * 3


@pytest.mark.parametrize("view", ["interpolate", "perp_neg"])
def test_mixed_embeddings_follow_azimuth(view: str):
    azimuth, elevation = [0, 30, -30, 90, 135, 180, 10], [0, 0, 0, 0, 0, 0, 70]
    found = prompts(view)[0].for_views(cameras_at(azimuth, elevation))
    expected = torch.tensor(
        [
            [1.0, 0.0, 0.0],
            [2 / 3, 1 / 3, 0.0],
            [2 / 3, 1 / 3, 0.0],
            [0.0, 1.0, 0.0],
            [0.0, 0.5, 0.5],
            [0.0, 0.0, 1.0],
            [1.0, 1.0, 1.0],
        ]
    )
    torch.testing.assert_close(found.positive[:, 0, 0], expected)


def test_wrong_views_are_front_and_side_for_every_view():
    found = prompts("perp_neg")[0].for_views(cameras_at([0, 120, 50], [0, 0, 80]))
    wrong = [COLORS["cat, front view"], COLORS["cat, side view"]]
    assert found.away[:, :, 0].tolist() == [wrong] * 3
    assert found.away_weights.shape == (3, 2)
    assert found.away_weights[2].tolist() == [0.0, 0.0]


def test_mixtures_sum_to_one_everywhere():
    cameras = cameras_at(range(-180, 180, 7), [e % 85 for e in range(0, 520, 10)])
    for view in ("none", "words", "interpolate", "perp_neg"):
        mixture = view_mixture(cameras, PromptConfig(view=view))  # type: ignore[arg-type]
        torch.testing.assert_close(mixture.sum(dim=1), torch.ones(len(cameras)))
        assert (mixture >= 0).all()


def test_every_text_is_encoded_once_then_the_encoder_is_freed():
    prior = prompts("words", negative="")[1]
    assert prior.calls == [("encode_text", 5), ("release_text_encoder", 0)]
    assert prompts("none", negative="")[1].calls[0] == ("encode_text", 2)


def test_embeddings_come_from_the_cache_the_second_time(tmp_path: Path):
    prior = GaussianPrior(mean=COLORS.__getitem__)
    first = Prompts.encode(prior, "cat", "ugly", PromptConfig(), tmp_path)
    prior.calls.clear()
    second = Prompts.encode(prior, "cat", "ugly", PromptConfig(), tmp_path)
    assert prior.calls == [("release_text_encoder", 0)]
    assert torch.equal(first.views, second.views)


def test_words_and_their_place_can_be_chosen():
    config = PromptConfig(template="{view} of {prompt}", back="backside view")
    assert config.phrase("a {view} cat", config.back) == "backside view of a {view} cat"


@pytest.mark.parametrize(
    "options",
    [
        {"template": "{prompt}"},
        {"template": "{view}"},
        {"front_angle": -1.0},
        {"front_angle": 100.0, "back_angle": 90.0},
    ],
)
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"template|angle"):
        PromptConfig(**options)
