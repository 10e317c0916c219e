"""Text to 3D by score distillation.

    import dreamlab

    config = dreamlab.load_recipe("toybox", prompt="a red mushroom", quality="draft")
    run = dreamlab.generate(config)
    print(run.exports / "model.glb")

Importing the package is cheap: torch is loaded when one of these functions is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamlab.jobs.export import export
    from dreamlab.jobs.generate import generate
    from dreamlab.jobs.recipes import load_recipe

__version__ = "0.1.0"
__all__ = ["__version__", "export", "generate", "load_recipe"]

_HOMES = {
    "export": "dreamlab.jobs.export",
    "generate": "dreamlab.jobs.generate",
    "load_recipe": "dreamlab.jobs.recipes",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dreamlab' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
