"""The hook for gsplat: what it is handed, in the shapes of its versions, and what comes back.

The library needs CUDA; `test_splat.py` compares it where it is installed. Here a module with its
interface stands in: it checks its arguments as gsplat does, lists the tiles that boxes touch, and
blends what the lists hold by our reference.
"""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from closeness import assert_gradients_agree, assert_values_agree

from dreamlab.core.cameras import turntable_cameras
from dreamlab.core.errors import InputError, MissingError
from dreamlab.ops.splat import gsplat, reference
from dreamlab.ops.splat.project import Projected, project
from dreamlab.ops.splat.splat import splat

COMPILED = (1, 2, 3, 4, 5, 8, 9, 16, 17, 32)


def stand_in(version, depth=None):
    """Return a module like gsplat of that version, which blends in the order of `depth`."""
    sides = 2 if tuple(map(int, version.split(".")[:2])) >= (1, 5) else 1
    package = SimpleNamespace(__version__=version, handed=[])

    def isect_tiles(means2d, radii, depths, tile_size, tile_width, tile_height):
        assert means2d.dim() == 3 and radii.dtype == torch.int32 and not depths.requires_grad
        assert radii.shape == (*depths.shape, 2) if sides == 2 else radii.shape == depths.shape
        half = radii if sides == 2 else radii[..., None].expand(*radii.shape, 2)
        keys, members, per_gaussian = [], [], torch.zeros_like(depths, dtype=torch.int32)
        for view in range(len(means2d)):
            for i in depths[view].argsort().tolist():
                if not (half[view, i] > 0).all():
                    continue
                low, high = means2d[view, i] - half[view, i], means2d[view, i] + half[view, i]
                for y in range(tile_height):
                    for x in range(tile_width):
                        corner = torch.tensor([x, y]) * tile_size
                        if (high > corner).all() and (low < corner + tile_size).all():
                            keys.append(((view * tile_height + y) * tile_width + x, len(keys)))
                            members.append(view * means2d.shape[1] + i)
                            per_gaussian[view, i] += 1
        order = [place for _, place in sorted(keys)]
        ids = torch.tensor([tile for tile, _ in sorted(keys)])
        return per_gaussian, ids, torch.tensor(members, dtype=torch.int32)[order]

    def isect_offset_encode(isect_ids, n_images, tile_width, tile_height):
        tiles = torch.arange(n_images * tile_height * tile_width)
        starts = torch.searchsorted(isect_ids, tiles)
        return starts.int().reshape(n_images, tile_height, tile_width)

    def rasterize_to_pixels(
        means2d, conics, colors, opacities, image_width, image_height, tile_size, isect_offsets,
        flatten_ids,
    ):  # fmt: skip
        views, count = opacities.shape
        assert means2d.shape == (views, count, 2) and conics.shape == (views, count, 3)
        assert colors.shape[:2] == (views, count) and colors.shape[2] in COMPILED
        assert tile_size in (4, 16) and isect_offsets.shape[0] == views
        assert isect_offsets.shape[1] * tile_size >= image_height
        assert isect_offsets.shape[2] * tile_size >= image_width
        assert all(x.is_contiguous() for x in (means2d, conics, colors, opacities))
        package.handed.append(colors.shape[2])
        listed = torch.zeros(views * count, dtype=torch.bool)
        listed[flatten_ids.long()] = True
        shown = Projected(means2d, conics, opacities, depth, listed.view(views, count))
        return reference.blend(shown, colors, image_height, image_width)

    package.isect_tiles = isect_tiles
    package.isect_offset_encode = isect_offset_encode
    package.rasterize_to_pixels = rasterize_to_pixels
    return package


def scene(channels, count=25):
    draw = torch.Generator().manual_seed(0)
    means = 0.4 * torch.randn(count, 3, generator=draw)
    quaternions = torch.randn(count, 4, generator=draw)
    scales = 0.02 + 0.1 * torch.rand(count, 3, generator=draw)
    opacities = 0.9 * torch.rand(count, generator=draw)
    opacities[:3] = 0.003  # below 1/255
    cameras = turntable_cameras(2, distance=3.0, fov_y=40.0)
    projected = project(means, quaternions, scales, opacities, cameras, 20, 37)
    leaves = [x.requires_grad_() for x in (projected.mean, projected.conic, projected.opacity)]
    features = torch.rand(2, count, channels, generator=draw, requires_grad=True)
    return projected, features, [*leaves, features]


@pytest.mark.parametrize("version", ["1.4.0", "1.5.3", "1.6.0"])
@pytest.mark.parametrize("channels", [3, 7, 35])
def test_pictures_and_gradients_come_back_as_they_should(monkeypatch, version, channels):
    projected, features, leaves = scene(channels)
    package = stand_in(version, projected.distance)
    monkeypatch.setitem(sys.modules, "gsplat", package)
    results = []
    for blend in (gsplat.blend, reference.blend):
        picture, alpha = blend(projected, features, 20, 37)
        weight = torch.sin(torch.arange(1.0, 1 + picture.numel())).view_as(picture)
        gradients = torch.autograd.grad((picture * weight).sum() + alpha.sum(), leaves)
        results.append((picture, alpha, *gradients))
    assert package.handed == {3: [3], 7: [8], 35: [32, 3]}[channels]
    for found, expected in zip(results[0][:2], results[1][:2], strict=True):
        assert_values_agree(found, expected)
    for found, expected in zip(results[0][2:], results[1][2:], strict=True):
        assert_gradients_agree(found, expected)


def test_boxes_hold_all_that_counts_and_the_faint_have_none():
    projected, _, _ = scene(3)
    radii = gsplat._radii(projected)
    faint = projected.opacity < 1 / 255
    assert faint.any() and not radii[faint].any() and (radii[~faint] > 0).all()
    # on the border of the box alpha is at most 1/255
    a, b, c = projected.conic.detach().unbind(-1)
    x, opacity = radii[..., 0].float(), projected.opacity.detach()
    y = -b / c * x
    alpha = opacity * torch.exp(-0.5 * (a * x * x + c * y * y) - b * x * y)
    assert (alpha[~faint] <= 1 / 255 + 1e-6).all()


def test_shapes_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", stand_in("1.5.3"))
    projected, features, _ = scene(3)
    shaped = replace(projected, shape=torch.full_like(projected.opacity, 3.0))
    with pytest.raises(InputError, match="Gaussians alone"):
        gsplat.blend(shaped, features, 8, 8)


def test_it_is_taken_on_cuda_alone_and_only_when_asked_for():
    projected, features, _ = scene(3)
    with pytest.raises(MissingError, match="gsplat runs on CUDA only"):
        splat(projected, features, 20, 37, backend="gsplat")
