"""The surface of a stage's object, and the views that it is found with.

A mesh is its own surface. Densities are cut where the outline of the cut is most like the
outline that the stage renders, or the depths that it renders are fused.

Where each object of a layout has a representation of its own, so has it a surface, in its own
frame; there views go around it, and lengths are those of the frame.
"""

from collections.abc import Sequence
from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Shape, TellsMedianDepth, Volume, objects_of
from dreamlab.ops.volume.surface import closed, extract_surface, smoothed
from dreamlab.ops.volume.threshold import SilhouetteReference, find_threshold
from dreamlab.ops.volume.tsdf import fused_surface
from dreamlab.systems.passes import moved
from dreamlab.systems.stage import PREVIEW_ELEVATION, Stage

OUTLINE_VIEWS, OUTLINE_SIZE = 8, 96
"""Views, and pixels and nodes an axis, that the surface handed to the next stage is found with."""
BLUR, CLOSING = 0.75, 2
"""How the density that the next stage's surface is cut from is blurred and closed, in distances
between nodes: uneven Gaussians leave crumbs and holes (mushroom: 20 parts become 2, and the larger
one has no hole; chair: 31 parts become one)."""
DEPTH_RINGS = ((8, 0.0, -45.0), (8, 22.5, 0.0), (8, 0.0, 45.0))
"""Rings of views whose depth is fused: their number, turn and elevation, degrees. They look from
below too, whatever was trained: what no view sees counts as inside."""
ALMOST_EMPTY = 1e-4
"""Opacity below which there is no depth."""
CHUNK = 4
"""Views rendered at once; bounds memory."""


def surface_of(stage: Stage, number: int | None = None) -> Mesh:
    """Return the surface of a stage's object: its mesh, or where its density has the outline seen.

    Args:
        stage: what has made it.
        number: of one of the objects that the stage's is composed of, in the frame of which the
            surface is; None where it is not composed.

    Raises:
        InputError: there is no surface.
    """
    check_has_surface(stage)
    representation = objects_of(stage.representation)[number or 0]
    if isinstance(representation, Shape):
        with torch.no_grad():
            mesh = representation.triangles().to_mesh()
        if len(mesh.faces) == 0:
            raise InputError(
                f"the mesh of stage {stage.name!r} has no triangles left.",
                "lower its learning rates or the weights of its losses, or start from a larger "
                "shape.",
            )
        return mesh
    assert isinstance(representation, Volume)
    half_extent = representation.half_extent
    if stage.config.surface == "tsdf":
        return fused_surface(depth_views(stage, OUTLINE_SIZE, number), half_extent, OUTLINE_SIZE)
    rings = ((OUTLINE_VIEWS, 0.0, PREVIEW_ELEVATION),)
    reference = silhouettes(stage, rings, OUTLINE_SIZE, number)
    density = closed(smoothed(representation.density_grid(OUTLINE_SIZE), BLUR), CLOSING)
    threshold = find_threshold(density, half_extent, reference).value
    return extract_surface(density, threshold, half_extent)


def check_has_surface(stage: Stage) -> None:
    """Refuse a stage whose object has no surface.

    Raises:
        InputError: it makes a picture.
    """
    if not isinstance(objects_of(stage.representation)[0], Shape | Volume):
        raise InputError(
            f"stage {stage.name!r} makes a picture, which has no surface.",
            "let no stage start from it, and export nothing.",
        )


def depth_views(stage: Stage, size: int, number: int | None = None) -> SilhouetteReference:
    """Render the views whose depth is fused, `size` pixels high and wide; see `silhouettes`."""
    return silhouettes(stage, DEPTH_RINGS, size, number, as_trained=False, median=True)


def silhouettes(
    stage: Stage,
    rings: Sequence[tuple[int, float, float]],
    size: int,
    number: int | None = None,
    *,
    as_trained: bool = True,
    median: bool = False,
) -> SilhouetteReference:
    """Render opacity and depth of a stage from rings of views.

    Args:
        stage: what is looked at.
        rings: number of views, turn and elevation of each ring, degrees.
        size: height and width of the renders, pixels.
        number: of the one object that is shown, of a composed stage; cameras and depths are then in
            its frame. None shows everything, in the world.
        as_trained: clip elevations to those that were trained.
        median: take the median depth instead of the mean where the renderer can tell it.
    """
    around = [
        stage.view_around(n, turned=turn, elevation=up, as_trained=as_trained)
        for n, turn, up in rings
    ]
    cameras = Cameras(
        **{f.name: torch.cat([getattr(ring, f.name) for ring in around]) for f in fields(Cameras)}
    )
    alphas, depths = [], []
    for start in range(0, len(cameras), CHUNK):
        alpha, depth = _seen(stage, cameras[start : start + CHUNK], size, number, median)
        alphas.append(alpha)
        depths.append(depth)
    return SilhouetteReference(cameras, torch.cat(alphas), torch.cat(depths))


def _seen(
    stage: Stage, cameras: Cameras, size: int, number: int | None, median: bool
) -> tuple[Float[Tensor, "batch size size 1"], Float[Tensor, "batch size size 1"]]:
    """Return opacity and depth, of one object in its own frame or of everything."""
    there, scale, regions = cameras, 1.0, None
    if number is not None:
        assert stage.regions is not None  # what is composed has boxes
        frame, regions = stage.regions.frames()[number], stage.regions.only([number])
        scale = float(frame.scale)
        there = moved(cameras, frame.center, turn=float(frame.yaw), scale=scale)
    render = stage.render(there, size, size, regions=regions)
    depth = render.depth / render.alpha.clamp(min=ALMOST_EMPTY)
    renderer = stage.renderer
    if median and isinstance(renderer, TellsMedianDepth):
        depth = renderer.median_depth(there.to(stage.device), size, size, regions=regions)
    return render.alpha, depth / scale
