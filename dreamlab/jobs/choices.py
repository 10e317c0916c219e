"""What a run could have instead of what it has: plain records, which the page shows. No torch here.

`jobs.parts` finds them.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Option:
    """A component or a prior that could be taken."""

    name: str
    settings: dict[str, Any]
    """Dotted keys with the values that choose it."""
    why_not: str = ""
    """Why it does not fit; empty if it does."""
    fix: str = ""
    """What would make it fit."""
    about: str = ""
    """One line on what it is; may be empty."""
    is_here: bool = True
    """Whether it is on this machine; else it is downloaded when a run begins."""


@dataclass(frozen=True, slots=True)
class Part:
    """What is chosen for the prior, or for a stage's representation or guidance, and what else."""

    stage: str
    """Name of the stage; empty for the prior, which all of them share."""
    part: str
    """prior, representation or guidance."""
    chosen: str
    """What there is now."""
    own: dict[str, Any]
    """Dotted keys with the values that the recipe itself has for them."""
    options: list[Option]
