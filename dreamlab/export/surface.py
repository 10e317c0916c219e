"""The surface of one object, from its representation: cut, repaired, smoothed, simplified.

A mesh is its own surface. A density is cut where its outline fits the renders, or their depths are
fused. All is in the frame of the object.
"""

from dataclasses import dataclass, replace

import torch

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.protocols import Representation, Shape, Volume
from dreamlab.export.objects import Piece
from dreamlab.export.phases import Phases
from dreamlab.export.settings import ExportConfig
from dreamlab.ops.mesh.clean import (
    drop_components,
    fill_holes,
    remove_degenerate,
    smooth,
    vertex_normals,
)
from dreamlab.ops.mesh.simplify import simplify
from dreamlab.ops.triangles.raycast import silhouette
from dreamlab.ops.volume.surface import extract_surface
from dreamlab.ops.volume.threshold import SilhouetteReference, find_threshold, mean_iou
from dreamlab.ops.volume.tsdf import fused_surface

SMOOTHING_COST = 0.002
"""Silhouette IoU that smoothing may cost; it is undone if it costs more."""


@dataclass(frozen=True)
class Cut:
    """The surface of one piece, repaired, in its frame."""

    mesh: Mesh
    threshold: float | None
    """Density that it lies at, if it is one of the density."""
    dropped: int
    """Loose pieces that were dropped."""
    holes: int
    """Holes that were filled."""
    smoothed: bool


def cut(piece: Piece, config: ExportConfig, phase: Phases) -> Cut:
    """Find the surface of a piece and repair it.

    Raises:
        InputError: there is none.
    """
    surface, threshold = _surface(piece.representation, piece.reference, config, phase)
    with phase("clean"):
        mesh = remove_degenerate(surface)
        mesh, _, dropped = drop_components(mesh, config.min_component_share)
        mesh, holes = fill_holes(mesh, config.max_hole_edges)
        mesh, smoothed = _smooth_if_harmless(mesh, piece.reference, config.smoothing)
    return Cut(mesh, threshold, dropped, holes, smoothed)


def simplified(mesh: Mesh, max_faces: int, config: ExportConfig) -> tuple[Mesh, int, int]:
    """Return a mesh of fewer triangles with normals, and how many pieces were kept and dropped."""
    mesh = simplify(mesh, max_faces)
    mesh, kept, fragments = drop_components(mesh, config.min_component_share)
    return replace(mesh, normals=vertex_normals(mesh)), kept, fragments


def _surface(
    representation: Representation,
    reference: SilhouetteReference,
    config: ExportConfig,
    phase: Phases,
) -> tuple[Mesh, float | None]:
    """Return the surface, and its density if it is one of the density, which may be found first."""
    if isinstance(representation, Shape):
        with phase("extract"), torch.no_grad():
            return not_empty(representation.triangles().to_mesh()), None
    half_extent = representation.half_extent
    if config.surface == "tsdf":
        with phase("extract"):
            return fused_surface(reference, half_extent, config.resolution), None
    if not isinstance(representation, Volume):
        raise TypeError(f"a {type(representation).__name__} is neither a mesh nor a volume")
    with phase("density"):
        density = representation.density_grid(config.resolution)
    threshold = config.threshold
    if threshold is None:
        with phase("threshold"):
            threshold = find_threshold(density, half_extent, reference).value
    with phase("extract"):
        return extract_surface(density, threshold, half_extent), threshold


def not_empty(mesh: Mesh) -> Mesh:
    """Return a mesh if it has triangles.

    Raises:
        InputError: it has none.
    """
    if len(mesh.faces) == 0:
        raise InputError(
            "there is nothing to export: the mesh has no triangles.",
            "optimise for more steps, or start again with another seed.",
        )
    return mesh


def iou(mesh: Mesh, reference: SilhouetteReference) -> float:
    """Return how well the outline of a mesh fits the renders, the mean IoU over their views."""
    height, width = reference.alpha.shape[1:3]
    cameras = reference.cameras.to(reference.alpha.device)
    return mean_iou(silhouette(mesh, cameras, height, width), reference.mask)


def _smooth_if_harmless(
    mesh: Mesh, reference: SilhouetteReference, iterations: int
) -> tuple[Mesh, bool]:
    """Smooth the mesh unless its outline then fits the renders worse."""
    if iterations == 0:
        return mesh, False
    smoothed = remove_degenerate(smooth(mesh, iterations))
    if iou(smoothed, reference) < iou(mesh, reference) - SMOOTHING_COST:
        return mesh, False
    return smoothed, True
