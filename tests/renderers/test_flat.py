"""Claims about the renderer of pictures."""

import pytest
import torch
from guided_views import cameras_at

from dreamlab.core.errors import InputError
from dreamlab.renderers import flat
from dreamlab.renderers.shading import unlit
from dreamlab.representations import hashgrid, image

CAMERAS = cameras_at([0, 90, 180])


def board(size: int = 8) -> image.Image:
    made = image.build(image.Config(size=size))
    with torch.no_grad():
        made.theta.normal_(generator=torch.Generator().manual_seed(0))
    return made


def show(made: image.Image, size: int, **options):
    renderer = flat.build(flat.Config(), made)
    return renderer(CAMERAS, size, size, **{"shading": unlit(CAMERAS), "training": True} | options)


def test_every_camera_sees_the_picture_as_it_is():
    made = board()
    render = show(made, 8, normals=True, depth_variance=True)
    assert torch.equal(render.rgb, made.picture().expand(3, 8, 8, 3))
    assert (render.alpha == 1).all() and not render.depth.any()
    for zeros in (render.normal, render.orientation, render.depth_variance):
        assert zeros is not None and not zeros.any()
    assert show(made, 8).normal is None


@pytest.mark.parametrize("size", [4, 16])
def test_another_size_keeps_the_mean_and_all_views_add_to_the_gradient(size: int):
    made = board()
    render = show(made, size)
    assert render.rgb.shape == (3, size, size, 3)
    torch.testing.assert_close(render.rgb.mean(), made.picture().mean(), atol=0.03, rtol=0)
    render.rgb.sum().backward()
    theta = made.theta.grad
    assert theta is not None and (theta > 0).all()


def test_showing_for_people_keeps_no_graph():
    assert not show(board(), 8, training=False).rgb.requires_grad


def test_an_object_is_refused():
    field = hashgrid.build(hashgrid.Config(), torch.Generator())
    with pytest.raises(InputError, match="no picture"):
        flat.build(flat.Config(), field)
