"""Claims about which stages fit a prior: what is said before a run is what the run itself says."""

import pytest
from joint_gaussian import JointGaussianPrior
from toy_run import BallPrior

from dreamlab.core.cameras import CameraRanges
from dreamlab.core.errors import InputError
from dreamlab.guidance.controls import ControlConfig
from dreamlab.priors.folder import FLUX, MVDREAM, STABLE_DIFFUSION
from dreamlab.priors.traits import Traits, traits_of
from dreamlab.systems.guidance import build_guidance
from dreamlab.systems.prior_fit import check_prior, check_stages
from dreamlab.systems.settings import StageConfig

SPLATS = {"representation": {"name": "gaussians", "count": 20}, "renderer": {"name": "splat"}}
LATENTS = {
    "representation": {"name": "latent_image", "channels": 4, "latent_size": 8},
    "renderer": {"name": "flat"},
}
SD = Traits("sd", 1, 4, 8, 64, STABLE_DIFFUSION)
FLOW = Traits("flow", 1, 16, 8, 64, FLUX)
VIEWS = Traits("views", 4, 4, 8, 64, MVDREAM)
TOYBOX = {"name": "vsd", "learned_model": "toybox"}


def stage(rule=None, **more) -> StageConfig:
    return StageConfig(1, rule or {"name": "sds"}, **{**SPLATS, **more}).resolved()


@pytest.mark.parametrize(
    ("prior", "config", "words"),
    [
        (VIEWS, stage(views=6), r"4 views.*there are 6.*set stages\.a\.views .* such as 8"),
        (VIEWS, stage(views=4, cameras=CameraRanges(azimuth=(0.0, 90.0))), "a whole turn"),
        (VIEWS, stage(views=4, cameras=CameraRanges(together=2)), r"cameras\.together is 2"),
        (VIEWS, stage(views=4, **LATENTS), "makes a picture"),
        (FLOW, stage({"name": "csd", "sees": "shape"}), "16 from flow"),
        (FLOW, stage(**LATENTS), r"channels=16, \.latent_size=8"),
        (FLOW, stage(controls=(ControlConfig("sd15-depth"),)), "cannot steer"),
        (SD, stage(TOYBOX), "toybox cannot learn beside sd: its latents are 16x16 of 12"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(prior, config, words):
    with pytest.raises(InputError, match=words):
        check_stages({"b": stage(views=4), "a": config}, prior)
    check_prior("a", config, Traits("unknown"))


def test_what_fits_is_not_refused():
    for prior, config in (
        (VIEWS, stage(views=8)),
        (SD, stage(views=3, **LATENTS)),
        (SD, stage({"name": "sds", "sees": "shape"})),
        (SD, stage(controls=(ControlConfig("sd15-depth"),))),
        (Traits("toy", 1, 12, 16, 64), stage(TOYBOX)),
    ):
        check_prior("a", config, prior)


def test_a_model_of_several_views_does_not_learn_beside_one_that_judges_each(monkeypatch):
    monkeypatch.setattr("dreamlab.systems.prior_fit.foreseen", lambda config: VIEWS)
    second = stage({"name": "vsd", "learned_model": "mvdream"}, views=4)
    with pytest.raises(InputError, match="judges 4 views"):
        check_prior("a", second, SD)
    check_prior("a", second, VIEWS)


def test_a_run_refuses_with_the_same_words():
    views = JointGaussianPrior(mean=lambda text: [0.0, 0.0, 0.0], std=1.0)
    cases = ((views, stage(views=3)), (BallPrior(), stage({"name": "sds", "sees": "shape"})))
    for prior, config in cases:
        with pytest.raises(InputError) as before:
            check_prior("a", config, traits_of(prior))
        with pytest.raises(InputError) as during:
            build_guidance("a", config, prior, prompt="a", negative_prompt="", seed=0)
        assert str(before.value) == str(during.value)
