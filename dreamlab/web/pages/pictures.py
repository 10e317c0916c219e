"""Pictures of a run, small enough to be part of a page.

Previews and contact sheets are tables (`core.pictures.tile`) of views by rgb, normal and opacity. A
page shows single views, so sheets are cut, and the views are sent inside the page as data URIs:
they are a few kB each, and need no further request. Cut pictures are kept in memory by path
and time of change.
"""

import base64
import os
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image

from dreamlab.core.pictures import untile
from dreamlab.core.run_folder import RunFolder

MODES = ("rgb", "normal", "opacity")
"""Rows of a sheet."""
WEBP_QUALITY = 82
MAX_SIDE = 512
"""Of pictures that are no sheets, pixels."""
Views = dict[str, list[str]]
"""Mode to data URIs, one a view."""


def newest_sheet(folder: RunFolder) -> Path | None:
    """Return the contact sheet of a finished run, or its newest preview, whichever is newer.

    A run that was stopped and is resumed has the sheet of what was kept, and grows past it.
    """
    paths = (folder.image, folder.preview, newest_preview(folder))
    newest = max(paths, key=changed_at)
    return newest if changed_at(newest) else None


def changed_at(path: Path | None) -> int:
    """Return when a file was written, ns; 0 if there is none."""
    try:
        return 0 if path is None else path.stat().st_mtime_ns
    except OSError:
        return 0


def newest_preview(folder: RunFolder) -> Path | None:
    """Return the preview with the largest step; None if there is none yet."""
    return max(folder.previews.glob("*.webp"), default=None)


def views_of(path: Path | None) -> Views:
    """Cut a sheet into its views; a picture that is no sheet is its only view, in colour."""
    if path is None:
        return {}
    try:
        return _views(path, os.stat(path).st_mtime_ns)
    except (OSError, SyntaxError):  # removed meanwhile, or no picture: nothing to show
        return {}


def cover(folder: RunFolder) -> str | None:
    """Return one picture that stands for the run: of a sheet, the second view, seen at an angle."""
    views = views_of(newest_sheet(folder)).get("rgb", [])
    return views[1 % len(views)] if views else None


@lru_cache(maxsize=256)
def _views(path: Path, changed: int) -> Views:
    with Image.open(path) as picture:
        picture.load()
        try:
            rows = untile(picture.convert("RGB"), len(MODES))
        except ValueError:
            whole = picture.convert("RGB")
            whole.thumbnail((MAX_SIDE, MAX_SIDE))
            return {"rgb": [_uri(whole)]}
    return {mode: [_uri(view) for view in row] for mode, row in zip(MODES, rows, strict=True)}


def _uri(picture: Image.Image) -> str:
    content = BytesIO()
    picture.save(content, "WEBP", quality=WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode("ascii")
