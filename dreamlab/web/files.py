"""The files of a run that users may have: exports, pictures, report, settings and log.

Nothing else of a run folder is given out: no checkpoints, no locks, nothing that is written in
this moment, and nothing that a link leads to.
"""

import os
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path

from dreamlab.core.run_folder import RunFolder
from dreamlab.web.errors import NotFoundError

SINGLE = (
    "preview.png",
    "turntable.mp4",
    "image.png",
    "strip.png",
    "report.json",
    "config.yaml",
    "log.txt",
)
FOLDERS = ("exports", "previews")
MEDIA_TYPES = {
    ".glb": "model/gltf-binary",
    ".obj": "model/obj",
    ".mtl": "model/mtl",
    ".stl": "model/stl",
    ".usdz": "model/vnd.usdz+zip",
    ".ply": "application/octet-stream",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".mp4": "video/mp4",
    ".json": "application/json",
    ".yaml": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
UNKNOWN = "application/octet-stream"
CHUNK = 1 << 18


def media_type(path: Path) -> str:
    """Name the kind of a file by its suffix; what is not known is not opened by a browser."""
    return MEDIA_TYPES.get(path.suffix.lower(), UNKNOWN)


def is_plain_file(path: Path) -> bool:
    """Whether there is a file itself, not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_plain_folder(path: Path) -> bool:
    """Whether there is a folder itself, not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def list_files(folder: RunFolder) -> list[Path]:
    """List the files of a run for users, pictures and exports first."""
    found = [folder.root / name for name in SINGLE if is_plain_file(folder.root / name)]
    for name in FOLDERS:
        if is_plain_folder(folder.root / name):
            found += sorted(_inside(folder.root / name))
    return found


def _inside(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            for item in found:
                if not item.name.startswith(".") and item.is_file(follow_symlinks=False):
                    yield folder / item.name
    except OSError:
        return  # removed meanwhile


def find_file(folder: RunFolder, path: str) -> Path:
    """Return the file of a run that `path` names, as `list_files` has it.

    Raises:
        NotFoundError: there is none, or it is not meant for users.
    """
    inside, _, name = path.rpartition("/")
    is_named = name and "\\" not in path and path.isprintable() and not name.startswith(".")
    found = folder.root / path
    if is_named and inside == "" and name in SINGLE and is_plain_file(found):
        return found
    if is_named and inside in FOLDERS and is_plain_folder(found.parent) and is_plain_file(found):
        return found
    raise NotFoundError(
        f"the run has no file {path[:80]!r}.", "see the list of its files for those it has."
    )


def zipped(folder: RunFolder) -> Iterator[bytes]:
    """Pack the files of a run into a zip file, piece by piece; they are compressed already."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for path in list_files(folder):
            name = f"{folder.root.name}/{path.relative_to(folder.root).as_posix()}"
            try:
                info = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
                source = open(path, "rb")
            except OSError:
                continue  # removed meanwhile
            with source, archive.open(info, "w", force_zip64=True) as packed:
                while chunk := source.read(CHUNK):
                    packed.write(chunk)
                    yield sink.take()
    yield sink.take()


class _Sink:
    """Keeps what a zip file writes until it is taken; it cannot be wound back."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Have nothing to do: what is written is there."""

    def close(self) -> None:
        """Have nothing to do: what is left can still be taken."""

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data
