"""Models that users upload: binary glTF 2.0, checked before anything reads them in earnest.

    header   "glTF", version 2, length of the file      12 bytes, little endian
    chunk    length, kind, content                      JSON first, then at most one BIN

Whatever would make a reader open another file or take memory out of proportion is refused:
addresses of other files, accessors that claim more than the file holds, pictures of enormous size,
compressed geometry, nodes that come twice, and more triangles than a run could use.
A model is kept under a name made of its content; the same bytes are kept once. Old ones that no
run needs are removed, see `jobs.queue.models`.
"""

import hashlib
import io
import json
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dreamlab.core.errors import InputError
from dreamlab.core.run_folder import atomic_path
from dreamlab.jobs.queue import models
from dreamlab.web.errors import NotFoundError, TooLargeError

MAX_BYTES = 64 * 2**20
MAX_TOTAL_BYTES = 4 * 2**30
"""Of all models that are kept."""
MAX_TRIANGLES = 2_000_000
MAX_PIXELS = 64 * 2**20
"""Of all pictures in a model."""
MAX_ITEMS = 100_000
"""Nodes, accessors and so on."""
HEADER, CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
PICTURES = ("PNG", "JPEG", "WEBP")
COMPONENT_BYTES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
ID = re.compile(r"[0-9a-f]{32}")
FIX = "export it again as a binary glTF (.glb) with everything packed and no compression."


def keep(runs: Path, content: bytes) -> str:
    """Keep a model beside the runs and return its id.

    Raises:
        InputError: it is no GLB, or one that is refused.
        TooLargeError: it is too large, or there is no more room for models.
    """
    check_glb(content)
    name = hashlib.sha256(content).hexdigest()[:32]
    folder = models.folder_of(runs)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.glb"
    if path.exists():
        path.touch()  # it is wanted again, so it is not old
        return name
    models.prune(runs, most_bytes=MAX_TOTAL_BYTES - len(content))
    used = sum(kept.stat().st_size for kept in folder.glob("*.glb"))
    if used + len(content) > MAX_TOTAL_BYTES:
        raise TooLargeError(
            f"{used / 1e9:.1f} GB of models are kept already, of this hour or of unfinished runs.",
            "wait, or cancel runs that start from one.",
        )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return name


def find(runs: Path, name: str) -> Path:
    """Return the file of an uploaded model.

    Raises:
        NotFoundError: there is none.
    """
    path = models.folder_of(runs) / f"{name}.glb"
    if not isinstance(name, str) or not ID.fullmatch(name) or not path.is_file():
        raise NotFoundError(f"there is no model {str(name)[:40]!r}.", "upload it first.")
    path.touch()
    return path.absolute()


def check_glb(content: bytes) -> None:
    """Refuse what is no binary glTF, or could harm who reads it.

    Raises:
        InputError: saying what is wrong.
        TooLargeError: it has too many bytes.
    """
    if len(content) > MAX_BYTES:
        raise TooLargeError(
            f"the model has {len(content) / 2**20:.0f} MB.", f"send at most {MAX_BYTES >> 20} MB."
        )
    try:
        gltf, num_bytes, binary = _read(content)
        _check_references(gltf)
        _check_accessors(gltf, num_bytes)
        _check_nodes(gltf)
        _check_pictures(gltf, binary)
    except _Broken as error:
        raise InputError(f"the model is refused: {error}.", FIX) from None
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError):
        raise InputError("the model is refused: it is broken.", FIX) from None


class _Broken(Exception):
    """Why a model is refused."""


def _read(content: bytes) -> tuple[dict[str, Any], int, memoryview]:
    """Return the JSON chunk, the length of the BIN chunk, and that chunk."""
    if len(content) < HEADER.size + CHUNK.size or content[:4] != b"glTF":
        raise _Broken("it is no binary glTF (.glb)")
    _, version, length = HEADER.unpack_from(content)
    if version != 2 or length != len(content):
        raise _Broken(f"it is glTF {version} with {length} bytes, not 2 with {len(content)}")
    view, chunks, place = memoryview(content), [], HEADER.size
    while place < length:
        size, kind = CHUNK.unpack_from(content, place)
        place += CHUNK.size
        if place + size > length:
            raise _Broken("a chunk is longer than the file")
        chunks.append((kind, view[place : place + size]))
        place += size
    if [kind for kind, _ in chunks] not in ([b"JSON"], [b"JSON", b"BIN\0"]):
        raise _Broken("it must have a JSON chunk and at most one of bytes")
    gltf = json.loads(bytes(chunks[0][1]))
    if not isinstance(gltf, dict):
        raise _Broken("its JSON is no object")
    binary = chunks[1][1] if len(chunks) > 1 else view[:0]
    return gltf, len(binary), binary


