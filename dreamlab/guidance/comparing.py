"""What a rule offers when it compares each render with one of the object as the stage found it."""

from typing import Protocol, runtime_checkable

from dreamlab.guidance.base import Guidance
from dreamlab.guidance.prompts import Prompts


@runtime_checkable
class Comparing(Guidance, Protocol):
    """A guidance that needs `Render.reference`; no other one is given it.

    The reference is what the object was at the begin of the stage, under the same cameras, light
    and random numbers. So it equals the render as long as nothing was changed.
    """

    @property
    def reference_prompt(self) -> str:
        """What the object is at the begin of the stage."""
        ...

    def compare_with(self, prompts: Prompts) -> None:
        """Take the embeddings of `reference_prompt`; called once, before anything else."""
        ...
