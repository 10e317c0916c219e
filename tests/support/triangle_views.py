"""Meshes seen by cameras, for the tests of triangles."""

import math

import torch
import trimesh

from dreamlab.core.cameras import orbit_cameras

FOV_Y = 45.0
DISTANCE = 3.0
FOCAL = 1 / math.tan(math.radians(FOV_Y / 2))
"""Half of a picture's height, in units of the tangent of an angle from its middle."""


def cameras(count=1, elevation=20.0):
    azimuth = torch.arange(count) * 77.0 + 10
    ones = torch.ones(count)
    return orbit_cameras(azimuth, ones * elevation, ones * DISTANCE, ones * FOV_Y)


def to_clip(vertices, views=None):
    """Clip-space positions [views, vertices, 4] of world-space vertices."""
    matrices = (views or cameras()).world_to_clip().to(vertices)
    homogeneous = torch.cat([vertices, torch.ones_like(vertices[:, :1])], dim=1)
    return homogeneous @ matrices.transpose(1, 2)


def sphere(subdivisions=3, dtype=torch.float32):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(mesh.vertices, dtype=dtype), torch.tensor(mesh.faces)


def loose_triangles(count, seed=0, size=0.6, dtype=torch.float32):
    """Random triangles that cut through each other and share no vertex."""
    draw = torch.Generator().manual_seed(seed)
    middle = torch.rand(count, 1, 3, generator=draw, dtype=dtype) * 1.6 - 0.8
    corners = middle + size * (torch.rand(count, 3, 3, generator=draw, dtype=dtype) - 0.5)
    return corners.reshape(-1, 3), torch.arange(3 * count).reshape(count, 3)
