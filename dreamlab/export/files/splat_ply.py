"""Gaussians as PLY files in the convention of 3D Gaussian splatting, which other viewers open.

One little-endian float32 row a Gaussian; names and meaning of its properties:

    x y z               mean
    nx ny nz            zero
    f_dc_0 f_dc_1 f_dc_2    (albedo - 1/2) / Y_0, the constant spherical harmonic; sRGB
    opacity             logit
    scale_0 .. scale_2  logarithms of the standard deviations
    rot_0 .. rot_3      quaternion (w, x, y, z)

Glossary: Y_0 = 1 / (2 sqrt(pi)). Files are "y down" as captured scenes are, so viewers that turn
those upright do so with these too; see `placement.py`.

Source: the files of Kerbl et al. 2023.
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from dreamlab.core.errors import InputError
from dreamlab.core.frames import ROTATION
from dreamlab.core.protocols import Splats
from dreamlab.core.run_folder import atomic_path
from dreamlab.export.files.placement import Placement

Y_0 = 0.5 / math.sqrt(math.pi)
FRAME = "y down"
GROUPS = {
    "mean": ("x", "y", "z"),
    "normal": ("nx", "ny", "nz"),
    "color": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity": ("opacity",),
    "scale": ("scale_0", "scale_1", "scale_2"),
    "rotation": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
"""Properties in the order of the file."""
LIMIT = 1e-6
"""Opacities are kept this far from 0 and 1, whose logits are infinite."""


def write_splats(path: Path, splats: Splats, placement: Placement) -> None:
    """Write Gaussians, moved from the world to where `placement` puts the model."""
    rotation = torch.from_numpy(ROTATION[FRAME]).float()
    means = splats.means.detach().cpu() - torch.tensor(placement.origin)
    opacity = splats.opacities.detach().cpu().clamp(LIMIT, 1 - LIMIT)
    columns = {
        "mean": placement.scale * means @ rotation.T,
        "normal": torch.zeros_like(means),
        "color": (splats.colors.detach().cpu() - 0.5) / Y_0,
        "opacity": opacity.logit()[:, None],
        "scale": (placement.scale * splats.scales.detach().cpu()).log(),
        "rotation": _multiply(_quaternion(rotation), splats.quaternions.detach().cpu()),
    }
    rows = torch.cat([columns[group] for group in GROUPS], dim=1).numpy().astype("<f4")
    names = [name for group in GROUPS.values() for name in group]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    with atomic_path(path) as temporary:
        temporary.write_bytes("\n".join(header).encode() + rows.tobytes())


def read_splats(path: Path) -> Splats:
    """Read Gaussians of any program; higher spherical harmonics are left out.

    The axes become those of the world; size and place stay as they are.

    Raises:
        InputError: the file cannot be read, or holds no Gaussians.
    """
    table = _read_table(path)
    parts = {group: _columns(table, names, path) for group, names in _NEEDED.items()}
    rotation = torch.from_numpy(ROTATION[FRAME]).float()
    return Splats(
        means=parts["mean"] @ rotation,
        quaternions=_multiply(_quaternion(rotation.T), parts["rotation"]),
        scales=parts["scale"].exp(),
        opacities=parts["opacity"][:, 0].sigmoid(),
        colors=(0.5 + Y_0 * parts["color"]).clamp(0, 1),
    )


_NEEDED = {group: names for group, names in GROUPS.items() if group != "normal"}


def _read_table(path: Path) -> ndarray:
    """Return the vertices of a binary PLY as a structured array."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror or error}.", "check the path."
        ) from None
    refused = InputError(
        f"{path} holds no Gaussians.", "give a binary little-endian PLY of Gaussian splatting."
    )
    head, mark, body = content.partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    if not mark or lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise refused
    elements = [line.split() for line in lines if line.startswith("element ")]
    properties = [line.split() for line in lines if line.startswith("property ")]
    is_plain = all(len(words) == 3 and words[1] == "float" for words in properties)
    if len(elements) != 1 or elements[0][1] != "vertex" or not is_plain:
        raise refused
    dtype = np.dtype([(words[2], "<f4") for words in properties])
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


def _quaternion(rotation: Float[Tensor, "3 3"]) -> Float[Tensor, " 4"]:
    """Return the quaternion of a rotation whose trace is not -1."""
    w = 0.5 * (1 + rotation.trace()).clamp(min=0).sqrt()
    x, y, z = (
        (rotation[2, 1] - rotation[1, 2]) / (4 * w),
        (rotation[0, 2] - rotation[2, 0]) / (4 * w),
        (rotation[1, 0] - rotation[0, 1]) / (4 * w),
    )
    return torch.stack([w, x, y, z])


def _multiply(left: Float[Tensor, " 4"], right: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
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
