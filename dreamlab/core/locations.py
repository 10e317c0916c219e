"""Where dreamlab's own files lie: recipes and the model table, what runs in Blender, the cache."""

import os
from pathlib import Path

from dreamlab.core.errors import MissingError

PACKAGE = Path(__file__).resolve().parent.parent


def configs_dir() -> Path:
    """Return the folder of recipes and `models.yaml`.

    Raises:
        MissingError: it is not there.
    """
    return _own("configs", "models.yaml")


def blender_dir() -> Path:
    """Return the folder of the Blender extension and of the script that converts models.

    Raises:
        MissingError: it is not there.
    """
    return _own("blender", "convert_model.py")


def _own(name: str, mark: str) -> Path:
    """Return the folder `name` that holds a file `mark`.

    A wheel carries it inside the package; in a checkout it lies beside the package.
    """
    places = (PACKAGE / name, PACKAGE.parent / name)
    for place in places:
        if (place / mark).is_file():
            return place
    raise MissingError(
        f"the folder {name} is in neither {places[0].parent} nor {places[1].parent}.",
        "reinstall dreamlab.",
    )


def cache_dir() -> Path:
    """Return the folder for what can be computed again; it need not exist yet.

    `$DREAMLAB_CACHE` if set, else `$XDG_CACHE_HOME/dreamlab`, else `~/.cache/dreamlab`.
    """
    own = os.environ.get("DREAMLAB_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dreamlab"
