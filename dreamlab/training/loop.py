"""The training loop: all stages of a recipe, from a prompt to an optimised representation.

A run can be killed at any moment and goes on from its last checkpoint. Checkpoints hold everything
but random numbers, which are a function of (seed, stage, step): on a CPU a resumed run repeats an
uninterrupted one bit for bit.

When a step goes bad, the run goes back to the last state that was good and stayed good: states are
captured every `CAPTURE_EVERY` steps, and the one before the newest is used, since the newest may
already be on the brink. (Right after a resume there is no older one than the checkpoint.)
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dreamlab.core.config import Plain
from dreamlab.core.errors import DivergedError, InputError
from dreamlab.core.layout import Layout
from dreamlab.core.run_folder import RunFolder
from dreamlab.priors.base import Prior
from dreamlab.priors.memory import Rung, step_down
from dreamlab.systems.assets import load_start
from dreamlab.systems.guidance import build_guidance, check_reference
from dreamlab.systems.handover import begin_with, continue_from
from dreamlab.systems.per_object import check_per_object
from dreamlab.systems.propagation import prior_of
from dreamlab.systems.settings import PREVIOUS, StageConfig
from dreamlab.systems.stage import Stage
from dreamlab.training.checkpoint import Checkpoints, Snapshot
from dreamlab.training.events import EventStream, Listener, log_to
from dreamlab.training.memory import advice_on_memory, is_out_of_memory
from dreamlab.training.previews import save_preview, steps_between
from dreamlab.training.settings_match import settings_to_match
from dreamlab.training.stop import StopFlag
from dreamlab.training.trainer import StageTrainer

logger = logging.getLogger(__name__)

CAPTURE_EVERY = 25
"""Steps between two states that the run can go back to."""
SECONDS_PER_CHECKPOINT = 30.0
"""Time between two checkpoints."""


@dataclass(frozen=True)
class Trained:
    """What a run has made."""

    stage: Stage
    """The stage that ran last, with the representation."""
    step: int
    """Steps of that stage that are done."""
    steps: dict[str, int]
    """Steps that are done, for every stage of the plan."""
    object_steps: int
    """Steps that the representation has been through, in this stage and those it came from."""
    is_finished: bool
    """Whether all stages are complete; False after a stop."""


def train(
    stages: Mapping[str, StageConfig],
    *,
    prompt: str,
    negative_prompt: str,
    prior: Prior,
    seed: int,
    folder: RunFolder,
    device: torch.device,
    stop: StopFlag | None = None,
    on_event: Listener | None = None,
    resume: bool = False,
    cache_dir: Path | None = None,
    layout: Layout | None = None,
) -> Trained:
    """Run all stages in order, or go on where an earlier run ended.

    Args:
        stages: settings by name, in order.
        prompt: what to make.
        negative_prompt: what to avoid; may be empty.
        prior: the image model that guides.
        seed: of everything random.
        folder: gets checkpoints, previews, events and the log.
        device: where representations are optimised.
        stop: when set, the run ends after the current step with a checkpoint.
        on_event: called with every event, in this thread.
        resume: go on from the folder's checkpoint, if there is one.
        cache_dir: where text embeddings are kept; None: nowhere.
        layout: objects in boxes, each with a prompt of its own.

    Raises:
        InputError: wrong settings, or a checkpoint that cannot be used.
        DivergedError: a stage went bad too often; its last good state is in the checkpoint.
        MemoryExhaustedError: the device has no memory left.
    """
    plan = _Plan(check_stages(stages, layout), prompt, negative_prompt, seed, layout)
    with log_to(folder.log), advice_on_memory(device):
        run = _Run(
            plan=plan,
            prior=prior,
            cache_dir=cache_dir,
            device=device,
            folder=folder,
            checkpoints=Checkpoints(folder.checkpoints, plan.settings(prior.name)),
            events=EventStream(folder, on_event),
            stop=stop or StopFlag(),
        )
        run.checkpoints.begin_writing()
        snapshot = run.checkpoints.load() if resume else None
        begun = snapshot.position.stage_index + 1 if snapshot else 0
        _check_files(dict(list(plan.stages.items())[begun:]))
        return run.run(snapshot)


def load_trained(
    stages: Mapping[str, StageConfig],
    *,
    prompt: str,
    negative_prompt: str,
    seed: int,
    folder: RunFolder,
    device: torch.device,
    layout: Layout | None = None,
) -> Trained:
    """Load what a run has made so far, without a prior: it can be rendered and exported.

    The run may go on meanwhile: nothing in its folder is changed.

    Raises:
        InputError: there is no checkpoint, or none that can be used.
    """
    plan = _Plan(check_stages(stages, layout), prompt, negative_prompt, seed, layout)
    snapshot = Checkpoints(folder.checkpoints, plan.settings(None)).load()
    if snapshot is None:
        raise InputError(
            f"{folder.root} has no checkpoint yet.", "run `dreamlab resume` on it first."
        )
    name = snapshot.position.stage
    stage = Stage(name, plan.stages[name], None, seed=seed, device=device, layout=layout)
    stage.load_state(snapshot.tensors)
    return plan.trained(stage, snapshot.position.stage_index, snapshot.position.step)


def check_stages(
    stages: Mapping[str, StageConfig], layout: Layout | None = None
) -> dict[str, StageConfig]:
    """Spell out the settings of all components, and check that the stages fit together.

    Raises:
        InputError: no stages, a wrong setting, a first stage that starts from a previous one, one
            that compares with what it began as and begins with nothing, or stages that cannot have
            a representation for each object of this layout.
    """
    if not stages:
        raise InputError("there are no stages.", "name at least one stage in the recipe.")
    first, config = next(iter(stages.items()))
    if config.start_from == PREVIOUS:
        raise InputError(
            f"stage {first!r} is the first one but starts from a previous one.",
            f"set stages.{first}.start_from to null.",
        )
    resolved = {name: config.resolved(f"stages.{name}") for name, config in stages.items()}
    for name, config in resolved.items():
        check_reference(name, config)
    check_per_object(resolved, layout)
    return resolved


def _check_files(stages: Mapping[str, StageConfig]) -> None:
    """Refuse a model to start from that is not there, before the first stage takes its time."""
    for name, config in stages.items():
        start = config.start_from
        if start not in (None, PREVIOUS) and not Path(start).is_file():
            raise InputError(
                f"stage {name!r} starts from {start}, which does not exist.",
                f"correct stages.{name}.start_from.",
            )


@dataclass(frozen=True)
class _Plan:
    """What a run is asked to do."""

    stages: dict[str, StageConfig]
    prompt: str
    negative_prompt: str
    seed: int
    layout: Layout | None

    def settings(self, prior: str | None) -> Plain:
        """Return what a checkpoint must have in common with the run."""
        return settings_to_match(
            self.stages, self.prompt, self.negative_prompt, self.seed, prior, self.layout
        )

    def steps_before(self, stage_index: int) -> int:
        return sum(config.steps for config in list(self.stages.values())[:stage_index])

    def steps_left(self, stage_index: int, step: int) -> int:
        """Count the steps from `step` of a stage to the end of the last stage."""
        return self.steps_before(len(self.stages)) - self.steps_before(stage_index) - step

    def trained(self, stage: Stage, stage_index: int, step: int) -> Trained:
        """Describe what has been made when `step` steps of a stage are done."""
        done = dict.fromkeys(self.stages, 0)
        object_steps = 0
        for name, config in list(self.stages.items())[: stage_index + 1]:
            done[name] = step if name == stage.name else config.steps
            inherited = object_steps if config.start_from == PREVIOUS else 0
            object_steps = inherited + done[name]
        is_finished = self.steps_left(stage_index, step) == 0
        return Trained(stage, step, done, object_steps, is_finished)


@dataclass
class _Run:
    """A plan being carried out."""

    plan: _Plan
    prior: Prior
    cache_dir: Path | None
    device: torch.device
    folder: RunFolder
    checkpoints: Checkpoints
    events: EventStream
    stop: StopFlag
    saved_at: float = field(default_factory=time.monotonic)
    """When the last checkpoint was written."""

    def run(self, snapshot: Snapshot | None) -> Trained:
        """Run the stages, from the snapshot on if there is one."""
        index = snapshot.position.stage_index if snapshot else 0
        trainer = self._prepare(index, None, snapshot)
        while self._run_stage(trainer) and index + 1 < len(self.plan.stages):
            index += 1
            trainer = self._prepare(index, trainer.stage, None)
        return self.plan.trained(trainer.stage, index, trainer.step)

    def _prepare(
        self, index: int, previous: Stage | None, snapshot: Snapshot | None
    ) -> StageTrainer:
        """Build a stage and bring it to where it starts."""
        name, config = list(self.plan.stages.items())[index]
        # taking over the object of the stage before may take seconds: they are this phase's
        self.events.emit("phase", phase=name, steps=config.steps)
        plan = self.plan
        stage = Stage(name, config, None, seed=plan.seed, device=self.device, layout=plan.layout)
        stage.guidance = build_guidance(
            name,
            config,
            prior_of(stage, self.prior),
            prompt=plan.prompt,
            negative_prompt=plan.negative_prompt,
            seed=plan.seed,
            cache_dir=self.cache_dir,
            layout=plan.layout,
        )
        if config.start_from == PREVIOUS:
            if previous is not None:
                continue_from(stage, previous)
        elif config.start_from is not None and snapshot is None:
            begin_with(stage, load_start(Path(config.start_from), stage.representation.half_extent))
        stage.keep_reference()
        trainer = StageTrainer(stage, index)
        if snapshot is not None:
            trainer.load(snapshot)
            self.events.emit("resumed", stage=name, step=trainer.step)
        return trainer

    def _run_stage(self, trainer: StageTrainer) -> bool:
        """Train a stage to its end; return False if it was told to stop before."""
        good = newest = trainer.capture()
        self.events.start_clock()
        while not trainer.is_finished:
            if self.stop.is_set:
                self._save(trainer.capture())
                self.events.emit("stopped", stage=trainer.stage.name, step=trainer.step)
                return False
            if trainer.step % CAPTURE_EVERY == 0 and trainer.is_healthy:
                good, newest = newest, trainer.capture()
            is_due = time.monotonic() - self.saved_at >= SECONDS_PER_CHECKPOINT
            if is_due and trainer.is_healthy:
                self._save(trainer.capture())
            rung: Rung | None = None
            try:
                result, problem = trainer.advance()
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error) or (rung := step_down(self.prior)) is None:
                    raise
            if rung is not None:  # outside of the handler, whose traceback holds the step's tensors
                self._save_memory(trainer, newest, rung)
                continue
            if problem is not None:
                self._recover(trainer, good, problem)
                newest = good
                continue
            self.events.step(
                trainer.stage.name,
                trainer.step,
                trainer.num_steps,
                left=self.plan.steps_left(trainer.stage_index, trainer.step),
                loss=result.loss,
                metrics=result.metrics,
            )
            self._preview_if_due(trainer)
        trainer.finish()
        self._save(trainer.capture())
        return True

    def _recover(self, trainer: StageTrainer, good: Snapshot, problem: str) -> None:
        failed_at = trainer.step
        try:
            trainer.recover(good, problem)
        except DivergedError:
            self._save(trainer.capture())
            raise
        logger.warning("Step %d is bad: %s.", failed_at, problem)
        self.events.emit(
            "restored",
            stage=trainer.stage.name,
            step=trainer.step,
            reason=problem,
            lr_factor=trainer.watch.rate_factor,
        )

    def _save_memory(self, trainer: StageTrainer, newest: Snapshot, rung: str) -> None:
        """Repeat what the step has left half done, with a prior that needs less memory."""
        failed_at = trainer.step
        trainer.optimizer.zero_grad()
        trainer.go_back(newest)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        logger.warning(
            "Step %d ran out of memory; the model goes on with %s, from step %d.",
            failed_at,
            rung,
            trainer.step,
        )
        self.events.emit("memory", stage=trainer.stage.name, step=trainer.step, rung=rung)

    def _save(self, snapshot: Snapshot) -> None:
        self.checkpoints.save(snapshot)
        self.saved_at = time.monotonic()
        self.events.emit("checkpoint", stage=snapshot.position.stage, step=snapshot.position.step)

    def _preview_if_due(self, trainer: StageTrainer) -> None:
        if trainer.step % steps_between(trainer.stage) != 0 and not trainer.is_finished:
            return
        size = trainer.stage.config.size_at(trainer.stage.progress_at(trainer.step))
        total = self.plan.steps_before(trainer.stage_index) + trainer.step
        path = save_preview(trainer.stage, total, self.folder.previews, size)
        self.events.emit("preview", path=str(path.relative_to(self.folder.root)), step=total)
