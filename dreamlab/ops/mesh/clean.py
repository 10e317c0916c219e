"""Repairs that a mesh needs before it is simplified, unwrapped or printed.

Glossary: a *component* is a set of triangles connected through shared edges; a *boundary edge* is
used by one triangle only, and loops of them are the rims of holes; a *cavity* is a closed component
that is turned inside out, a bubble inside the object that nobody can see.

Meshes are in world coordinates and counter-clockwise seen from outside.
"""

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from dreamlab.core.mesh import Mesh

MERGE = 1e-5
"""Vertices closer than this fraction of the mesh's largest side become one."""
SLIVER = 1e-9
"""Triangles of less area than this fraction of the squared largest side count as degenerate."""
COLLAPSE_ROUNDS = 4
"""A collapse may flatten a neighbour; this many rounds have always been enough."""
TAUBIN = (0.5, -0.53)
"""Shrinking and inflating steps, lambda and mu (Taubin 1995)."""


def remove_degenerate(mesh: Mesh) -> Mesh:
    """Merge coincident vertices and collapse triangles without area; a closed mesh stays closed.

    A triangle without area loses its shortest edge. Flaps (two triangles back to back) and
    repeated triangles go, and so do vertices that nothing uses.
    """
    size = _largest_side(mesh)
    from_corner = mesh.vertices.astype(np.float64) - mesh.bounds[0]
    cells = np.round(from_corner / max(size * MERGE, 1e-30)).astype(np.int64)
    _, first, group = np.unique(_row_key(cells), return_index=True, return_inverse=True)
    mesh = _collapse(Mesh(mesh.vertices[first], mesh.faces), group)
    for _ in range(COLLAPSE_ROUNDS):
        flat = mesh.faces[mesh.face_areas <= SLIVER * size**2]
        if len(flat) == 0:
            break
        edges = directed_edges(flat).reshape(-1, 3, 2)
        length = np.linalg.norm(np.diff(mesh.vertices[edges], axis=2)[:, :, 0], axis=-1)
        shortest = edges[np.arange(len(flat)), length.argmin(axis=1)]
        group = label_components(len(mesh.vertices), shortest)
        _, first = np.unique(group, return_index=True)
        mesh = _collapse(Mesh(mesh.vertices[first], mesh.faces), group)
    return keep_faces(mesh, mesh.face_areas > SLIVER * size**2)


def _row_key(rows: Int[ndarray, "rows columns"]) -> Int[ndarray, " rows"]:
    """Number rows of up to three integers from 0 to 2e6, equal rows alike."""
    base = int(rows.max(initial=0)) + 1
    key = np.zeros(len(rows), dtype=np.int64)
    for column in rows.T:
        key = key * base + column
    return key


def _collapse(mesh: Mesh, group: Int[ndarray, " old"]) -> Mesh:
    """Renumber the faces of `mesh` by `group`, then drop collapsed triangles, flaps and repeats."""
    faces = group[mesh.faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    even = np.isin(np.argmin(faces, axis=1) * 3 + np.argmax(faces, axis=1), (2, 3, 7))
    turn = np.where(even, 1, -1)
    _, repeat = np.unique(_row_key(np.sort(faces, axis=1)), return_inverse=True)
    surplus = np.bincount(repeat, turn)[repeat]
    # of triangles on the same corners, one stays: of the side that outnumbers the other
    right_way = np.nonzero(turn * surplus > 0)[0]
    _, first = np.unique(repeat[right_way], return_index=True)
    return keep_faces(Mesh(mesh.vertices, faces), np.sort(right_way[first]))


def keep_faces(mesh: Mesh, faces: Bool[ndarray, " faces"] | Int[ndarray, " kept"]) -> Mesh:
    """Return the mesh of some of the triangles, without the vertices that only others use."""
    kept = mesh.faces[faces]
    used, inverse = np.unique(kept, return_inverse=True)
    return Mesh(mesh.vertices[used], inverse.reshape(kept.shape))


def _largest_side(mesh: Mesh) -> float:
    low, high = mesh.bounds
    return float((high - low).max())


def directed_edges(faces: Int[ndarray, "faces 3"]) -> Int[ndarray, "edges 2"]:
    """Return the three edges of every triangle in its direction, face by face."""
    return faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)


def face_adjacency(faces: Int[ndarray, "faces 3"]) -> Int[ndarray, "pairs 2"]:
    """Return pairs of triangles that share an edge."""
    key = _row_key(np.sort(directed_edges(faces), axis=1))
    order = np.argsort(key, kind="stable")
    same = np.nonzero(key[order[1:]] == key[order[:-1]])[0]
    return np.stack([order[same], order[same + 1]], axis=1) // 3


def label_components(count: int, pairs: Int[ndarray, "pairs 2"]) -> Int[ndarray, " count"]:
    """Number the components of `count` things of which pairs are connected."""
    ones = np.ones(len(pairs), dtype=bool)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def boundary_edges(faces: Int[ndarray, "faces 3"]) -> Int[ndarray, "edges 2"]:
    """Return directed edges without the opposite one: the rims of holes."""
    edges = directed_edges(faces)
    return edges[~np.isin(_row_key(edges), _row_key(edges[:, ::-1]))]


