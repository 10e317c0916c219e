"""The main job: from the settings of a run to its GLB, turntable, contact sheet and report.

Phases: "load prior", one for each stage, "export", "turntable"; where the last stage makes a
picture, "picture" instead of the last two. A run that is stopped keeps what it has and exports it;
one that is paused, cancelled or handed back ends with a checkpoint; one that fails says why in
job.json and can be resumed; an export that fails leaves the trained checkpoint, pictures and report
behind.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dreamlab.core.errors import DreamlabError, ExitCode, InputError
from dreamlab.core.locations import cache_dir
from dreamlab.core.protocols import Picture
from dreamlab.core.run_folder import RunFolder, write_json, write_text
from dreamlab.export.files.blender import check_formats
from dreamlab.jobs import retry, state
from dreamlab.jobs.control import listening
from dreamlab.jobs.device import pick_device
from dreamlab.jobs.export import Exported, export_trained, load_run
from dreamlab.jobs.ledger import Ledger, read_ledger
from dreamlab.jobs.phases import Phases
from dreamlab.jobs.picture import write_picture
from dreamlab.jobs.recipes import RunConfig, load_run_config
from dreamlab.jobs.report import make_report
from dreamlab.jobs.state import Job, State
from dreamlab.jobs.views import write_sheet, write_turntable
from dreamlab.priors.memory import rungs_of
from dreamlab.systems.prior import load_for_stages
from dreamlab.training.events import Listener, log_to
from dreamlab.training.loop import Trained, train
from dreamlab.training.stop import StopFlag, Wish

logger = logging.getLogger(__name__)
DEFAULT_PARENT = Path("runs")
ENDS: dict[Wish, tuple[State, str]] = {
    "hand_back": ("queued", ""),
    "pause": ("paused", "paused by the user."),
    "stop": ("stopped", "stopped by the user."),
    "cancel": ("cancelled", "cancelled by the user."),
}
"""The state in which each wish leaves a run, and the reason that it gives."""


@dataclass(frozen=True)
class Outcome:
    """What a job has made."""

    folder: RunFolder
    """Where everything lies."""
    files: list[Path]
    """The exported models, or the picture and its strip; none if it ended without an export."""
    report: dict[str, Any]
    """What report.json holds; empty if it ended without an export."""
    wish: Wish | None = None
    """What it was told before it was complete, if it was."""

    @property
    def was_stopped(self) -> bool:
        """Whether it was told to end before it was complete."""
        return self.wish is not None


def prepare(
    config: RunConfig, parent: Path = DEFAULT_PARENT, *, is_queued: bool = False, priority: int = 0
) -> RunFolder:
    """Make the folder of a new run; `is_queued`: supervisors may begin it, by `priority`.

    Raises:
        InputError: `parent` cannot be written, or the prior cannot judge a stage.
        MissingError: a format needs Blender, which is not installed.
    """
    check_formats(config.export.formats)
    config.check_prior()
    folder = RunFolder.create(parent, config.prompt, config.seed)
    write_record(folder, config, is_queued=is_queued, priority=priority)
    return folder


def write_record(
    folder: RunFolder, config: RunConfig, *, is_queued: bool, priority: int = 0
) -> state.Job:
    """Write config.yaml and then job.json, with which an empty folder becomes a run."""
    write_text(folder.config, config.to_yaml())
    about = {name: getattr(config, name) for name in ("prompt", "seed", "recipe", "quality")}
    return state.create(folder, Job(is_queued=is_queued, priority=priority, **about))


def generate(
    config: RunConfig,
    folder: RunFolder | None = None,
    *,
    device: str = "auto",
    stop: StopFlag | None = None,
    on_event: Listener | None = None,
) -> Outcome:
    """Make a model from a prompt.

    Args:
        config: what `load_recipe` or `load_run_config` returned.
        folder: what `prepare` returned; None makes a new one under ./runs.
        device: auto, cpu, cuda, cuda:1, …
        stop: when set, the training ends after its step and what is there is exported, unless
            `StopFlag.wish` says otherwise.
        on_event: is called with every event, in this thread.

    Raises:
        DreamlabError: see its subclasses; the run folder keeps what was finished.
    """
    chosen = pick_device(device)
    folder = folder or prepare(config)
    with state.held(folder):
        state.begin(folder, str(chosen))
        return _perform(folder, config, chosen, stop, on_event, resume=False)


def resume(
    folder: RunFolder,
    *,
    device: str = "auto",
    stop: StopFlag | None = None,
    on_event: Listener | None = None,
) -> Outcome:
    """Go on with a run that was stopped, failed or was killed; arguments as for `generate`.

    Raises:
        InputError: it is complete, or running elsewhere, or its files are damaged.
        DreamlabError: as for `generate`.
    """
    config = load_run_config(folder.config)
    chosen = pick_device(device)
    is_done = folder.job.exists() and state.read(folder).state == "done"
    if is_done:
        _check_unfinished(folder, config, chosen)
    with state.held(folder):
        state.begin(folder, str(chosen))
        return _perform(folder, config, chosen, stop, on_event, resume=True)


def carry_out(
    folder: RunFolder,
    *,
    device: str = "auto",
    stop: StopFlag | None = None,
    on_event: Listener | None = None,
) -> Outcome:
    """Do a run that this process holds and has begun, from its last checkpoint if it has one.

    Arguments as for `generate`. Where a run of the queue fails, its record says whether it is tried
    again.

    Raises:
        DreamlabError: as for `generate`; it is in the record too.
    """
    try:
        config, chosen = load_run_config(folder.config), pick_device(device)
    except DreamlabError as error:
        retry.fail(folder, int(error.code), error.message, error.fix)
        raise
    return _perform(folder, config, chosen, stop, on_event, resume=True)


def _check_unfinished(folder: RunFolder, config: RunConfig, device: torch.device) -> None:
    """Refuse to go on with a run that is done, unless its stages were given more steps."""
    if not any(folder.checkpoints.glob("*.safetensors")):
        raise InputError(
            f"{folder.root} is complete, and its checkpoint was removed.",
            f"to make it again, use `dreamlab jobs duplicate {folder.root}`.",
        )
    if _finished_training(folder, config, device) is not None:
        raise InputError(
            f"{folder.root} is complete.",
            f"to make its files again, use `dreamlab export {folder.root}`; for another result, "
            "run `dreamlab generate --config` of its config.yaml with another --seed.",
        )


def _perform(
    folder: RunFolder,
    config: RunConfig,
    device: torch.device,
    stop: StopFlag | None,
    listener: Listener | None,
    *,
    resume: bool,
) -> Outcome:
    """Run the job, which is held and begun, and leave job.json telling how it ended."""
    stop = stop or StopFlag()
    with log_to(folder.log), listening(folder, stop):
        try:
            phases = Phases(folder, listener, read_ledger(folder) if resume else Ledger())
            try:
                outcome = _Job(folder, config, device, stop, phases).run(resume)
            finally:
                phases.save()
        except KeyboardInterrupt:
            state.finish(folder, "stopped", "interrupted.", f"dreamlab resume {folder.root}")
            raise
        except DreamlabError as error:
            if error.code == ExitCode.STOPPED:
                state.finish(folder, "stopped", error.message, error.fix)
            else:
                retry.fail(folder, int(error.code), error.message, error.fix)
            logger.error("%s", error)
            raise
        except BaseException as error:
            retry.crash(folder, f"{type(error).__name__}: {error}")
            logger.exception("the run broke off")
            raise
        if outcome.wish is None:
            state.finish(folder, "done")
        else:
            ended, reason = ENDS[outcome.wish]
            fix = f"dreamlab resume {folder.root}" if reason else ""
            state.finish(folder, ended, reason, fix)
    return outcome


def _finished_training(
    folder: RunFolder, config: RunConfig, device: torch.device
) -> Trained | None:
    """Return the training if it is complete."""
    if not any(folder.checkpoints.glob("*.safetensors")):
        return None
    trained = load_run(folder, config, device)
    return trained if trained.is_finished else None


class _Job:
    """A run being carried out."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        device: torch.device,
        stop: StopFlag,
        phases: Phases,
    ) -> None:
        self.folder, self.config, self.device = folder, config, device
        self.stop, self.phases = stop, phases

    def run(self, resume: bool) -> Outcome:
        """Train, then make everything that is made of the trained representation."""
        check_formats(self.config.export.formats)
        trained = None
        if resume:  # perhaps only what follows the training is missing
            trained = _finished_training(self.folder, self.config, self.device)
        trained = trained or self._train(resume)
        if self.stop.wish not in (None, "stop"):
            return Outcome(self.folder, [], {}, self.stop.wish)
        if trained.object_steps == 0:
            raise DreamlabError(
                "stopped before the first step; there is nothing to export.",
                f"dreamlab resume {self.folder.root}",
                ExitCode.STOPPED,
            )
        if isinstance(trained.stage.representation, Picture):
            return self._show(trained)
        failure: DreamlabError | None = None
        exported: Exported | None = None
        try:
            exported = export_trained(trained, self.config, self.folder, self.phases)
        except Exception as error:  # whatever went wrong, pictures and report still follow
            logger.exception("the export failed")
            failure = self._export_failure(error)
        with self.phases.phase("turntable") as moved:
            write_sheet(trained.stage, self.folder.preview, moved)
            glb = exported.glb if exported else None
            shown = write_turntable(trained.stage, glb, self.folder.turntable, moved)
        report = make_report(self.config, trained, exported, self.phases.ledger)
        report["turntable"] = shown
        write_json(self.folder.report, report)
        if failure is not None:
            raise failure
        assert exported is not None
        wish = None if trained.is_finished else "stop"
        return Outcome(self.folder, exported.files, report, wish)

    def _show(self, trained: Trained) -> Outcome:
        """Write the picture, its strip and the report."""
        with self.phases.phase("picture"):
            write_picture(trained.stage, self.folder)
        report = make_report(self.config, trained, None, self.phases.ledger)
        write_json(self.folder.report, report)
        files = [path for path in (self.folder.image, self.folder.strip) if path.is_file()]
        return Outcome(self.folder, files, report, None if trained.is_finished else "stop")

    def _train(self, resume: bool) -> Trained:
        with self.phases.phase("load prior"):
            config = self.config
            stages = list(config.stages.values())
            prior = load_for_stages(config.prior, stages, self.device, config.layout)
        self.phases.rungs = lambda: [*rungs_of(prior)]
        trained = train(
            self.config.stages,
            prompt=self.config.prompt,
            negative_prompt=self.config.negative_prompt,
            prior=prior,
            seed=self.config.seed,
            folder=self.folder,
            device=self.device,
            stop=self.stop,
            on_event=self.phases.on_training_event,
            resume=resume,
            cache_dir=cache_dir() / "text",
            layout=self.config.layout,
        )
        self.phases.end()
        return trained

    def _export_failure(self, error: Exception) -> DreamlabError:
        retry = f"the training is kept; try again with `dreamlab export {self.folder.root}`"
        if isinstance(error, DreamlabError):
            return DreamlabError(f"export: {error.message}", f"{error.fix} {retry}.", error.code)
        line = " ".join(str(error).split())[:200]
        return DreamlabError(f"the export failed ({type(error).__name__}: {line}).", f"{retry}.")
