"""What a good surface looks like: losses on triangles, each a mean.

    normal_consistency   1 - n_f . n_g over neighbouring triangles f, g
    laplacian            |v - mean of v's neighbours|^2 over vertices v

Sources: Desbrun et al. 1999 (umbrella operator); nvdiffrec (Munkberg et al. 2022).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreamlab.core.triangles import Triangles
from dreamlab.ops.triangles.normals import face_normals


def normal_consistency(surface: Triangles) -> Float[Tensor, ""]:
    """Return mean 1 - n_f . n_g over the pairs of triangles at an edge, in [0, 2]."""
    normals = face_normals(surface.vertices, surface.tri)
    first, second = surface.topology.triangles.unbind(dim=1)
    inner = torch.nonzero(second >= 0)[:, 0]
    f, g = (normals.index_select(0, side.index_select(0, inner)) for side in (first, second))
    return 1 - (f * g).sum(dim=-1).mean()


def laplacian(surface: Triangles) -> Float[Tensor, ""]:
    """Return the mean squared distance of vertices from the middle of their neighbours."""
    vertices = surface.vertices
    a, b = surface.topology.edges.unbind(dim=1)
    start, end = torch.cat([a, b]), torch.cat([b, a])
    count = torch.bincount(start, minlength=len(vertices)).clamp(min=1)[:, None]
    total = torch.zeros_like(vertices).index_add(0, start, vertices.index_select(0, end))
    return (vertices - total / count).square().sum(dim=-1).mean()
