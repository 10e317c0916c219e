"""Export: from a trained stage to the files of the model, in the job or again later."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.config import to_plain
from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import RunFolder, write_json
from dreamlab.core.version import VERSION
from dreamlab.export.files.blender import check_formats
from dreamlab.export.pipeline import ExportConfig, ExportReport, export_model
from dreamlab.jobs import state
from dreamlab.jobs.device import pick_device
from dreamlab.jobs.phases import Phases
from dreamlab.jobs.picture import makes_picture
from dreamlab.jobs.recipes import RunConfig, load_run_config
from dreamlab.priors.load import resolve_model
from dreamlab.systems.surface import depth_views, silhouettes
from dreamlab.training.events import Listener, log_to
from dreamlab.training.loop import Trained, load_trained

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
        if config.export.surface == "tsdf":
            reference = depth_views(trained.stage, REFERENCE_SIZE)
        else:
            reference = silhouettes(trained.stage, REFERENCE_RINGS, REFERENCE_SIZE)
        report = export_model(
            trained.stage.representation,
            reference,
            config.export,
            folder.exports,
            name=config.prompt,
            extras=provenance(config),
            layout=config.layout,
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
    config = _with_overrides(folder, formats, overrides)
    _check_makes_object(folder, config)
    check_formats(config.export.formats)
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
            with log_to(folder.log):
                trained = load_run(folder, config, chosen)
                exported = export_trained(trained, config, folder, Phases(folder, on_event))
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


def _with_overrides(
    folder: RunFolder, formats: Sequence[str] | None, overrides: Sequence[str]
) -> RunConfig:
    for assignment in overrides:
        if not assignment.startswith(SECTION):
            raise InputError(
                f"{assignment!r} is no setting of the export.",
                "only those that begin with `export.` can change after the training; see "
                "`dreamlab settings export`.",
            )
    named = [f"export.formats=[{', '.join(formats)}]"] if formats else []
    return load_run_config(folder.config, [*overrides, *named])


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