def is_watertight(mesh: Mesh) -> bool:
    """Whether every edge is shared by exactly two triangles of opposite direction."""
    edges = directed_edges(mesh.faces)
    unique = len(np.unique(_row_key(edges))) == len(edges)
    return len(mesh.faces) > 0 and unique and len(boundary_edges(mesh.faces)) == 0


def drop_components(mesh: Mesh, min_share: float) -> tuple[Mesh, int, int]:
    """Drop cavities and the components that hold less than `min_share` of the outer area.

    Returns:
        The mesh, the number of components kept and the number dropped. The largest is always kept.
    """
    label = label_components(len(mesh.faces), face_adjacency(mesh.faces))
    count = int(label.max()) + 1
    area = np.bincount(label, mesh.face_areas, count)
    a, b, c = np.moveaxis(mesh.triangles.astype(np.float64), 1, 0)
    volume = np.bincount(label, np.einsum("ni,ni->n", a, np.cross(b, c)) / 6, count)
    component_of_vertex = np.zeros(len(mesh.vertices), dtype=np.int64)
    component_of_vertex[mesh.faces] = label[:, None]
    closed = np.ones(count, dtype=bool)
    closed[component_of_vertex[boundary_edges(mesh.faces)[:, 0]]] = False
    cavity = closed & (volume < 0)
    area = np.where(cavity, 0.0, area)
    keep = area >= min_share * area.sum()
    keep[area.argmax()] = True
    if not cavity.all():
        keep &= ~cavity
    return keep_faces(mesh, keep[label]), int(keep.sum()), int(count - keep.sum())


def fill_holes(mesh: Mesh, max_edges: int) -> tuple[Mesh, int]:
    """Close rims of at most `max_edges` edges by a fan around their centre.

    Rims that cross themselves at a vertex are left open.

    Returns:
        The mesh and the number of holes that were closed.
    """
    following = _simple_successors(boundary_edges(mesh.faces))
    vertices, faces = list(mesh.vertices), [mesh.faces]
    num_filled = 0
    while following:
        start, current = following.popitem()
        rim = [start]
        while current != start and current in following:
            rim.append(current)
            current = following.pop(current)
        if current != start or not 3 <= len(rim) <= max_edges:
            continue
        num_filled += 1
        # the new triangles use the rim's edges in the opposite direction
        ahead = np.roll(rim, -1)
        if len(rim) == 3:
            faces.append(np.array([rim[::-1]]))
            continue
        centre = np.full(len(rim), len(vertices))
        vertices.append(mesh.vertices[rim].mean(axis=0))
        faces.append(np.stack([ahead, np.array(rim), centre], axis=1))
    filled = np.concatenate(faces).astype(mesh.faces.dtype)
    return Mesh(np.array(vertices, dtype=mesh.vertices.dtype), filled), num_filled


def _simple_successors(edges: Int[ndarray, "edges 2"]) -> dict[int, int]:
    """Map the start of every rim edge to its end, where only one rim edge starts."""
    starts, counts = np.unique(edges[:, 0], return_counts=True)
    simple = np.isin(edges[:, 0], starts[counts == 1])
    return {int(a): int(b) for a, b in edges[simple]}


def smooth(mesh: Mesh, iterations: int) -> Mesh:
    """Smooth without shrinking: alternate Laplacian steps of factor lambda and mu.

    Source: Taubin, "A signal processing approach to fair surface design", 1995; uniform weights.
    """
    edges = directed_edges(mesh.faces)
    rows, columns = np.concatenate([edges, edges[:, ::-1]]).T
    count = len(mesh.vertices)
    neighbours = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(count, count))
    neighbours.data[:] = 1.0  # an edge counts once, however many triangles share it
    degree = np.maximum(np.asarray(neighbours.sum(axis=1)), 1.0)
    vertices = mesh.vertices.astype(np.float64)
    for _ in range(iterations):
        for factor in TAUBIN:
            vertices = vertices + factor * (neighbours @ vertices / degree - vertices)
    return Mesh(vertices.astype(mesh.vertices.dtype), mesh.faces)


def vertex_normals(mesh: Mesh) -> Float[ndarray, "vertices 3"]:
    """Return unit normals, the area-weighted mean over the triangles around each vertex.

    A vertex whose triangles cancel out gets the direction away from the mesh's centre.
    """
    a, b, c = np.moveaxis(mesh.triangles.astype(np.float64), 1, 0)
    weighted = np.cross(b - a, c - a)
    corners = mesh.faces.reshape(-1)
    repeated = np.repeat(weighted, 3, axis=0)
    normals = np.stack(
        [np.bincount(corners, repeated[:, k], len(mesh.vertices)) for k in range(3)], axis=1
    )
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    outward = mesh.vertices - mesh.vertices.mean(axis=0) + [0.0, 0.0, 1e-12]
    typical = np.linalg.norm(weighted, axis=1).mean()
    normals = np.where(length > 1e-6 * typical, normals, outward)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
