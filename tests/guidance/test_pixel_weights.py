"""Claims about maps of weights: what they are, and that each pixel's gradient is scaled by its."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from guided_views import as_render, cameras_at
from rules import begin, gaussian
from torch import Tensor
from torch.nn.functional import normalize

from dreamlab.core.errors import InputError
from dreamlab.core.render import Render
from dreamlab.guidance.pixel_weights import pixel_weights, weigh_gradients
from dreamlab.guidance.prompts import PromptConfig, Prompts
from dreamlab.systems.components import find

CAMERAS = cameras_at([20.0, -110.0], [10.0, -5.0])
SIDE = 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scene() -> tuple[Render, Tensor, Tensor]:
    """A render, its unit normals and its opacity."""
    unit = normalize(torch.randn(2, SIDE, SIDE, 3, generator=seeded(1)), dim=-1)
    alpha = torch.rand(2, SIDE, SIDE, 1, generator=seeded(2))
    rgb = torch.rand(2, SIDE, SIDE, 3, generator=seeded(3)).requires_grad_(True)
    normal = (alpha * unit).requires_grad_(True)
    return replace(as_render(rgb), alpha=alpha, normal=normal), unit, alpha


def test_opacity_is_the_weight_of_what_is_there():
    render, _, alpha = scene()
    assert torch.equal(pixel_weights(render, CAMERAS, "alpha"), alpha)
    assert (pixel_weights(render, CAMERAS, "uniform") == 1).all()


def test_facing_is_the_cosine_of_the_angle_between_surface_and_view():
    render, unit, alpha = scene()
    directions = CAMERAS.rays(SIDE, SIDE)[1]
    found = pixel_weights(render, CAMERAS, "facing")
    for view, row, column in ((0, 0, 0), (0, 3, 6), (1, 7, 2)):
        at = (view, row, column)
        cosine = -float(unit[at] @ directions[at])
        assert float(found[at]) == pytest.approx(float(alpha[at]) * max(0.0, cosine), abs=1e-6)
    toward = replace(render, alpha=torch.ones_like(alpha), normal=-directions)
    torch.testing.assert_close(
        pixel_weights(toward, CAMERAS, "facing"), torch.ones_like(alpha), rtol=1e-5, atol=1e-5
    )
    away = replace(toward, normal=directions)
    assert not pixel_weights(away, CAMERAS, "facing").any()


RULES: dict[str, dict[str, Any]] = {
    "sds": {},
    "sds in pixels": {"latent_weight": 0.0, "image_weight": 1.0},
    "sds on normals": {"sees": "normal"},
    "ism": {},
    "sdedit": {},
    "dds": {"reference_prompt": "ugly"},
}


@pytest.mark.parametrize("kind", ["alpha", "facing"])
@pytest.mark.parametrize("name", RULES)
def test_the_gradient_of_every_rule_is_scaled_pixel_by_pixel(name: str, kind: Any):
    prior, config = gaussian(), PromptConfig(view="none")
    found = find("guidance", {"name": name.split(maxsplit=1)[0], **RULES[name]})
    rule = found.module.build(found.config, prior, Prompts.encode(prior, "cat", "ugly", config))
    begin(rule, prior, "ugly", config)
    render, _, _ = scene()
    seen = render.normal if "normals" in name else render.rgb
    assert seen is not None

    def gradient(shown: Render) -> Tensor:
        return torch.autograd.grad(rule(shown, CAMERAS, 0.5, seeded()).loss, seen)[0]

    plain, weighed = gradient(render), gradient(weigh_gradients(render, CAMERAS, kind))
    assert plain.abs().max() > 1e-3
    assert torch.equal(weighed, plain * pixel_weights(render, CAMERAS, kind))


def test_what_looks_at_the_render_itself_is_not_weighted_and_values_stay():
    render, _, _ = scene()
    weighed = weigh_gradients(render, CAMERAS, "alpha")
    assert torch.equal(weighed.rgb, render.rgb)
    (gradient,) = torch.autograd.grad(render.rgb.sum(), render.rgb)
    assert (gradient == 1).all()
    assert weigh_gradients(render, CAMERAS, "uniform") is render


def test_a_render_without_normals_is_refused():
    with pytest.raises(InputError, match="pixel_weight to alpha or uniform"):
        pixel_weights(as_render(torch.rand(2, 8, 8, 3)), CAMERAS, "facing")
