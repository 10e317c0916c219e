"""Gaussians written as files that other viewers open; see `dreamlab.core.splat_file`."""

from pathlib import Path

import torch

from dreamlab.core.frames import ROTATION
from dreamlab.core.harmonics import Y_0, turn
from dreamlab.core.protocols import Splats
from dreamlab.core.run_folder import atomic_path
from dreamlab.core.splat_file import FRAME, GROUPS, SHAPE, multiply, quaternion
from dreamlab.export.files.placement import Placement

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
        "rotation": multiply(quaternion(rotation), splats.quaternions.detach().cpu()),
    }
    groups = dict(GROUPS)
    if splats.harmonics is not None:
        turned = turn(splats.harmonics.detach().cpu(), rotation)
        higher = turned.transpose(1, 2).flatten(start_dim=1)
        columns["color"] = torch.cat([columns["color"], higher], dim=1)
        groups["color"] += tuple(f"f_rest_{i}" for i in range(higher.shape[1]))
    if splats.shapes is not None:
        columns["shape"], groups["shape"] = splats.shapes.detach().cpu()[:, None], (SHAPE,)
    rows = torch.cat([columns[group] for group in groups], dim=1).numpy().astype("<f4")
    names = [name for group in groups.values() for name in group]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    header += [*(f"property float {name}" for name in names), "end_header", ""]
    with atomic_path(path) as temporary:
        temporary.write_bytes("\n".join(header).encode() + rows.tobytes())
