"""Export: from a trained stage to the files of the model, in the job or again later."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.config import to_plain
from dreamlab.core.errors import DreamlabError, InputError
from dreamlab.core.protocols import Composed, objects_of
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.core.version import VERSION
from dreamlab.export.files.blender import check_formats
from dreamlab.export.pipeline import ExportConfig, ExportReport, export_model
from dreamlab.jobs import state
from dreamlab.jobs.control import listening
from dreamlab.jobs.device import pick_device
from dreamlab.jobs.phases import Phases
from dreamlab.jobs.picture import makes_picture
from dreamlab.jobs.queue import exports
from dreamlab.jobs.queue.exports import Wanted
from dreamlab.jobs.queue.process import WORKER_OUTPUT
from dreamlab.jobs.recipes import RunConfig, load_run_config
from dreamlab.ops.volume.threshold import SilhouetteReference
from dreamlab.priors.load import resolve_model
from dreamlab.systems.surface import depth_views, silhouettes
from dreamlab.training.events import Event, Listener, log_to
from dreamlab.training.loop import Trained, load_trained
from dreamlab.training.stop import StopFlag

logger = logging.getLogger(__name__)
REFERENCE_SIZE = 128
"""Side of the renders that the mesh must agree with, pixels."""
REFERENCE_RINGS = ((8, 0.0, 0.0), (8, 22.5, 30.0))
"""Rings of reference views: their number, turn and elevation, degrees; elevations are kept inside
those that were trained."""
SECTION = "export."


@dataclass(frozen=True)
class Exported:
    """The files that were written, and what is known about them."""

    files: list[Path]
    report: ExportReport

    @property
    def glb(self) -> Path | None:
        """The GLB, if that format was asked for."""
        return next((path for path in self.files if path.suffix == ".glb"), None)


def provenance(config: RunConfig) -> dict[str, Any]:
    """Return what the GLB says about where it comes from."""
    settings = json.dumps(to_plain(config), sort_keys=True)
    return {
        "generator": f"dreamlab {VERSION}",
        "prompt": config.prompt,
        "negative_prompt": config.negative_prompt,
        "seed": config.seed,
        "recipe": config.recipe,
        "quality": config.quality,
        "model": config.prior.model,
        "licence": f"of the model's output: {resolve_model(config.prior.model).licence}",
        "config_hash": hashlib.sha256(settings.encode()).hexdigest()[:16],
    }


def load_run(folder: RunFolder, config: RunConfig, device: torch.device) -> Trained:
    """Load what a run has trained so far.

    Raises:
        InputError: there is no checkpoint, or none that can be used.
    """
    return load_trained(
        config.stages,
        prompt=config.prompt,
        negative_prompt=config.negative_prompt,
        seed=config.seed,
        folder=folder,
        device=device,
        layout=config.layout,
    )


def export_trained(
    trained: Trained, config: RunConfig, folder: RunFolder, phases: Phases
) -> Exported:
    """Write the model of a trained stage to exports/; the phase is called "export"."""
    with phases.phase("export") as moved:
        folder.exports.mkdir(exist_ok=True)
        stage = trained.stage

        def views(number: int | None = None) -> SilhouetteReference:
            if config.export.surface == "tsdf":
                return depth_views(stage, REFERENCE_SIZE, number)
            return silhouettes(stage, REFERENCE_RINGS, REFERENCE_SIZE, number)

        is_composed = isinstance(stage.representation, Composed)
        num_alone = len(objects_of(stage.representation)) if is_composed else 0
        report = export_model(
            stage.representation,
            views(),
            config.export,
            folder.exports,
            name=config.prompt,
            extras=provenance(config),
            layout=config.layout,
            alone=[views(number) for number in range(num_alone)],
            on_phase=lambda part, fraction: moved(fraction, part),
        )
    return Exported([folder.exports / name for name in report.files], report)


def export(
    run: RunFolder | Path,
    *,
    formats: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    device: str = "auto",
    on_event: Listener | None = None,
) -> Exported:
    """Export the model of a run again, from its checkpoint.

    Args:
        run: its folder.
        formats: see `ExportConfig.formats`; None keeps those of the run.
        overrides: `export.<key>=value`.
        device: auto, cpu, cuda, cuda:1, …
        on_event: is called with every event.

    Raises:
        InputError: it is no run, is running, has no checkpoint, or a setting is refused.
        MissingError: a format needs Blender, which is not installed.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    named = [f"export.formats=[{', '.join(formats)}]"] if formats else []
    config = plan(folder, [*overrides, *named])
    chosen = pick_device(device)
    with state.held(folder):
        before = state.read_record(folder) if folder.job.exists() else state.create(folder)
        if before.state == "queued" and before.is_queued:
            raise InputError(
                f"{folder.root} is queued.",
                "wait for it, or pause it first: `dreamlab jobs pause`.",
            )
        state.begin(folder, str(chosen))
        try:
            trained, exported = _make(folder, config, chosen, on_event)
        except BaseException:
            at_rest = before.state in (*state.AT_REST, "done")
            state.finish(folder, before.state if at_rest else "failed", before.reason, before.fix)
            raise
        if trained.is_finished:
            state.finish(folder, "done")
        else:
            waits = before.state in ("paused", "cancelled")
            ended = before.state if waits else "stopped"
            state.finish(folder, ended, before.reason, before.fix)
        _update_report(folder, config.export, exported)
    return exported


