"""Where dreamlab's own files lie: recipes and the model table, and the cache."""

import os
from pathlib import Path

from dreamlab.core.errors import MissingError

PACKAGE = Path(__file__).resolve().parent.parent


def configs_dir() -> Path:
    """Return the folder of recipes and `models.yaml`.

    A wheel carries it inside the package; in a checkout it lies beside the package.

    Raises:
        MissingError: neither place has it.
    """
    places = (PACKAGE / "configs", PACKAGE.parent / "configs")
    for place in places:
        if (place / "models.yaml").is_file():
            return place
    raise MissingError(
        f"the folder of recipes is in neither {places[0]} nor {places[1]}.", "reinstall dreamlab."
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
