import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import trimesh
from soft_shapes import SoftShape, octant_color, statue, torus

from dreamlab.core.errors import InputError
from dreamlab.core.mesh import Mesh
from dreamlab.ops.mesh.box_atlas import unwrap_box
from dreamlab.ops.mesh.clean import (
    face_adjacency,
    label_components,
    remove_degenerate,
    vertex_normals,
)
from dreamlab.ops.mesh.simplify import simplify
from dreamlab.ops.mesh.texels import rasterize
from dreamlab.ops.mesh.unwrap import CHILD, PADDING, unwrap


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    surface = SoftShape(statue(), octant_color).surface(200.0, 48)
    simple = simplify(remove_degenerate(surface), 2000)
    return Mesh(simple.vertices, simple.faces, normals=vertex_normals(simple))


def child(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def assert_same_surface(cut: Mesh, mesh: Mesh) -> None:
    assert np.array_equal(cut.triangles, mesh.triangles)
    assert cut.normals is not None and mesh.normals is not None
    assert np.array_equal(cut.normals[cut.faces], mesh.normals[mesh.faces])


@pytest.mark.parametrize("method", ["xatlas", "box"])
def test_charts_do_not_overlap_and_stay_inside_the_texture(mesh, method):
    result = unwrap(mesh, method=method, texture_size=512, time_limit=60.0)
    assert result.method == method and result.warning is None
    uv = result.mesh.uv
    assert uv is not None and uv.min() >= 0 and uv.max() <= 1
    texels = rasterize(uv, result.mesh.faces, 512)
    assert texels.overlap <= 0.001
    assert texels.num_inside > 0.3 * 512**2
    assert_same_surface(result.mesh, mesh)


@pytest.mark.parametrize("method", ["xatlas", "box"])
def test_every_triangle_gets_area_in_the_texture(mesh, method):
    result = unwrap(mesh, method=method, texture_size=512, time_limit=60.0)
    assert result.mesh.uv is not None
    a, b, c = np.moveaxis(result.mesh.uv[result.mesh.faces], 1, 0)
    ab, ac = b - a, c - a
    signed = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    assert (np.abs(signed) > 0).all()
    if method == "box":
        assert (signed > 0).all()  # nothing is mirrored


def with_tiny_triangles(mesh: Mesh, size: float) -> Mesh:
    """Put a scaled copy into the middle of some triangles, and connect it to their corners."""
    vertices, faces = list(mesh.vertices), [tuple(face) for face in mesh.faces[5:]]
    for a, b, c in mesh.faces[:5]:
        corners = mesh.vertices[[a, b, c]]
        p, q, r = range(len(vertices), len(vertices) + 3)
        vertices += list(corners.mean(axis=0) + size * (corners - corners.mean(axis=0)))
        faces += [(p, q, r), (a, b, p), (b, q, p), (b, c, q), (c, r, q), (c, a, r), (a, p, r)]
    return Mesh(np.array(vertices, np.float32), np.array(faces))


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_xatlas_gives_the_smallest_triangles_a_place_at_any_size_of_the_mesh(scale):
    ball = trimesh.creation.icosphere(3, radius=scale)
    mesh = Mesh(np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.int64))
    mesh = with_tiny_triangles(mesh, size=3e-3)
    assert mesh.face_areas.min() < 1.2e-7 * scale**2
    result = unwrap(mesh, method="xatlas", texture_size=512, time_limit=60.0)
    assert result.method == "xatlas", result.warning
    assert result.mesh.uv is not None
    assert (np.ptp(result.mesh.uv[result.mesh.faces], axis=1).max(axis=1) > 0).all()


def test_a_crashing_child_falls_back_to_the_box(mesh):
    crash = child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    result = unwrap(mesh, method="xatlas", texture_size=256, time_limit=60.0, child=crash)
    assert result.method == "box"
    assert result.warning is not None and "status -11" in result.warning
    assert_same_surface(result.mesh, mesh)


