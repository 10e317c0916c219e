"""How many of the objects that a prompt names are there, in their colours.

    found_k = mean_v [argmax_p s(v, piece(k), p) = p_k]

    the mean over k of which is made as large as it can be by where the mesh is cut and by which
    piece is taken for which object

Glossary: `k` an object that the prompt names, `p_k` its phrase, as "a red cat"; `p` any object of
the world in any plain colour, 744 in all, or any of the prompt's; `v` one of 16 views around a
piece, which stands in the middle, as large as single objects of the world; `s` the judge's score.

So the judge, which has never seen three different things together, sees one at a time, and it is
asked for object and colour, not for the relation: cats may stand below tables. A mesh in which
objects have grown into each other is cut where that serves it best, whether or not it was made with
boxes; a single object is not cut. That freedom lets a mesh be taken for more than it is; how much
more is seen by asking it for the objects of other prompts.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray

from dreamlab.core.layout import Layout
from dreamlab.core.mesh import Mesh
from dreamlab.evaluation.metrics import Judge
from dreamlab.evaluation.parting import cut
from dreamlab.evaluation.views import judge_cameras, portraits
from dreamlab.priors.toybox.world.captions import prompt_of
from dreamlab.priors.toybox.world.objects.catalogue import CATALOGUE
from dreamlab.priors.toybox.world.palette import COLORS
from dreamlab.priors.toybox.world.scenes import SINGLE_RADIUS, Item, Scene

PIECES_AT_ONCE = 16
"""Whose pictures are shown to the judge together."""


def objects_found(
    mesh: Mesh, objects: Sequence[str], layout: Layout, judge: Judge
) -> tuple[float, ...]:
    """Return for each object the share of views in which it is recognised with its colour.

    Args:
        mesh: painted, world coordinates.
        objects: their phrases, as `captions.prompt_of` says them.
        layout: a box for each of them, in this order; see `parting.cut`.
        judge: is shown the pieces.

    Raises:
        ValueError: no planes part the boxes.
    """
    found = cut(mesh, layout)
    return best_of(found.cuts, recognised(found.pieces, objects, judge))


def best_of(
    cuts: Sequence[Sequence[int]], shares: Float[ndarray, "pieces objects"]
) -> tuple[float, ...]:
    """Return the share of each object for the cut and the order of its pieces with the best mean.

    Args:
        cuts: numbers of pieces, one for each object.
        shares: of the views of each piece that show each object.
    """
    best = np.zeros(shares.shape[1])
    for pieces in cuts:
        for order in permutations(pieces):
            found = shares[list(order), range(len(order))]
            if found.mean() > best.mean():
                best = found
    return tuple(best.tolist())


def recognised(
    pieces: Sequence[Mesh], objects: Sequence[str], judge: Judge
) -> Float[ndarray, "pieces objects"]:
    """Return the share of views of each piece in which an object fits best of the world's.

    Args:
        pieces: painted; each is moved to the middle and scaled.
        objects: phrases.
        judge: is shown them.
    """
    names = list(dict.fromkeys((*world_objects(), *objects)))
    wanted = torch.tensor([names.index(one) for one in objects])
    cameras = judge_cameras()
    shares: list[torch.Tensor] = []
    for start in range(0, len(pieces), PIECES_AT_ONCE):
        some = pieces[start : start + PIECES_AT_ONCE]
        images = torch.cat([portraits(_centred(piece), cameras) for piece in some])
        best = judge.scores(images, names).argmax(dim=1).reshape(len(some), -1, 1)
        shares.append((best == wanted).float().mean(dim=1))
    return torch.cat(shares).numpy()


@functools.cache
def world_objects() -> tuple[str, ...]:
    """Return the phrases of all objects of the world, each in all plain colours."""
    items = (Item(kind.name, color) for kind in CATALOGUE for color in COLORS)
    return tuple(prompt_of(Scene((item,))) for item in items)


def _centred(mesh: Mesh) -> Mesh:
    """Move the middle of a mesh to the origin and its farthest corner to where the world's is."""
    corners = mesh.triangles.reshape(-1, 3)
    middle = (corners.min(axis=0) + corners.max(axis=0)) / 2
    scale = SINGLE_RADIUS[None] / np.linalg.norm(corners - middle, axis=1).max()
    return replace(mesh, vertices=((mesh.vertices - middle) * scale).astype(np.float32))
