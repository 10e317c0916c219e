"""The numbers of ToyBench, one function each.

Glossary: A and B meshes, `S` silhouettes (sets of pixels), `p` a point of a surface, `d(p, B)` its
distance to the nearest point of B; v a view, k a prompt, s_vk the judge's score of prompt k for the
picture of view v. Lengths are world units: objects fit the ball of radius 0.85.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

from dreamlab.core.cameras import Cameras
from dreamlab.core.mesh import Mesh
from dreamlab.evaluation.views import AMBIENT, lights
from dreamlab.ops.triangles.distance import distances_to, sample_surface
from dreamlab.ops.triangles.raycast import render_mesh, silhouette
from dreamlab.ops.volume.threshold import mean_iou
from dreamlab.priors.toybox.world.views import view_word

SIZE = 128
"""Side of the pictures in which shapes and colours are compared, pixels."""
NUM_POINTS = 20_000
"""Points drawn on each surface."""
FACING_TOLERANCE = 30.0
"""Views this close to an axis count as seeing the object from there, degrees."""
SIDES: dict[str, float] = {"front": 0.0, "left": 90.0, "back": 180.0, "right": -90.0}
"""Azimuths of the four axes."""
WORDS = ("front", "side", "back")


@runtime_checkable
class Judge(Protocol):
    """Says how well captions fit pictures."""

    def scores(
        self, images: Float[Tensor, "images height width 3"], captions: Sequence[str]
    ) -> Float[Tensor, "images captions"]:
        """Score every caption against every picture (sRGB in [0, 1]); higher fits better."""
        ...


def silhouette_iou(a: Mesh, b: Mesh, cameras: Cameras) -> float:
    """Average |S_a intersect S_b| / |S_a unite S_b| over views; 1 is best."""
    return mean_iou(silhouette(a, cameras, SIZE, SIZE), silhouette(b, cameras, SIZE, SIZE))


def chamfer_distance(a: Mesh, b: Mesh) -> float:
    """Average how far the surfaces are from each other; 0 is best.

        1/2 mean_{p on A} d(p, B) + 1/2 mean_{p on B} d(p, A)

    Source: Mescheder et al. 2019, "Occupancy networks", "Chamfer-L1": accuracy and completeness,
    here to the exact surfaces instead of other points.
    """
    to_b = distances_to(b, sample_surface(a, NUM_POINTS, seed=0))
    to_a = distances_to(a, sample_surface(b, NUM_POINTS, seed=1))
    return float(to_b.mean() + to_a.mean()) / 2


Lab = Float[np.ndarray, "pixels 3"]
"""CIELAB: lightness L* in [0, 100], a* from green to red, b* from blue to yellow."""


def colors_of_both(a: Mesh, b: Mesh, cameras: Cameras) -> tuple[Lab, Lab] | None:
    """Return the colours of two meshes under the same light, at the pixels that see both.

    None if there is none.
    """
    renders = [
        render_mesh(
            mesh,
            cameras,
            SIZE,
            SIZE,
            supersample=1,
            light_direction=lights(cameras),
            ambient=AMBIENT,
        )
        for mesh in (a, b)
    ]
    both = ((renders[0].alpha > 0.5) & (renders[1].alpha > 0.5))[..., 0]
    if not both.any():
        return None
    of_a, of_b = (rgb2lab(render.rgb[both].numpy()) for render in renders)
    return of_a, of_b


def color_error(a: Lab, b: Lab) -> float:
    """Average the CIEDE2000 difference of colours; 0 is best.

    About 1 is just noticeable, 100 is white against black.

    Source: Sharma, Wu and Dalal 2005, "The CIEDE2000 color-difference formula".
    """
    return float(np.mean(deltaE_ciede2000(a, b)))


def chroma_excess(a: Lab, truth: Lab) -> float:
    """Return mean C*(a) - mean C*(truth), C* = sqrt(a*^2 + b*^2); 0 is best.

    Above 0 colours are more saturated than the truth's, as guidance at a high scale makes them,
    below 0 they are paler.
    """
    chroma, wanted = (np.linalg.norm(lab[:, 1:], axis=1) for lab in (a, truth))
    return float(chroma.mean() - wanted.mean())


def r_precision(
    images: Float[Tensor, "views height width 3"],
    cameras: Cameras,
    prompts: Sequence[str],
    own: int,
    judge: Judge,
) -> float:
    """Return the share of views that their own prompt fits best: mean_v [argmax_k s_vk = own].

    Every prompt is completed by the word for the view, as "a red duck, side view": whether
    something stands next to or in front of something else can only be told by who knows that.

    Source: Park et al. 2021, "Benchmark for compositional text-to-image synthesis", section 4;
    for text to 3D Jain et al. 2022, "Zero-shot text-guided object generation with dream fields".
    """
    right = 0
    for word, views in _views_by_word(cameras):
        captions = [_caption(prompt, word) for prompt in prompts]
        right += int((judge.scores(images[views], captions).argmax(dim=1) == own).sum())
    return right / len(cameras)


def similarity(
    images: Float[Tensor, "views height width 3"], cameras: Cameras, prompt: str, judge: Judge
) -> float:
    """Return how well the prompt fits the views: mean_v s_v, completed by the word for the view."""
    total = 0.0
    for word, views in _views_by_word(cameras):
        total += float(judge.scores(images[views], [_caption(prompt, word)]).sum())
    return total / len(cameras)


def _views_by_word(cameras: Cameras) -> Iterator[tuple[str, list[int]]]:
    """Yield the words for views, and which views each is for."""
    words = [
        view_word(float(azimuth), float(elevation))
        for azimuth, elevation in zip(cameras.azimuth, cameras.elevation, strict=True)
    ]
    for word in sorted(set(words)):
        yield word, [index for index, other in enumerate(words) if other == word]


def _caption(prompt: str, word: str) -> str:
    return f"{prompt}, {word} view"


@dataclass(frozen=True)
class Facing:
    """Whether an object has its front in front, and nowhere else."""

    front_in_front: bool
    """Seen from azimuth 0, "front view" fits better than "back view"."""
    back_behind: bool
    """Seen from azimuth 180, "back view" fits better than "front view"."""
    num_faces: int
    """From how many of the four sides "front view" fits best of front, side and back."""

    @property
    def correct(self) -> bool:
        """No Janus: the front is in front, the back behind, and there is one face."""
        return self.front_in_front and self.back_behind and self.num_faces == 1


def facing(
    images: Float[Tensor, "views height width 3"], cameras: Cameras, prompt: str, judge: Judge
) -> Facing:
    """Ask the judge from where the front is seen.

    For each of the four sides, the scores of "<prompt>, <word> view" are summed over the views
    that are within `FACING_TOLERANCE` degrees of it.

    Args:
        images: sRGB in [0, 1].
        cameras: of the images; some near every side.
        prompt: of an object with a front.
        judge: knows captions with view words.
    """
    scores = judge.scores(images, [_caption(prompt, word) for word in WORDS])
    sides: dict[str, dict[str, float]] = {}
    for side, azimuth in SIDES.items():
        turned = ((cameras.azimuth - azimuth + 180) % 360 - 180).abs()
        total = scores[turned <= FACING_TOLERANCE].sum(dim=0)
        sides[side] = dict(zip(WORDS, total.tolist(), strict=True))
    return Facing(
        front_in_front=sides["front"]["front"] > sides["front"]["back"],
        back_behind=sides["back"]["back"] > sides["back"]["front"],
        num_faces=sum(max(WORDS, key=of.__getitem__) == "front" for of in sides.values()),
    )