def _list(gltf: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    items = gltf.get(name, [])
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise _Broken(f"its {name} are no list of objects")
    if len(items) > MAX_ITEMS:
        raise _Broken(f"it has {len(items)} {name}")
    return items


def _check_references(gltf: Mapping[str, Any]) -> None:
    """Refuse addresses outside of the file, and extensions that change how geometry is stored."""
    for name in ("buffers", "images"):
        for item in _list(gltf, name):
            if "uri" in item:
                raise _Broken(f"its {name} have addresses, they must be packed")
    if len(_list(gltf, "buffers")) > 1:
        raise _Broken("it has more than one buffer")
    used = [*gltf.get("extensionsRequired", []), *gltf.get("extensionsUsed", [])]
    for name in used:
        if "draco" in str(name).lower() or "meshopt" in str(name).lower():
            raise _Broken(f"its geometry is compressed ({str(name)[:60]})")


def _whole(value: object, name: str) -> int:
    if type(value) is not int or value < 0:
        raise _Broken(f"{name} must be a whole number, not below 0")
    return value


def _check_accessors(gltf: Mapping[str, Any], num_bytes: int) -> None:
    """Refuse accessors and their views that lie outside of the bytes that are there."""
    views = _list(gltf, "bufferViews")
    for view in views:
        begin = _whole(view.get("byteOffset", 0), "byteOffset")
        if _whole(view["buffer"], "buffer") != 0:
            raise _Broken("a view is of a buffer that is not there")
        if begin + _whole(view["byteLength"], "byteLength") > num_bytes:
            raise _Broken("a view ends behind the file")
    for accessor in _list(gltf, "accessors"):
        if "bufferView" not in accessor or "sparse" in accessor:
            raise _Broken("an accessor has no bytes of its own")
        view = views[_whole(accessor["bufferView"], "bufferView")]
        item = COMPONENT_BYTES[accessor["componentType"]] * COMPONENTS[accessor["type"]]
        stride = _whole(view.get("byteStride", item), "byteStride")
        count = _whole(accessor["count"], "count")
        begin = _whole(accessor.get("byteOffset", 0), "byteOffset")
        if stride < item or (count and begin + (count - 1) * stride + item > view["byteLength"]):
            raise _Broken("an accessor ends behind its bytes")


def _check_nodes(gltf: Mapping[str, Any]) -> None:
    """Refuse nodes that come twice, and too many triangles; a mesh may come in many nodes."""
    nodes, meshes, accessors = (_list(gltf, name) for name in ("nodes", "meshes", "accessors"))
    seen: set[int] = set()
    for node in nodes:
        for child in node.get("children", []):
            if _whole(child, "a child") >= len(nodes) or child in seen:
                raise _Broken("its nodes are no tree")
            seen.add(child)
    _check_roots(nodes, seen)
    sizes = [
        sum(_corners(part, accessors) for part in _list(mesh, "primitives")) for mesh in meshes
    ]
    corners = sum(sizes[_whole(node["mesh"], "mesh")] for node in nodes if "mesh" in node)
    if corners == 0:
        raise _Broken("it has no triangles")
    if corners > 3 * MAX_TRIANGLES:
        raise _Broken(f"it has {corners // 3} triangles, at most {MAX_TRIANGLES} are taken")


def _check_roots(nodes: Sequence[Mapping[str, Any]], children: set[int]) -> None:
    """Refuse a ring of nodes: each must be reached from one that is no child."""
    open_nodes = [index for index in range(len(nodes)) if index not in children]
    reached = 0
    while open_nodes:
        reached += 1
        open_nodes += nodes[open_nodes.pop()].get("children", [])
    if reached != len(nodes):
        raise _Broken("its nodes are no tree")


def _corners(part: Mapping[str, Any], accessors: Sequence[Mapping[str, Any]]) -> int:
    index = part["indices"] if "indices" in part else part["attributes"]["POSITION"]
    return accessors[_whole(index, "an accessor")]["count"]


def _check_pictures(gltf: Mapping[str, Any], binary: memoryview) -> None:
    """Refuse pictures that would take much more memory than they have bytes."""
    from PIL import Image

    pixels = 0
    views = _list(gltf, "bufferViews")
    for picture in _list(gltf, "images"):
        view = views[_whole(picture["bufferView"], "bufferView")]
        begin = view.get("byteOffset", 0)
        content = io.BytesIO(binary[begin : begin + view["byteLength"]])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                with Image.open(content, formats=PICTURES) as image:  # reads the header alone
                    pixels += image.width * image.height
            except (OSError, SyntaxError, Image.DecompressionBombError, Warning):
                raise _Broken(f"a picture is none of {', '.join(PICTURES)}, or too large") from None
        if pixels > MAX_PIXELS:
            raise _Broken(f"its pictures have more than {MAX_PIXELS} pixels")
