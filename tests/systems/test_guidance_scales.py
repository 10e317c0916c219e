"""A distilled model that is guided again: the user is warned, by the scale at either end."""

import logging

import pytest
from analytic import GaussianPrior

from dreamlab.core.config import build
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.settings import StageConfig

SCALES = [
    (1.0, False),
    (7.5, True),
    ({"from": 0.5, "to": 7.5}, True),
    ({"from": 7.5, "to": 1}, True),
]


@pytest.mark.parametrize(("scale", "warned"), SCALES)
@pytest.mark.parametrize("limit", [1.0, None])
def test_a_warning_names_the_model_its_limit_and_the_key(
    caplog: pytest.LogCaptureFixture, scale: object, warned: bool, limit: float | None
):
    prior = GaussianPrior(mean=lambda _: [0.0, 0.0, 0.0])
    prior.max_guidance = limit  # type: ignore[attr-defined]
    content = {"steps": 1, "guidance": {"name": "sds", "guidance_scale": scale}}
    parts = {"representation": {"name": "image"}, "renderer": {"name": "flat"}}
    config = build(StageConfig, content | parts)
    with caplog.at_level(logging.WARNING):
        build_guidance("only", config, prior, prompt="cat", negative_prompt="", seed=0)
    assert bool(caplog.records) == (warned and limit is not None)
    if caplog.records:
        for word in ("gaussian", "up to 1,", "stages.only.guidance.guidance_scale is 7.5"):
            assert word in caplog.text
