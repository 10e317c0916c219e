"""Files of Gaussians: PLY in the convention of 3D Gaussian splatting, and how it is read.

One little-endian float32 row a Gaussian; names and meaning of its properties (rows with other types
of numbers, and with more properties, can be read):

    x y z               mean
    nx ny nz            zero
    f_dc_0 f_dc_1 f_dc_2    (albedo - 1/2) / Y_0, the constant spherical harmonic; sRGB
    f_rest_0 ..         coefficients of higher harmonics: all of red, then of green, then of blue
    opacity             logit
    scale_0 .. scale_2  logarithms of the standard deviations
    rot_0 .. rot_3      quaternion (w, x, y, z)
    beta                shape of generalised exponentials, an addition of this project: only there
                        if they are no Gaussians, which is what other viewers draw them as

Harmonics are those of `dreamlab.core.harmonics`, of the direction from the camera to the mean. The
axes are "y down" as captured scenes have them, so viewers that turn those upright do so with these
too; see `frames.py`.

Source: the files of Kerbl et al. 2023.
"""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.frames import ROTATION
from dreamlab.core.harmonics import Y_0, degree_of, turn
from dreamlab.core.protocols import Splats

FRAME = "y down"
GROUPS = {
    "mean": ("x", "y", "z"),
    "normal": ("nx", "ny", "nz"),
    "color": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity": ("opacity",),
    "scale": ("scale_0", "scale_1", "scale_2"),
    "rotation": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
"""Properties in the order of the file; those of higher harmonics come after the colour's."""
SHAPE = "beta"
_NEEDED = {group: names for group, names in GROUPS.items() if group != "normal"}
_NUMBERS = {
    "<f4": ("float", "float32"),
    "<f8": ("double", "float64"),
    "<i1": ("char", "int8"),
    "<u1": ("uchar", "uint8"),
    "<i2": ("short", "int16"),
    "<u2": ("ushort", "uint16"),
    "<i4": ("int", "int32"),
    "<u4": ("uint", "uint32"),
}
_TYPE_OF = {name: code for code, names in _NUMBERS.items() for name in names}
"""What numpy calls the number types of PLY."""
_HEADER_LIMIT = 1 << 16
"""Bytes within which a header ends."""


def holds_splats(path: Path) -> bool:
    """Return whether a file that exists is a PLY that calls its vertices Gaussians."""
    with path.open("rb") as file:
        head = file.read(_HEADER_LIMIT).partition(b"end_header")[0]
    lines = head.decode("ascii", errors="replace").splitlines()
    names = {line.split()[-1] for line in lines if line.startswith("property ")}
    return lines[:1] == ["ply"] and {"scale_0", "rot_0", "opacity"} <= names


def read_splats(path: Path) -> Splats:
    """Read Gaussians of any program.

    The axes become those of the world; size and place stay as they are.

    Raises:
        InputError: the file cannot be read, or holds no Gaussians.
    """
    table = _read_table(path)
    parts = {group: _columns(table, names, path) for group, names in _NEEDED.items()}
    rotation = torch.from_numpy(ROTATION[FRAME]).float()
    harmonics = _harmonics(table, path)
    is_shaped = SHAPE in (table.dtype.names or ())
    return Splats(
        means=parts["mean"] @ rotation,
        quaternions=multiply(quaternion(rotation.T), parts["rotation"]),
        scales=parts["scale"].exp(),
        opacities=parts["opacity"][:, 0].sigmoid(),
        colors=(0.5 + Y_0 * parts["color"]).clamp(0, 1),
        harmonics=None if harmonics is None else turn(harmonics, rotation.T),
        shapes=_columns(table, (SHAPE,), path)[:, 0] if is_shaped else None,
    )


def _harmonics(table: ndarray, path: Path) -> Float[Tensor, "rows bases 3"] | None:
    count = sum(name.startswith("f_rest_") for name in table.dtype.names or ())
    if count == 0:
        return None
    if count % 3 or degree_of(count // 3) is None:
        raise InputError(
            f"{path} has {count} properties f_rest; spherical harmonics of degree 1, 2 and 3 have "
            "9, 24 and 45.",
            "write the file again with one of those degrees.",
        )
    columns = _columns(table, tuple(f"f_rest_{i}" for i in range(count)), path)
    return columns.reshape(len(columns), 3, -1).transpose(1, 2).contiguous()


def _read_table(path: Path) -> ndarray:
    """Return the vertices of a binary PLY as a structured array."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}.", "check the path."
        ) from None
    refused = InputError(
        f"{path} holds no Gaussians that can be read.",
        "give a binary little-endian PLY of Gaussian splatting with nothing but vertices.",
    )
    head, mark, body = content.partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    if not mark or lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise refused
    elements = [line.split() for line in lines if line.startswith("element ")]
    properties = [line.split() for line in lines if line.startswith("property ")]
    is_plain = all(len(words) == 3 and words[1] in _TYPE_OF for words in properties)
    if len(elements) != 1 or elements[0][1] != "vertex" or not is_plain:
        raise refused
    dtype = np.dtype([(words[2], _TYPE_OF[words[1]]) for words in properties])
    count = int(elements[0][2])
    if len(body) < count * dtype.itemsize:
        raise InputError(f"{path} is cut short.", "copy the file again.")
    return np.frombuffer(body, dtype, count)


def _columns(table: ndarray, names: tuple[str, ...], path: Path) -> Float[Tensor, "rows columns"]:
    missing = [name for name in names if name not in (table.dtype.names or ())]
    if missing:
        raise InputError(
            f"{path} has no property {missing[0]!r}.", "give a PLY of Gaussian splatting."
        )
    return torch.from_numpy(np.stack([table[name] for name in names], axis=1).astype(np.float32))


def quaternion(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, " 4"]:
    """Return the quaternion of a rotation whose trace is not -1."""
    w = 0.5 * (1 + rotation.trace()).clamp(min=0).sqrt()
    x, y, z = (
        (rotation[2, 1] - rotation[1, 2]) / (4 * w),
        (rotation[0, 2] - rotation[2, 0]) / (4 * w),
        (rotation[1, 0] - rotation[0, 1]) / (4 * w),
    )
    return torch.stack([w, x, y, z])


def multiply(left: Float[Tensor, " 4"], right: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Return the Hamilton products, of unit length: first `right` turns, then `left`."""
    w, x, y, z = left
    matrix = torch.stack(
        [
            torch.stack([w, -x, -y, -z]),
            torch.stack([x, w, -z, y]),
            torch.stack([y, z, w, -x]),
            torch.stack([z, -y, x, w]),
        ]
    )
    return torch.nn.functional.normalize(right, dim=-1) @ matrix.T
