"""Textures: texels where they belong, levels, exact gradients, and back ends that agree."""

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree, fast_backends

from dreamlab.core.errors import InputError
from dreamlab.ops.triangles.texture import texture


def test_texel_centres_have_the_values_of_texels_and_row_0_lies_at_v_0():
    tex = torch.rand(1, 3, 5, 2, generator=torch.Generator().manual_seed(0))
    v, u = torch.meshgrid((torch.arange(3) + 0.5) / 3, (torch.arange(5) + 0.5) / 5, indexing="ij")
    torch.testing.assert_close(texture(tex, torch.stack([u, v], dim=-1)[None]), tex)


def test_between_texels_it_is_linear_and_beyond_them_clamped():
    tex = torch.tensor([0.0, 1.0, 5.0]).reshape(1, 1, 3, 1)
    u = torch.tensor([-3.0, 0.0, 1 / 3, 2 / 3, 1.0, 4.0])
    uv = torch.stack([u, torch.full_like(u, 0.5)], dim=-1)[None, None]
    expected = torch.tensor([0.0, 0.0, 0.5, 3.0, 5.0, 5.0])
    torch.testing.assert_close(texture(tex, uv)[0, 0, :, 0], expected)


def test_levels_average_over_texels():
    tex = torch.rand(1, 8, 8, 1, generator=torch.Generator().manual_seed(0))
    uv = torch.full((1, 1, 4, 2), 0.5)
    level = torch.tensor([[[0.0, 3.0, 9.0, 1.5]]])
    got = texture(tex, uv, level)[0, 0, :, 0]
    torch.testing.assert_close(got[0], tex[0, 3:5, 3:5].mean())
    torch.testing.assert_close(got[1:3], tex.mean().expand(2))
    one, two = (texture(tex, uv, torch.full((1, 1, 4), x))[0, 0, 0, 0] for x in (1.0, 2.0))
    torch.testing.assert_close(got[3], (one + two) / 2)


@pytest.mark.parametrize("with_level", [False, True])
def test_gradients_are_exact(with_level):
    draw = torch.Generator().manual_seed(0)
    tex = torch.rand(1, 4, 5, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    uv = torch.rand(2, 3, 2, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    level = torch.rand(2, 3, 2, generator=draw, dtype=torch.float64) * 1.8 + 0.1
    inputs = (tex, uv, level.requires_grad_()) if with_level else (tex, uv)
    assert torch.autograd.gradcheck(texture, inputs)


@pytest.mark.parametrize("backend_and_device", fast_backends("texture"))
@pytest.mark.parametrize("with_level", [False, True])
def test_fast_and_reference_agree(backend_and_device, with_level):
    backend, device = backend_and_device
    draw = torch.Generator().manual_seed(0)
    tex = torch.rand(1, 8, 16, 3, generator=draw).to(device).requires_grad_()
    uv = (1.4 * torch.rand(2, 9, 7, 2, generator=draw) - 0.2).to(device).requires_grad_()
    level = (3 * torch.rand(2, 9, 7, generator=draw)).to(device) if with_level else None
    results = []
    for name in ("reference", backend):
        picture = texture(tex, uv, level, backend=name)
        upstream = torch.sin(torch.arange(1.0, 1 + picture.numel())).view_as(picture).to(device)
        results.append((picture, *torch.autograd.grad((picture * upstream).sum(), (tex, uv))))
    assert_values_agree(results[1][0], results[0][0])
    for a, b in zip(results[1][1:], results[0][1:], strict=True):
        assert_gradients_agree(a, b)


def test_as_many_textures_as_views():
    with pytest.raises(InputError, match="2 textures cannot be seen in 3 views"):
        texture(torch.zeros(2, 4, 4, 1), torch.zeros(3, 2, 2, 2))
