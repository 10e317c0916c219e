"""The surface of a stage's object, and the views that it is found with.

A mesh is its own surface. Densities are cut where the outline of the cut is most like the
outline that the stage renders, or the depths that it renders are fused.
"""

from collections.abc import Sequence
from dataclasses import fields

import torch

from dreamlab.core.cameras import Cameras
from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Shape, Volume
from dreamlab.ops.volume.surface import closed, extract_surface, smoothed
from dreamlab.ops.volume.threshold import SilhouetteReference, find_threshold
from dreamlab.ops.volume.tsdf import fused_surface
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


def surface_of(stage: Stage) -> Mesh:
    """Return the surface of a stage's object: its mesh, or where its density has the outline seen.

    Raises:
        InputError: there is no surface.
    """
    representation = stage.representation
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
    check_has_surface(stage)
    assert isinstance(representation, Volume)
    half_extent = representation.half_extent
    if stage.config.surface == "tsdf":
        return fused_surface(depth_views(stage, OUTLINE_SIZE), half_extent, OUTLINE_SIZE)
    reference = silhouettes(stage, ((OUTLINE_VIEWS, 0.0, PREVIEW_ELEVATION),), OUTLINE_SIZE)
    density = closed(smoothed(representation.density_grid(OUTLINE_SIZE), BLUR), CLOSING)
    threshold = find_threshold(density, half_extent, reference).value
    return extract_surface(density, threshold, half_extent)


def check_has_surface(stage: Stage) -> None:
    """Refuse a stage whose object has no surface.

    Raises:
        InputError: it makes a picture.
    """
    if not isinstance(stage.representation, Shape | Volume):
        raise InputError(
            f"stage {stage.name!r} makes a picture, which has no surface.",
            "let no stage start from it, and export nothing.",
        )


def depth_views(stage: Stage, size: int) -> SilhouetteReference:
    """Render the views whose depth is fused, `size` pixels high and wide."""
    return silhouettes(stage, DEPTH_RINGS, size, as_trained=False)


def silhouettes(
    stage: Stage,
    rings: Sequence[tuple[int, float, float]],
    size: int,
    *,
    as_trained: bool = True,
) -> SilhouetteReference:
    """Render opacity and depth of a stage from rings of views.

    Args:
        stage: what is looked at.
        rings: number of views, turn and elevation of each ring, degrees.
        size: height and width of the renders, pixels.
        as_trained: clip elevations to those that were trained.
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
        render = stage.render(cameras[start : start + CHUNK], size, size)
        alphas.append(render.alpha)
        depths.append(render.depth / render.alpha.clamp(min=ALMOST_EMPTY))
    return SilhouetteReference(cameras, torch.cat(alphas), torch.cat(depths))
