"""Pictures out of arrays: bytes, tiles with labels, files; and pictures from files.

Images are `[height width 3]`, sRGB in [0, 1] as float or 0..255 as bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image, ImageDraw, ImageFont

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path

LABEL_HEIGHT = 16
READABLE = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of pictures that a stage can start from."""


def to_bytes(image: Float[ndarray, "*shape"]) -> UInt8[ndarray, "*shape"]:
    """Round [0, 1] to bytes; values outside are clipped."""
    return (np.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def normal_to_rgb(normal: Float[ndarray, "*shape 3"]) -> Float[ndarray, "*shape 3"]:
    """Show a normal as a colour, (n + 1) / 2; zero normals come out mid-grey."""
    return normal * 0.5 + 0.5


def tile(
    rows: Sequence[Sequence[UInt8[ndarray, "_h _w 3"]]],
    *,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    cell: int = 128,
    gap: int = 2,
) -> Image.Image:
    """Lay images out as a table with optional labels, each resized to `cell` pixels square."""
    columns = max(len(row) for row in rows)
    font = ImageFont.load_default()
    left = 8 + math.ceil(max(map(font.getlength, row_labels))) if row_labels else 0
    top = LABEL_HEIGHT if column_labels else 0
    size = (left + columns * (cell + gap), top + len(rows) * (cell + gap))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for j, label in enumerate(column_labels or ()):
        draw.text((left + j * (cell + gap) + 4, 2), label, fill="black", font=font)
    for i, row in enumerate(rows):
        y = top + i * (cell + gap)
        if row_labels:
            draw.text((4, y + cell // 2 - 6), row_labels[i], fill="black", font=font)
        for j, image in enumerate(row):
            picture = Image.fromarray(image)
            resample = Image.Resampling.NEAREST if picture.width < cell else Image.Resampling.BOX
            sheet.paste(picture.resize((cell, cell), resample), (left + j * (cell + gap), y))
    return sheet


def untile(sheet: Image.Image, rows: int, cell: int = 128, gap: int = 2) -> list[list[Image.Image]]:
    """Cut a labelled table of `tile` into its cells again; `rows`, `cell` and `gap` as it had them.

    Labels of rows lie left of the cells and are narrower than a cell.

    Raises:
        ValueError: the picture has not the height of such a table.
    """
    if sheet.height != LABEL_HEIGHT + rows * (cell + gap):
        raise ValueError(f"a sheet of {rows} rows cannot be {sheet.height} pixels high")
    columns = sheet.width // (cell + gap)
    left = sheet.width - columns * (cell + gap)
    corners = [
        [(left + j * (cell + gap), LABEL_HEIGHT + i * (cell + gap)) for j in range(columns)]
        for i in range(rows)
    ]
    return [[sheet.crop((x, y, x + cell, y + cell)) for x, y in row] for row in corners]


def open_picture(path: Path, where: str) -> Image.Image:
    """Open a picture as sRGB, what is transparent over white.

    Args:
        path: of the file.
        where: the setting that names it, for the message.

    Raises:
        InputError: it is no picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{where}: {path} cannot be read as a picture ({error}).", "save it as PNG or JPEG."
        ) from None
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """Write a picture atomically, in the format that the suffix names."""
    with atomic_path(path) as temporary:
        image.save(temporary)
