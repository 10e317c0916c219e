"""Claims about models that users upload: what a reader could be harmed by is refused."""

import copy
import io
import pickle
import struct
import zipfile
import zlib
from functools import partial

import pytest
from glb_bytes import TRIANGLE, glb, gltf
from PIL import Image

from dreamlab.core.errors import InputError
from dreamlab.jobs.queue import models
from dreamlab.web import uploads
from dreamlab.web.errors import NotFoundError, TooLargeError


def changed(**parts) -> bytes:
    return glb(gltf() | parts)


def with_accessor(**parts) -> bytes:
    content = copy.deepcopy(gltf())
    content["accessors"][0] |= parts
    return glb(content)


def with_picture(picture: bytes) -> bytes:
    content = copy.deepcopy(gltf())
    content["bufferViews"].append(
        {"buffer": 0, "byteOffset": len(TRIANGLE), "byteLength": len(picture)}
    )
    content["images"] = [{"bufferView": 1, "mimeType": "image/png"}]
    return glb(content, TRIANGLE + picture)


def png(width: int, height: int) -> bytes:
    """A picture that says it is so large; its pixels are not there."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IHDR" + head
    chunk = struct.pack(">I", len(head)) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + b"\x35\xaf\x06\x1e"


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.glb", bytes(10**7))
    return file.getvalue()


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('unpickled')",))


def test_a_model_is_kept_once_and_found_by_its_id(tmp_path):
    first, again = (uploads.keep(tmp_path, glb()) for _ in range(2))
    assert first == again
    assert uploads.find(tmp_path, first).read_bytes() == glb()
    assert len(list((tmp_path / models.FOLDER).iterdir())) == 1


def test_what_other_programs_write_is_taken(tmp_path):
    import trimesh

    box = trimesh.creation.box()
    box.visual = trimesh.visual.TextureVisuals(
        uv=box.vertices[:, :2], image=Image.new("RGB", (8, 8), "red")
    )
    scene = trimesh.Scene([box, box.copy().apply_translation([2, 0, 0])])
    uploads.check_glb(scene.export(file_type="glb"))
    uploads.check_glb(box.export(file_type="glb"))


NESTED = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
HARMFUL = {
    "nothing": b"",
    "text": b"hello" * 10,
    "a zip bomb": zip_bomb(),
    "a pickle": pickle.dumps(Evil()),
    "a zip bomb that says it is a model": b"glTF" + zip_bomb(),
    "a wrong length": glb()[:-4],
    "another version": b"glTF" + struct.pack("<I", 1) + glb()[8:],
    "a chunk that ends behind the file": glb()[:12] + struct.pack("<I", 2**31) + glb()[16:],
    "JSON that is none": glb(b"{"),
    "a list": glb(b"[]"),
    "nesting": glb(NESTED),
    "huge numbers": glb(b'{"accessors": [{"count": 1e999}]}'),
    "another file": changed(buffers=[{"byteLength": 36, "uri": "/etc/passwd"}]),
    "an address": changed(images=[{"uri": "http://169.254.169.254/"}]),
    "packed as text": changed(images=[{"uri": "data:image/png;base64,AAAA"}]),
    "two buffers": changed(buffers=[{"byteLength": 36}, {"byteLength": 36}]),
    "compression": changed(extensionsRequired=["KHR_draco_mesh_compression"]),
    "more numbers than bytes": with_accessor(count=10**9),
    "numbers before the bytes": with_accessor(byteOffset=-36),
    "numbers that are not there": glb(gltf() | {"accessors": [{"count": 10**9, "type": "VEC3"}]}),
    "sparse numbers": with_accessor(sparse={"count": 1}),
    "a type that is none": with_accessor(type="VEC9"),
    "a view of nothing": changed(bufferViews=[{"buffer": 0, "byteLength": 10**9}]),
    "a ring of nodes": changed(nodes=[{"mesh": 0, "children": [1]}, {"children": [0]}]),
    "a node in two places": changed(
        nodes=[{"children": [2]}, {"children": [2]}, {"mesh": 0}], scenes=[{"nodes": [0, 1]}]
    ),
    "a child that is not there": changed(nodes=[{"mesh": 0, "children": [7]}]),
    "no triangles": changed(nodes=[{}]),
    "an enormous picture": with_picture(png(60_000, 60_000)),
    "a large picture": with_picture(png(9000, 9000)),
    "a picture that is none": with_picture(b"GIF89a" + bytes(20)),
    "nodes as a mapping": changed(nodes={"0": {}}),
    "too many nodes": changed(nodes=[{"mesh": 0}] * (uploads.MAX_ITEMS + 1)),
    "a mesh that is not there": changed(nodes=[{"mesh": 3}]),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_what_could_harm_a_reader_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="refused"):
        uploads.keep(tmp_path, HARMFUL[name])
    assert not (tmp_path / models.FOLDER).exists()


def test_a_mesh_that_is_repeated_counts_every_time(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_TRIANGLES", 10)
    repeated = partial(changed, scenes=[{"nodes": [0]}])
    uploads.check_glb(repeated(nodes=[{"mesh": 0}] * 10))
    with pytest.raises(InputError, match="11 triangles"):
        uploads.check_glb(repeated(nodes=[{"mesh": 0}] * 11))


def test_there_is_an_end_to_the_room_for_models(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_TOTAL_BYTES", 2 * len(glb()))
    uploads.keep(tmp_path, glb())
    other = copy.deepcopy(gltf()) | {"asset": {"version": "2.0", "copyright": "x"}}
    with pytest.raises(TooLargeError, match="kept already"):
        uploads.keep(tmp_path, glb(other))
    monkeypatch.setattr(uploads, "MAX_BYTES", 10)
    with pytest.raises(TooLargeError, match="MB"):
        uploads.check_glb(glb())


@pytest.mark.parametrize("name", ["", "..", "../config", "a" * 32, "A" * 32, "/etc/passwd", "\0"])
def test_an_id_that_was_not_given_out_finds_nothing(tmp_path, name):
    uploads.keep(tmp_path, glb())
    with pytest.raises(NotFoundError):
        uploads.find(tmp_path, name)


def test_the_bytes_that_are_refused_are_never_unpickled():
    with pytest.raises(SystemExit):
        pickle.loads(HARMFUL["a pickle"])  # it would have worked
