"""How well finished runs fit their prompts: two numbers of an image-text model for each.

    similarity   = mean_v f_v . g_v(own)                 a "CLIP score"
    r_precision  = mean_v [argmax_k f_v . g_v(k) = own]  among all prompts of the batch

Glossary: `v` one of 16 views around the exported GLB, k a prompt, `f_v` the unit embedding of the
picture of view v, `g_v(k)` that of prompt k with the word for view v.

The model is CLIP, or the embedded judge, which knows the toybox world alone. In that world there
is a truth, so with the judge a run also gets the figures of ToyBench.

Source: Hessel et al. 2021, "CLIPScore" (similarity; theirs is 2.5 times as large and never
negative); Park et al. 2021 (R-precision, see `metrics.r_precision`).
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.evaluation import metrics
from dreamlab.evaluation.measure import measure
from dreamlab.evaluation.prompts import BenchPrompt
from dreamlab.evaluation.views import judge_cameras, portraits
from dreamlab.export.files.reload import load_glb
from dreamlab.priors.clip import Clip
from dreamlab.priors.folder import CLIP_MODEL
from dreamlab.priors.hub import locate_network
from dreamlab.priors.toybox.judge.network import IMAGE_SIZE, load_judge
from dreamlab.priors.toybox.world.captions import parse_prompt
from dreamlab.priors.toybox.world.scenes import is_held_out

JUDGE = "judge"
"""The name of the embedded judge; every other name is that of a CLIP model."""


@runtime_checkable
class ImageTextModel(Protocol):
    """Embeds pictures and captions into one space, as unit vectors."""

    def embed_images(
        self, images: Float[Tensor, "images height width 3"]
    ) -> Float[Tensor, "images embedding"]: ...

    def embed_captions(self, captions: Sequence[str]) -> Float[Tensor, "captions embedding"]: ...


class Scorer:
    """An image-text model that embeds each list of captions once."""

    def __init__(self, name: str, model: ImageTextModel, size: int) -> None:
        """Wrap a model.

        Args:
            name: by which scores tell who gave them.
            model: gives the embeddings.
            size: side of the pictures that it is shown, pixels.
        """
        self.name, self.model, self.size = name, model, size
        self._embedded: dict[tuple[str, ...], Tensor] = {}

    def scores(
        self, images: Float[Tensor, "images height width 3"], captions: Sequence[str]
    ) -> Float[Tensor, "images captions"]:
        """Return the similarity of every picture (sRGB in [0, 1]) and every caption."""
        key = tuple(captions)
        if key not in self._embedded:
            self._embedded[key] = self.model.embed_captions(captions)
        return self.model.embed_images(images) @ self._embedded[key].T


@dataclass(frozen=True, slots=True)
class Made:
    """A finished run."""

    folder: RunFolder
    prompt: str


def find_model(name: str) -> Path | None:
    """Make sure that a model is there, before anything is made; None is the embedded judge.

    Raises:
        MissingError: it cannot be had.
    """
    return None if name == JUDGE else locate_network(name, CLIP_MODEL, "--score")


def load_scorer(name: str) -> Scorer:
    """Load the embedded judge or a CLIP model.

    Args:
        name: `judge`, a folder, or a hub id.

    Raises:
        MissingError: it cannot be had.
        InputError: it is no CLIP model.
    """
    folder = find_model(name)
    if folder is None:
        return Scorer(name, load_judge(), IMAGE_SIZE)
    clip = Clip(folder)
    return Scorer(name, clip, clip.size)


def score_runs(
    runs: Sequence[Made],
    scorer: Scorer,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Write scores.json into every run folder whose scores are missing or out of date.

    Args:
        runs: finished ones; their prompts are what R-precision chooses from.
        scorer: what `load_scorer` returned.
        on_progress: called with the number of runs that have their scores.

    Returns:
        Why runs have no scores, one line each.
    """
    prompts = sorted({run.prompt for run in runs})
    problems: list[str] = []
    for number, run in enumerate(runs, 1):
        model = run.folder.exports / "model.glb"
        try:
            key = _key(scorer, run.prompt, prompts, model)
            if _read(run.folder.scores).get("key") != key:
                mesh = load_glb(model, undo_placement=True)
                scores = _score(mesh, run.prompt, prompts, scorer)
                about = {"key": key, "model": scorer.name, "prompts": len(prompts)}
                write_json(run.folder.scores, {**about, "scores": scores})
        except InputError as error:
            problems.append(f"{run.folder.root.name}: {error.message}")
        except OSError as error:
            problems.append(f"{run.folder.root.name}: {error.strerror or error}")
        on_progress(number)
    return problems


def _score(mesh: Mesh, prompt: str, prompts: Sequence[str], scorer: Scorer) -> dict[str, float]:
    cameras = judge_cameras()
    images = portraits(mesh, cameras, scorer.size)
    scores: dict[str, float | None] = {
        "similarity": metrics.similarity(images, cameras, prompt, scorer),
        "r_precision": metrics.r_precision(images, cameras, prompts, prompts.index(prompt), scorer),
    }
    if scorer.name == JUDGE and (asked := _in_world(prompt)) is not None:
        found = measure(mesh, asked.truth(), asked, None, prompts)
        scores["true_iou"] = found.silhouette_iou
        scores["true_chamfer"] = found.chamfer
        scores["true_color_error"] = found.color_error
        if asked.has_janus_answer:
            scores["janus_correct"] = metrics.facing(images, cameras, prompt, scorer).correct
    return {name: round(float(value), 4) for name, value in scores.items() if value is not None}


def _in_world(prompt: str) -> BenchPrompt | None:
    """Return the scene of the toybox world that a prompt means; None if it means none."""
    try:
        scene = parse_prompt(prompt)
    except InputError:
        return None
    return BenchPrompt(prompt, is_held_out(scene), (scene,))


def _key(scorer: Scorer, prompt: str, prompts: Sequence[str], model: Path) -> str:
    """Return what scores depend on: who scores, the prompt, among which ones, which export."""
    written = model.stat()
    about = [scorer.name, prompt, *prompts, str(written.st_size), str(written.st_mtime_ns)]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