def test_a_hanging_child_is_ended_at_the_time_limit_and_falls_back(mesh, tmp_path):
    hang = child(
        f"import pathlib, os, time; pathlib.Path({str(tmp_path / 'pid')!r})"
        ".write_text(str(os.getpid())); time.sleep(600)"
    )
    fractions: list[float] = []
    begin = time.perf_counter()
    result = unwrap(
        mesh,
        method="xatlas",
        texture_size=256,
        time_limit=1.5,
        child=hang,
        on_progress=fractions.append,
    )
    assert time.perf_counter() - begin < 60
    assert result.method == "box"
    assert result.warning is not None and "time limit of 1.5 s" in result.warning
    assert fractions and fractions == sorted(fractions) and 0 < fractions[0] <= fractions[-1] <= 1
    assert not is_running(int((tmp_path / "pid").read_text()))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('out of charts')", "out of charts"),
        (
            "import sys, numpy as n; m = n.load(sys.argv[1]); n.savez(sys.argv[2],"
            " source=n.arange(3), faces=n.zeros((1, 3)), uv=n.zeros((3, 2)))",
            "other triangles",
        ),
        (
            "import sys, numpy as n; m = n.load(sys.argv[1]); n.savez(sys.argv[2],"
            " source=n.arange(len(m['vertices'])), faces=m['faces'],"
            " uv=n.full((len(m['vertices']), 2), n.nan))",
            "outside the texture",
        ),
        (
            "import sys, numpy as n; m = n.load(sys.argv[1]); n.savez(sys.argv[2],"
            " source=n.arange(len(m['vertices'])), faces=m['faces'],"
            " uv=n.zeros((len(m['vertices']), 2)))",
            "no place in the texture",
        ),
        ("pass", "no result"),
    ],
)
def test_a_child_that_answers_nonsense_falls_back(mesh, code, words):
    result = unwrap(mesh, method="xatlas", texture_size=256, time_limit=60.0, child=child(code))
    assert result.method == "box"
    assert result.warning is not None and words in result.warning


def test_an_interrupt_ends_the_child(mesh, tmp_path):
    hang = child(
        f"import pathlib, os, time; pathlib.Path({str(tmp_path / 'pid')!r})"
        ".write_text(str(os.getpid())); time.sleep(600)"
    )

    def interrupt(fraction: float) -> None:
        if (tmp_path / "pid").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unwrap(
            mesh,
            method="xatlas",
            texture_size=256,
            time_limit=60.0,
            child=hang,
            on_progress=interrupt,
        )
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_a_child_that_hangs_ends_though_whoever_waited_for_it_was_killed(tmp_path):
    (tmp_path / "xatlas.py").write_text("import time\ndef Atlas(): time.sleep(600)\n")
    np.savez(tmp_path / "in.npz", seconds=0.5)
    ended = subprocess.run(
        [*CHILD, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGALRM


def test_the_child_does_not_import_torch():
    script = CHILD[1]
    code = f"import runpy, sys; runpy.run_path({str(script)!r}); print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "False"


def spiral_ramp(turns: float = 2.5, steps: int = 120) -> Mesh:
    """A staircase that passes over itself: every triangle faces up, in one connected piece."""
    angle = np.linspace(0, 2 * np.pi * turns, steps)
    rings = [
        np.stack([r * np.cos(angle), r * np.sin(angle), 0.05 * angle], axis=1) for r in (0.4, 1.0)
    ]
    i = np.arange(steps - 1)
    faces = [np.stack([i, i + steps, i + 1], 1), np.stack([i + 1, i + steps, i + steps + 1], 1)]
    return Mesh(np.concatenate(rings).astype(np.float32), np.concatenate(faces))


def test_a_surface_that_passes_over_itself_is_cut_until_nothing_overlaps():
    mesh = spiral_ramp()
    result = unwrap_box(mesh, 256, PADDING)
    assert rasterize(result.uv, result.faces, 256).overlap == 0
    assert np.array_equal(result.source[result.faces], mesh.faces)


def test_charts_of_the_box_are_padded():
    mesh = SoftShape(torus(), octant_color).surface(200.0, 24)
    result = unwrap_box(remove_degenerate(mesh), 256, PADDING)
    texels = rasterize(result.uv, result.faces, 256)
    owner = np.full((256, 256), -1)
    chart = label_components(len(result.faces), face_adjacency(result.faces))
    owner.flat[texels.index] = chart[texels.face_index]
    for shift in range(1, 2 * PADDING - 2):
        left, right = owner[:, :-shift], owner[:, shift:]
        assert not ((left >= 0) & (right >= 0) & (left != right)).any()


def test_a_texture_too_small_for_the_charts_is_refused():
    mesh = SoftShape(torus(), octant_color).surface(200.0, 32)
    with pytest.raises(InputError, match="do not fit") as caught:
        unwrap_box(mesh, 16, PADDING)
    assert "texture_size" in caught.value.fix
