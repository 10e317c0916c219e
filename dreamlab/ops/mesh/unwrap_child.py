"""Unwrap a mesh with xatlas, as a program of its own: `python unwrap_child.py INPUT OUTPUT`.

xatlas may crash or hang on a mesh, so it never runs in the caller's process. INPUT is an .npz file
with `vertices`, `faces`, `resolution`, `padding` (texels) and `seconds`; OUTPUT gets `source` (for
every new vertex the old one), `faces` and `uv`. Whoever waits ends this program after `seconds`; if
that process was killed, the system does so a little later (SIGALRM; Windows has none), however
xatlas hangs. Nothing but numpy and xatlas is imported, so that the program starts fast.
"""

import math
import signal
import sys

import numpy as np
import xatlas


def main(source: str, target: str) -> None:
    mesh = np.load(source)
    if sys.platform != "win32":
        signal.alarm(math.ceil(mesh["seconds"]) + 1)
    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh["vertices"].astype(np.float32), mesh["faces"].astype(np.uint32))
    pack = xatlas.PackOptions()
    pack.resolution = int(mesh["resolution"])
    pack.padding = int(mesh["padding"])
    pack.bilinear = True
    atlas.generate(xatlas.ChartOptions(), pack)
    if atlas.atlas_count != 1:
        raise SystemExit(f"xatlas made {atlas.atlas_count} textures instead of one")
    vertex_map, faces, uv = atlas.get_mesh(0)
    np.savez(target, source=vertex_map, faces=faces, uv=uv)


if __name__ == "__main__":
    main(*sys.argv[1:])
