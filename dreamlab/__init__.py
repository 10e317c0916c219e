"""Text to 3D by score distillation.

    import dreamlab

    config = dreamlab.load_recipe("toybox", prompt="a red mushroom", quality="draft")
    result = dreamlab.generate(config)
    print(result.files)
    dreamlab.export_run(result.folder, formats=["stl"])

Importing the package is cheap: torch is loaded when one of these functions is first used. A
`dreamlab.Client` talks to a server that `dreamlab serve` has started, and needs no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from dreamlab.core.version import VERSION

if TYPE_CHECKING:
    from dreamlab.jobs.export import export as export_run
    from dreamlab.jobs.generate import generate
    from dreamlab.jobs.recipes import load_recipe
    from dreamlab.web.client import Client

__version__ = VERSION
__all__ = ["Client", "__version__", "export_run", "generate", "load_recipe"]

_HOMES = {
    "Client": ("dreamlab.web.client", "Client"),
    "export_run": ("dreamlab.jobs.export", "export"),
    "generate": ("dreamlab.jobs.generate", "generate"),
    "load_recipe": ("dreamlab.jobs.recipes", "load_recipe"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dreamlab' has no attribute {name!r}")
    module, function = _HOMES[name]
    return getattr(importlib.import_module(module), function)
