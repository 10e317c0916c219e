"""Models from files, as a stage can start from them: shape and colours, in world axes, in size.

A file may hold several objects; they become one mesh. Base colours come from textures, from vertex
colours or from the colour of the material; glTF states the last two as linear light, which become
sRGB here. Lights, cameras, animations and all other maps are left out. A PLY in the convention of
3D Gaussian splatting holds Gaussians instead, which stay Gaussians. Stages that make a picture
start from a picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.frames import FRAME_OF, to_world_axes
from dreamlab.core.mesh import Mesh, joined
from dreamlab.core.pictures import READABLE, open_picture
from dreamlab.core.protocols import Splats
from dreamlab.core.splat_file import holds_splats, read_splats
from dreamlab.ops.light.srgb import to_srgb
from dreamlab.ops.triangles.distance import nearest_to
from dreamlab.ops.triangles.paint import Paint

LINEAR = (".glb", ".gltf")
"""Formats whose vertex and material colours are linear light."""
SHARE = 0.85
"""Radius of the ball that a model is fitted into, as a share of the cube's half side."""
FAINT = 0.1
"""Gaussians with less opacity do not count as part of the object."""


@dataclass(frozen=True)
class Asset:
    """A model of one or more painted parts, in the world."""

    parts: Sequence[Mesh]

    @cached_property
    def mesh(self) -> Mesh:
        """All parts as one mesh, for its shape."""
        return joined(self.parts)

    def color_at(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the colour, sRGB in [0, 1], of the nearest point of the surface."""
        nearest = nearest_to(self.mesh, points.detach().cpu().numpy())
        colors, begin = torch.zeros(len(points), 3), 0
        for part in self.parts:
            own = (nearest.face >= begin) & (nearest.face < begin + len(part.faces))
            face = (nearest.face[own] - begin).long()
            colors[own] = Paint(part).at(face, nearest.weight[own])
            begin += len(part.faces)
        return colors.to(points)


Photo = Float[Tensor, "height width 3"]
"""Colours of a picture, sRGB in [0, 1]."""
Start = Asset | Splats | Photo


def load_asset(path: Path, half_extent: float) -> Asset:
    """Read a model and fit it into the cube [-half_extent, half_extent]^3.

    The middle of its bounding box comes to the origin, and its farthest vertex to `SHARE` of
    `half_extent`, so it fits the views that a prior knows.

    Raises:
        InputError: the format is unknown, the file cannot be read, it holds no triangles, or they
            are inside out.
    """
    suffix = path.suffix.lower()
    if suffix not in FRAME_OF:
        raise InputError(
            f"{path} is no model that can be read.", f"give one of: {', '.join(FRAME_OF)}."
        )
    try:
        scene = trimesh.load_scene(path, process=False)
    except Exception as error:  # trimesh raises whatever a broken file leads to
        raise InputError(
            f"{path} cannot be read: {error}.", "check the path and the file."
        ) from None
    models = [model for model in scene.dump() if isinstance(model, trimesh.Trimesh)]
    models = [model for model in models if len(model.faces)]
    if not models:
        raise InputError(f"{path} holds no triangles.", "give a file with a mesh.")
    if _closed_volume(models) < 0:
        raise InputError(
            f"the triangles of {path} face inwards, so that light would reach none of them.",
            "turn its normals outwards (in Blender: Mesh > Normals > Recalculate Outside).",
        )
    parts = [to_world_axes(_mesh(m, suffix in LINEAR), FRAME_OF[suffix]) for m in models]
    return Asset(_fit(parts, SHARE * half_extent))


def _closed_volume(models: Sequence[trimesh.Trimesh]) -> float:
    """Return what the closed models enclose together, below zero if they are inside out."""
    welded = [trimesh.Trimesh(model.vertices, model.faces) for model in models]
    return sum((float(model.volume) for model in welded if model.is_watertight), 0.0)


def load_start(path: Path, half_extent: float) -> Start:
    """Read a model, Gaussians or a picture, whatever the file holds.

    Raises:
        InputError: see `load_asset` and `load_splats`; or it is no picture.
    """
    if path.suffix.lower() in READABLE:
        return torch.from_numpy(np.array(open_picture(path, "start_from"))).float() / 255
    if path.suffix.lower() == ".ply" and holds_splats(path):
        return load_splats(path, half_extent)
    return load_asset(path, half_extent)


def load_splats(path: Path, half_extent: float) -> Splats:
    """Read Gaussians and fit them into the cube [-half_extent, half_extent]^3.

    They come where the vertices of a model would, but the faint ones, which may lie anywhere, have
    no say in that.

    Raises:
        InputError: the file cannot be read or holds no Gaussians.
    """
    splats = read_splats(path)
    solid = splats.means[splats.opacities >= FAINT]
    if len(solid) == 0:
        raise InputError(
            f"no Gaussian of {path} has an opacity of {FAINT} or more.", "give another file."
        )
    middle = (solid.amin(dim=0) + solid.amax(dim=0)) / 2
    size = float((solid - middle).norm(dim=1).max())
    scale = SHARE * half_extent / size if size > 0 else 1.0
    return replace(splats, means=(splats.means - middle) * scale, scales=splats.scales * scale)


def _fit(parts: Sequence[Mesh], radius: float) -> list[Mesh]:
    vertices = np.concatenate([part.vertices for part in parts]).astype(np.float64)
    middle = (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    scale = radius / np.linalg.norm(vertices - middle, axis=1).max()
    return [_moved(part, middle, scale) for part in parts]


def _moved(part: Mesh, middle: ndarray, scale: float) -> Mesh:
    vertices = ((part.vertices - middle) * scale).astype(np.float32)
    return Mesh(vertices, part.faces, colors=part.colors, uv=part.uv, texture=part.texture)


def _mesh(model: trimesh.Trimesh, is_linear: bool) -> Mesh:
    vertices = np.asarray(model.vertices, dtype=np.float32)
    faces = np.asarray(model.faces, dtype=np.int64)
    uv = getattr(model.visual, "uv", None)
    material = getattr(model.visual, "material", None)
    image = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    if uv is not None and image is not None:
        texture = np.asarray(image.convert("RGB"))
        return Mesh(vertices, faces, uv=np.asarray(uv, dtype=np.float64), texture=texture)
    return Mesh(vertices, faces, colors=_vertex_colors(model, material, is_linear))


def _vertex_colors(
    model: trimesh.Trimesh, material: Any, is_linear: bool
) -> Float[ndarray, "vertices 3"] | None:
    """Return colours of the vertices or of the material, sRGB in [0, 1]; None if there are none."""
    visual: Any = model.visual
    if visual.kind in ("vertex", "face"):
        colors = np.asarray(visual.vertex_colors)[:, :3] / 255.0
    elif visual.kind == "texture":
        colors = np.tile(np.asarray(material.main_color)[:3] / 255.0, (len(model.vertices), 1))
    else:
        return None
    encoded = to_srgb(torch.from_numpy(colors)).numpy() if is_linear else colors
    return encoded.astype(np.float32)
