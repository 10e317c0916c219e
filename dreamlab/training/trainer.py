"""One stage in training: the stage, its optimiser, its collapse watch and the step it is at."""

from dreamlab.core.errors import DivergedError
from dreamlab.core.protocols import Picture
from dreamlab.systems.stage import Stage, StepResult
from dreamlab.training.checkpoint import Position, Snapshot
from dreamlab.training.optimizers import GroupedOptimizer
from dreamlab.training.watch import CollapseWatch

OPTIMIZER = "optimizer."
"""Prefix of the optimiser's tensors in a snapshot."""


class StageTrainer:
    """Advances a stage step by step, and goes back to a snapshot when it must."""

    def __init__(self, stage: Stage, stage_index: int) -> None:
        """Start at step 0.

        Raises:
            InputError: the learning rates do not fit the parameter groups.
        """
        self.stage, self.stage_index = stage, stage_index
        self.step, self.num_steps = 0, stage.config.steps
        self.watch = CollapseWatch()
        self.optimizer = GroupedOptimizer(stage.config.optimizer, stage.parameter_groups())

    @property
    def is_finished(self) -> bool:
        return self.step >= self.num_steps

    @property
    def is_healthy(self) -> bool:
        """Whether this moment is worth going back to."""
        parameters = [*self.optimizer.parameters, *self.stage.learned_parameters()]
        finite = (bool(p.isfinite().all()) for p in parameters)
        return self.watch.is_calm and all(finite)

    def advance(self) -> tuple[StepResult, str | None]:
        """Take one step, unless it is bad; return what it found and what was wrong with it."""
        self.optimizer.zero_grad()
        result = self.stage.step(self.step)
        norm = self.optimizer.gradient_norm()
        is_last = self.step + 1 == self.num_steps
        is_picture = isinstance(self.stage.representation, Picture)
        opacity = None if is_picture else result.metrics["opacity"]
        problem = self.watch.judge(result.loss, norm, opacity, is_last=is_last)
        if problem is None:
            progress = self.stage.progress_at(self.step)
            self.optimizer.step(progress, norm, self.watch.rate_factor)
            for parameters, rows in self.stage.refine(self.step):
                if len(rows):
                    self.optimizer.forget(parameters, rows)
            self.step += 1
        self.stage.focus(0)
        return result, problem

    def finish(self) -> None:
        """Show the representation as it is at the very end of the stage."""
        self.stage.set_progress(1.0)

    def capture(self) -> Snapshot:
        """Copy everything that the stage's future depends on."""
        position = Position(self.stage.name, self.stage_index, self.step, self.watch.state)
        optimizer = {OPTIMIZER + name: t for name, t in self.optimizer.state().items()}
        tensors = self.stage.state() | optimizer
        return Snapshot(position, {name: t.detach().clone() for name, t in tensors.items()})

    def load(self, snapshot: Snapshot) -> None:
        """Go to where a snapshot was taken, whatever the watch has seen since.

        Raises:
            InputError: it was taken with other settings.
        """
        self.go_back(snapshot)
        self.watch = CollapseWatch(snapshot.position.watch)

    def go_back(self, snapshot: Snapshot) -> None:
        """Go to where a snapshot was taken; the watch keeps its memory."""
        self.stage.load_state(snapshot.tensors)
        self.optimizer.load_state(
            {
                name.removeprefix(OPTIMIZER): tensor
                for name, tensor in snapshot.tensors.items()
                if name.startswith(OPTIMIZER)
            }
        )
        self.step = snapshot.position.step

    def recover(self, good: Snapshot, problem: str) -> None:
        """Go back to the last good snapshot and halve the learning rate.

        Raises:
            DivergedError: that was done too often; the stage is left in the good state.
        """
        failed_at = self.step
        self.go_back(good)
        if not self.watch.may_restore:
            raise DivergedError(
                f"stage {self.stage.name!r} diverged at step {failed_at}: {problem}; it was "
                f"brought back {self.watch.state.restores} times with lower learning rates before.",
                f"lower stages.{self.stage.name}.optimizer.lr or the guidance scale, or try "
                "another seed; the last good state is in the run folder and can be exported.",
            )
        self.watch.note_restore()
