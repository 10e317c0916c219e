"""What must hold where each object of a layout has a representation of its own.

Objects stay apart from the first stage that has them to the last: neither is one representation of
all cut into objects, nor are objects melted into one. A model in a file is one object.
"""

from collections.abc import Mapping

from dreamlab.core.errors import InputError
from dreamlab.core.layout import Layout
from dreamlab.systems.components import PER_OBJECT
from dreamlab.systems.settings import PREVIOUS, StageConfig


def check_per_object(stages: Mapping[str, StageConfig], layout: Layout | None) -> None:
    """Refuse stages with `per_object` that cannot be made.

    Args:
        stages: settings by name, in order.
        layout: of the run.

    Raises:
        InputError: a stage has `per_object` and the run no layout, or the stage starts from a file;
            or of two stages, the second one going on from the first, one alone has it.
    """
    before: tuple[str, bool] | None = None
    for name, config in stages.items():
        is_set = bool(config.representation.get(PER_OBJECT, False))
        key = f"stages.{name}.representation.{PER_OBJECT}"
        if is_set and layout is None:
            raise InputError(
                f"{key} is true, and the run has no layout.",
                f"set layout, or set {key} to false.",
            )
        start = config.start_from
        if is_set and start not in (None, PREVIOUS):
            raise InputError(
                f"{key} is true, and stage {name!r} starts from {start}, which is one object.",
                f"set stages.{name}.start_from to null, or {key} to false.",
            )
        if before is not None and start == PREVIOUS and before[1] != is_set:
            raise InputError(
                f"stage {name!r} starts from stage {before[0]!r}, and {PER_OBJECT} is true in one "
                "of them alone: objects are neither cut apart nor melted together.",
                f"set {PER_OBJECT} to the same in the representation of both (hashgrid, dmtet and "
                f"gaussians have it), or stages.{name}.start_from to null.",
            )
        before = name, is_set