def carry_out_export(folder: RunFolder, wanted: Wanted, *, device: str, stop: StopFlag) -> None:
    """Do the export that is asked of a run, which this process holds and has begun.

    The run comes back to the state that it had; what goes wrong is also its reason. When `stop` is
    set the export ends at its next report, and waits in the queue again if it was handed back.

    Raises:
        DreamlabError: as for `export`.
    """

    def watch(event: Event) -> None:
        if stop.is_set:
            raise _StopExportError

    exports.write(folder, replace(wanted, attempts=wanted.attempts + 1))
    try:
        with listening(folder, stop):
            if wanted.attempts >= exports.MAX_ATTEMPTS:
                raise DreamlabError(
                    f"its process was ended {wanted.attempts} times.",
                    f"see {WORKER_OUTPUT} in the folder of the run; a smaller texture or fewer "
                    "faces need less memory.",
                )
            config = plan(folder, wanted.overrides)
            _, exported = _make(folder, config, pick_device(device), watch)
            _update_report(folder, config.export, exported)
    except _StopExportError:
        if stop.wish == "hand_back":
            exports.write(folder, wanted)
            state.finish(folder, "queued")
        else:
            exports.end(folder, wanted)
    except DreamlabError as error:
        exports.end(folder, wanted, f"{exports.FAILED}: {error.message}", error.fix)
        raise
    except Exception as error:
        line = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        exports.end(folder, wanted, f"{exports.FAILED} ({line}).", "see the run's log.")
        raise
    else:
        exports.end(folder, wanted)


class _StopExportError(Exception):
    """Ends an export that is no longer wanted."""


def plan(folder: RunFolder, overrides: Sequence[str]) -> RunConfig:
    """Return the settings of a run with those of its export changed by `export.<key>=value`.

    Raises:
        InputError: a setting is refused, the run makes no object, or it has no checkpoint.
        MissingError: a format needs Blender, which is not installed.
    """
    config = _with_overrides(folder, overrides)
    _check_makes_object(folder, config)
    check_formats(config.export.formats)
    if not any(folder.checkpoints.glob("*.safetensors")):
        raise InputError(
            f"{folder.root} has no checkpoint yet, or they were removed to save space.",
            "run `dreamlab resume` on it; if it is complete, `dreamlab jobs duplicate`.",
        )
    return config


def _make(
    folder: RunFolder, config: RunConfig, device: torch.device, on_event: Listener | None
) -> tuple[Trained, Exported]:
    with log_to(folder.log):
        try:
            trained = load_run(folder, config, device)
            exported = export_trained(trained, config, folder, Phases(folder, on_event))
        except (DreamlabError, _StopExportError):
            raise
        except Exception:
            logger.exception("the export failed")
            raise
    return trained, exported


def _with_overrides(folder: RunFolder, overrides: Sequence[str]) -> RunConfig:
    for assignment in overrides:
        if not assignment.startswith(SECTION):
            raise InputError(
                f"{assignment!r} is no setting of the export.",
                "only those that begin with `export.` can change after the training; see "
                "`dreamlab settings export`.",
            )
    return load_run_config(folder.config, overrides)


def _check_makes_object(folder: RunFolder, config: RunConfig) -> None:
    if makes_picture(config):
        raise InputError(
            f"{folder.root} makes a picture; there is no object to export.",
            f"look at {folder.image}, or make an object with `dreamlab generate`.",
        )


def _update_report(folder: RunFolder, config: ExportConfig, exported: Exported) -> None:
    """Put the new export into report.json, if there is one."""
    if folder.report.is_file():
        report = json.loads(folder.report.read_text(encoding="utf-8"))
        report["export"] = exported.report.to_plain()
        report["export_settings"] = to_plain(config)
        write_json(folder.report, report)
