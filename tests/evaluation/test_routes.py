"""Claims about the comparison of routes, with an exact prior whose encoder is the identity."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from toy_run import BallPrior
from typer.testing import CliRunner

from dreamlab.cli.main import app
from dreamlab.core.config import dump_yaml, load_yaml
from dreamlab.core.errors import InputError
from dreamlab.core.locations import configs_dir
from dreamlab.evaluation import routes
from dreamlab.evaluation.routes import ROUTES, Comparison, Route, RoutesConfig, compare
from dreamlab.evaluation.routes_figure import draw, heat, scale_of
from dreamlab.representations import painted


@pytest.fixture(autouse=True)
def ball_prior(monkeypatch):
    monkeypatch.setattr(routes, "load_for_stages", lambda *arguments: BallPrior())


def told(prompt="a ball", **settings) -> tuple[list[Comparison], list[tuple[str, float]]]:
    moves: list[tuple[str, float]] = []
    config = RoutesConfig(prompt, **settings)
    found = compare(config, torch.device("cpu"), lambda what, share: moves.append((what, share)))
    return found, moves


def test_the_routes_of_a_picture_and_of_a_texture_treat_the_same_gradient_as_they_say():
    comparisons, moves = told(steps=2, at=1)
    picture, texture = ({r.name: r for r in c.routes} for c in comparisons)
    assert list(picture) == list(ROUTES) and list(texture) == [r for r in ROUTES if r != "latents"]
    assert len({what for what, _ in moves}) == 11 and moves[1] == ("toybox-image vae", 1.0)
    for comparison, found in zip(comparisons, (picture, texture), strict=True):
        c, vae = comparison.threshold, found["vae"]
        some = vae.before[vae.before > 0]
        assert float((some > c).float().mean()) == pytest.approx(0.1, abs=0.01)
        assert torch.equal(vae.before, vae.after)
        for name in ("normalized", "pgc-value", "pgc-norm"):
            torch.testing.assert_close(found[name].before, vae.before, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            found["pgc-norm"].after, vae.before.clamp(max=c), rtol=1e-3, atol=1e-4
        )
        largest = vae.before.max()
        torch.testing.assert_close(
            found["normalized"].after, vae.before * c / largest, rtol=1e-3, atol=1e-4
        )
        assert found["pgc-value"].after.max() <= c * 3**0.5 * 1.001
        # the encoder is the identity, which the fitted matrix is too
        torch.testing.assert_close(found["linear"].before, vae.before, rtol=0.02, atol=0.02)
    plain = comparisons[0].to_plain()["routes"]
    assert plain["vae"]["changed"] == 0 and plain["vae"]["difference_from_vae"] == 0
    assert plain["pgc-norm"]["changed"] == pytest.approx(0.1, abs=0.01)
    assert plain["normalized"]["difference_from_vae"] > 0


def test_a_mesh_may_be_given_and_a_threshold_holds(tmp_path, monkeypatch):
    import trimesh

    # a model without colours needs none fitted
    monkeypatch.setattr(painted, "fit_colors", lambda *arguments, **options: None)
    path = tmp_path / "box.stl"
    trimesh.creation.box((1.0, 1.0, 1.0)).export(path)
    settings = {"recipes": ("toybox-texture",), "steps": 1, "threshold": 0.5}
    (ball,), (box,) = (told(**settings, mesh=mesh)[0] for mesh in (None, path))
    assert box.threshold == 0.5 and box.routes[-1].after.max() <= 0.5 * 1.001
    assert not torch.allclose(box.routes[0].picture, ball.routes[0].picture, atol=0.05)


class Steered(BallPrior):
    """Notes what a ControlNet would be shown."""

    def __init__(self) -> None:
        super().__init__()
        self.controls, self.shown = {"sd15-depth": None}, []

    def predict(self, noisy, t, conditioning, control=None):
        assert control is not None
        self.shown.append(control.pictures)
        return super().predict(noisy, t, conditioning)


def recipe_with(tmp_path, **changes):
    """The recipe of a texture with other settings of its stage and model."""
    content = load_yaml(configs_dir() / "toybox-texture.yaml")
    content["prior"] |= changes.pop("prior", {})
    (stage,) = content["stages"].values()
    stage |= changes
    path = tmp_path / "changed.yaml"
    path.write_text(dump_yaml(content))
    return str(path)


def test_the_stage_is_steered_by_its_controlnets_as_a_run_would_be(tmp_path, monkeypatch):
    prior, asked = Steered(), []
    monkeypatch.setattr(routes, "load_for_stages", lambda *given: asked.append(given) or prior)
    recipe = recipe_with(tmp_path, controls=[{"model": "sd15-depth"}], views=4)
    told(recipes=(recipe,), steps=1, threshold=0.5)
    ((_, (stage,), *_),) = asked
    assert stage.views == 1 and stage.controls[0].model == "sd15-depth"
    assert len(prior.shown) == 5 and all(shown.max() > 0.5 for shown in prior.shown)


def test_a_model_of_several_views_is_refused_before_anything_is_loaded_or_run(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(routes, "load_for_stages", lambda *_: pytest.fail("the model was loaded"))
    recipes = ("toybox-image", recipe_with(tmp_path, prior={"model": "mvdream"}, views=4))
    with pytest.raises(InputError, match="single view, and mvdream, the model of the recipe"):
        told(recipes=recipes)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"at": 101}, {"threshold": 0.0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        RoutesConfig("a ball", **settings)


def test_a_step_without_any_gradient_gives_no_threshold():
    with pytest.raises(InputError, match="no pixel"):
        routes.threshold_of(torch.zeros(4, 4))


def test_the_figure_shows_larger_gradients_brighter_on_one_scale():
    size = torch.logspace(-2, 2, 64).reshape(8, 8)
    made = [Route("vae", torch.rand(8, 8, 3), size, size)]
    comparisons = [Comparison("one", 1.0, made)]
    low, high = scale_of(comparisons)
    assert low == pytest.approx(-2, abs=0.2) and high == pytest.approx(2, abs=1e-3)
    brightness = heat(size.numpy(), low, high).sum(-1).ravel()
    assert (np.diff(brightness) >= -1e-6).all() and brightness[-1] > brightness[0] + 2
    assert heat(np.zeros((1, 1)), low, high).max() < 0.1
    figure = draw(comparisons)
    assert figure.width > 6 * 128 and figure.height > 2 * 128


def test_the_command_writes_figure_and_numbers(tmp_path):
    arguments = ["bench", "pgc", "a ball", "--steps", "1", "--recipe", "toybox-image"]
    options = ["-o", str(tmp_path / "out"), "--json", "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    last = json.loads(result.stdout.splitlines()[-1])
    assert Image.open(last["files"][0]).width > 6 * 128
    numbers = json.loads((tmp_path / "out" / "routes.json").read_text())
    assert numbers["comparisons"] == last["comparisons"]
    assert set(numbers["comparisons"][0]["routes"]) == set(ROUTES)
    assert numbers["step_shown"] == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--recipe", "toybox-imge"], "toybox-image"),
        (["--at", "500"], "at"),
        (["--threshold", "-1"], "threshold"),
        (["--mesh", "none.glb", "--recipe", "toybox-texture", "--steps", "1"], "none.glb"),
    ],
)
def test_bad_input_of_the_command_is_refused(tmp_path, monkeypatch, arguments, word):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["bench", "pgc", "a ball", *arguments], catch_exceptions=False)
    assert result.exit_code == 2 and word in result.stderr
    assert list(tmp_path.iterdir()) == []
