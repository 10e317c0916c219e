"""Collapse watch: notices that an optimisation has gone bad, and how often it was brought back.

Bad is a loss or a gradient that is not finite, or views that have all been empty, or all been
full, for `PATIENCE` steps on end or in the last step of a stage. The run then goes back to its last
good state with half the learning rate; after `MAX_RESTORES` times it gives up. All of this is a
function of what the steps returned, so a repeated run repeats it.

Glossary: opacity, the mean alpha over all views of a step.
"""

import math
from dataclasses import dataclass, replace

EMPTY_OPACITY = 0.002
"""Mean opacity below which views show nothing (8 pixels of 64 x 64)."""
FULL_OPACITY = 0.98
"""Mean opacity above which views show no outline."""
PATIENCE = 40
"""Steps in a row that may be empty or full."""
MAX_RESTORES = 3
"""Times that a stage is brought back."""


@dataclass(frozen=True, slots=True)
class WatchState:
    """What the watch remembers from step to step."""

    restores: int = 0
    """Times that this stage was brought back."""
    collapsed_steps: int = 0
    """Steps in a row, up to now, that were empty or full."""


class CollapseWatch:
    """Judges every step of a stage."""

    def __init__(self, state: WatchState | None = None) -> None:
        self.state = state or WatchState()

    @property
    def is_calm(self) -> bool:
        """Whether the last step was neither empty nor full, so its state is worth keeping."""
        return self.state.collapsed_steps == 0

    @property
    def rate_factor(self) -> float:
        """By what learning rates are multiplied: 1/2 for each time the stage was brought back."""
        return 0.5**self.state.restores

    @property
    def may_restore(self) -> bool:
        return self.state.restores < MAX_RESTORES

    def judge(
        self, loss: float, gradient_norm: float, opacity: float | None, *, is_last: bool = False
    ) -> str | None:
        """Take note of a step, maybe the last of its stage; return what is wrong, or None.

        `opacity` is None where views cannot be empty or full: a picture fills them always.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not math.isfinite(gradient_norm):
            return f"the norm of the gradient is {gradient_norm}"
        if opacity is None:
            return None
        collapsed = not EMPTY_OPACITY <= opacity <= FULL_OPACITY
        count = self.state.collapsed_steps + 1 if collapsed else 0
        self.state = replace(self.state, collapsed_steps=count)
        if count < (1 if is_last else PATIENCE):
            return None
        look = "full" if opacity > FULL_OPACITY else "empty"
        return f"all views have been {look} for {count} steps (mean opacity {opacity:.4f})"

    def note_restore(self) -> None:
        """Take note that the stage was brought back."""
        self.state = WatchState(restores=self.state.restores + 1)
