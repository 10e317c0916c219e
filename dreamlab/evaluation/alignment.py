"""The similarity (translation and uniform scale, no rotation) that fits a mesh to another best.

    x' = s x + t

"Best" means the largest silhouette IoU. Two starts are compared, one from the bounding boxes and
one from the first two moments of the surfaces (which stray pieces move less); the better one is
improved by a pattern search over (log s, t). Which way an object faces is part of the answer, so
rotations are not searched.

Moving a mesh is the same as moving the rays the other way, so every trial casts rays at one and the
same hierarchy of triangles.

Source: pattern search, Hooke and Jeeves 1961, "Direct search solution of numerical and statistical
problems".
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.mesh import Mesh
from dreamlab.ops.triangles.raycast import MeshCaster
from dreamlab.ops.volume.threshold import mean_iou

SEARCH_SIZE = 48
"""Side of the silhouettes that are compared, pixels."""
STEPS = (0.08, 0.04, 0.02, 0.01, 0.005)
"""Steps of the search, in log scale and in radii of the target."""
MAX_ROUNDS = 6
"""Rounds of the search with one step."""


@dataclass(frozen=True)
class Similarity:
    """x' = scale * x + offset."""

    scale: float
    offset: Float[ndarray, " 3"]

    def apply(self, mesh: Mesh) -> Mesh:
        """Move a mesh; normals stay as they are."""
        vertices = self.scale * mesh.vertices.astype(np.float64) + self.offset
        return replace(mesh, vertices=vertices.astype(np.float32))

    def changed(self, move: Float[ndarray, " 4"], center: Float[ndarray, " 3"]) -> "Similarity":
        """Scale by exp(move[0]) around `center` and shift by move[1:]."""
        factor = float(np.exp(move[0]))
        offset = factor * (self.offset - center) + center + move[1:]
        return Similarity(self.scale * factor, offset)


def align(mesh: Mesh, target: Mesh, cameras: Cameras) -> Similarity:
    """Find the similarity that takes `mesh` to `target`.

    Args:
        mesh: with at least one triangle.
        target: likewise; should be in sight of the cameras.
        cameras: views that the silhouettes are compared in.
    """
    outlines = _Outlines(mesh, cameras)
    wanted = _Outlines(target, cameras).moved(Similarity(1.0, np.zeros(3)))

    def fit(candidate: Similarity) -> float:
        return mean_iou(outlines.moved(candidate), wanted)

    starts = [_between(_box(mesh), _box(target)), _between(_moments(mesh), _moments(target))]
    best, score = max(((start, fit(start)) for start in starts), key=lambda pair: pair[1])
    center, radius = _box(target)
    for step in STEPS:
        for _ in range(MAX_ROUNDS):
            before = score
            for move in _moves(step, radius):
                trial = best.changed(move, center)
                trial_score = fit(trial)
                if trial_score > score:
                    best, score = trial, trial_score
            if score == before:
                break
    return best


def _moves(step: float, radius: float) -> Float[ndarray, "8 4"]:
    """Return a step back and forth in log scale and, in units of `radius`, along every axis."""
    forth = np.diag([step, step * radius, step * radius, step * radius])
    return np.concatenate([forth, -forth])


class _Outlines:
    """Silhouettes of a mesh under any similarity."""

    def __init__(self, mesh: Mesh, cameras: Cameras) -> None:
        self.caster = MeshCaster(mesh.vertices, mesh.faces)
        origins, directions = cameras.rays(SEARCH_SIZE, SEARCH_SIZE)
        self.shape = (*origins.shape[:3], 1)
        self.origins, self.directions = origins.reshape(-1, 3), directions.reshape(-1, 3)

    def moved(self, similarity: Similarity) -> Bool[Tensor, "batch height width 1"]:
        offset = torch.as_tensor(similarity.offset, dtype=self.origins.dtype)
        hits = self.caster.cast((self.origins - offset) / similarity.scale, self.directions)
        return (hits.face_index >= 0).reshape(self.shape)


def _between(a: tuple[ndarray, float], b: tuple[ndarray, float]) -> Similarity:
    """Return the similarity that takes centre and radius `a` to `b`."""
    scale = b[1] / a[1]
    return Similarity(scale, b[0] - scale * a[0])


def _box(mesh: Mesh) -> tuple[Float[ndarray, " 3"], float]:
    """Return centre and half diagonal of the bounding box."""
    low, high = (bound.astype(np.float64) for bound in mesh.bounds)
    return (low + high) / 2, float(np.linalg.norm(high - low)) / 2


def _moments(mesh: Mesh) -> tuple[Float[ndarray, " 3"], float]:
    """Return centroid of the surface and root mean square distance from it."""
    centers = mesh.triangles.mean(axis=1).astype(np.float64)
    share = mesh.face_areas / mesh.face_areas.sum()
    mean = share @ centers
    return mean, float(np.sqrt(share @ ((centers - mean) ** 2).sum(axis=1)))
