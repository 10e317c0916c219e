"""One object against the truth: every metric of one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from dreamlab.core.mesh import Mesh
from dreamlab.evaluation import metrics
from dreamlab.evaluation.alignment import align
from dreamlab.evaluation.found import objects_found
from dreamlab.evaluation.metrics import Facing, Judge
from dreamlab.evaluation.prompts import BenchPrompt
from dreamlab.evaluation.views import judge_cameras, portraits, shape_cameras
from dreamlab.jobs.layouts.words import layout_of


@dataclass(frozen=True)
class Measures:
    """How good an object is; None is what could not be asked."""

    silhouette_iou: float
    """After alignment, over 16 views; see `metrics`."""
    chamfer: float
    """After alignment, world units."""
    color_error: float | None
    """After alignment, CIEDE2000; None if the two objects share no pixel."""
    chroma_excess: float | None
    """After alignment, CIELAB: above 0 over-saturated; None if the two objects share no pixel."""
    r_precision: float | None
    """As it stands, over 16 views, among some prompts; None without a judge, and if the own
    prompt is none of those."""
    facing: Facing | None
    """As it stands; None without a judge or a front."""
    found: tuple[float, ...] | None = None
    """Of each object the share of views of it alone in which it is recognised among all objects in
    all colours; see `found`. None without a judge."""


def measure(
    mesh: Mesh, truth: Mesh, prompt: BenchPrompt, judge: Judge | None, among: Sequence[str]
) -> Measures:
    """Compare a mesh with the truth, and let the judge look at it.

    Shape and colour are compared after the best translation and scale. The judge sees the mesh
    where and as large as it is, and pieces of it in the middle.

    Args:
        mesh: painted, world coordinates.
        truth: the true mesh of the prompt's scene.
        prompt: what the mesh was made from.
        judge: None leaves out what it is needed for.
        among: the prompts that the judge chooses from.
    """
    cameras = shape_cameras()
    aligned = align(mesh, truth, cameras).apply(mesh)
    colors = metrics.colors_of_both(aligned, truth, cameras)
    precision = facing = found = None
    if judge is not None:
        precision, facing, found = _judged(mesh, prompt, judge, among)
    return Measures(
        silhouette_iou=metrics.silhouette_iou(aligned, truth, cameras),
        chamfer=metrics.chamfer_distance(aligned, truth),
        color_error=metrics.color_error(*colors) if colors else None,
        chroma_excess=metrics.chroma_excess(*colors) if colors else None,
        r_precision=precision,
        facing=facing,
        found=found,
    )


def _judged(
    mesh: Mesh, prompt: BenchPrompt, judge: Judge, among: Sequence[str]
) -> tuple[float | None, Facing | None, tuple[float, ...]]:
    """Return R-precision, where the front is seen, and which objects are found."""
    precision = facing = None
    cameras = judge_cameras()
    images = portraits(mesh, cameras)
    if prompt.text in among:
        own = among.index(prompt.text)
        precision = metrics.r_precision(images, cameras, among, own, judge)
    if prompt.has_janus_answer:
        facing = metrics.facing(images, cameras, prompt.text, judge)
    found = objects_found(mesh, prompt.objects, layout_of(prompt.text), judge)
    return precision, facing, found
