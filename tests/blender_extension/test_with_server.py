"""Claims about the extension in Blender with a real server: prompt in, model in the scene."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from blender_child import need_blender, run_blender
from dreamlab_extension.client import Client, ServerError

from dreamlab.jobs.extension import write_extension

pytestmark = [pytest.mark.blender, pytest.mark.slow]

SCRIPT = Path(__file__).with_name("in_blender.py")
SHORT = {
    "toybox": {
        "stages.gaussians.steps": 4,
        "stages.gaussians.milestones": [{"until": 1.0, "size": 16}],
        "stages.gaussians.representation.count": 500,
        "stages.gaussians.representation.radius": 0.5,
        "stages.gaussians.representation.opacity": 0.5,
        "stages.mesh.steps": 2,
        "stages.mesh.milestones": [{"until": 1.0, "size": 16}],
        "stages.mesh.representation.resolution": 12,
        "export.resolution": 48,
        "export.max_faces": 1500,
        "export.texture_size": 256,
        "export.unwrap": "box",
    },
    "toybox-texture": {
        "stages.texture.steps": 4,
        "stages.texture.milestones": [{"until": 1.0, "size": 16}],
        "export.texture_size": 256,
        "export.unwrap": "box",
    },
}
"""Settings that bring runs down to seconds."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    need_blender()
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "dreamlab", "serve", str(folder / "runs")]
    with (folder / "said.txt").open("wb") as said:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait(address, process, folder / "said.txt")
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)


def _wait(address: str, process: subprocess.Popen, said: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            Client(address).health()
            return
        except ServerError as error:
            assert process.poll() is None and time.monotonic() < deadline, (error, said.read_text())
            time.sleep(0.2)


def test_what_a_real_server_refuses_is_said_in_its_words(server, tmp_path):
    client = Client(server)
    with pytest.raises(ServerError, match="tyobox") as caught:
        client.submit(prompt="a red mushroom", recipe="tyobox", quality="draft", seed=0)
    assert caught.value.status == 400 and "toybox" in caught.value.fix
    with pytest.raises(ServerError, match="no-such-run") as caught:
        client.job("no-such-run")
    assert caught.value.status == 404 and caught.value.fix
    broken = tmp_path / "model.glb"
    broken.write_bytes(b"no model")
    with pytest.raises(ServerError, match="refused") as caught:
        client.upload_model(broken)
    assert caught.value.status == 400 and caught.value.fix
    with pytest.raises(ServerError, match="model") as caught:
        client.submit(prompt="x", recipe="toybox-texture", seed=0, model="0" * 32)
    assert not caught.value.may_pass and caught.value.fix


def test_a_prompt_becomes_a_model_and_a_cube_is_refined_in_its_place(server, tmp_path):
    report = run_blender(
        SCRIPT,
        "from_end_to_end",
        str(write_extension(tmp_path)),
        server,
        json.dumps(SHORT),
        environment={"BLENDER_USER_RESOURCES": str(tmp_path / "home")},
        limit=900,
    )
    assert report["problem"] is None
    assert {"toybox", "toybox-texture"} <= set(report["recipes"])
    assert "running" in report["seen"] and report["pictures"]
    (model,) = report["generated"]
    assert model["location"] == [1.0, 2.0, 3.0] and model["dimensions"][2] == pytest.approx(1.0)
    assert model["bounds"][0][2] == pytest.approx(3.0, abs=1e-5)
    assert model["is_smooth"] and model["is_packed"] and model["metallic"] == 0
    assert model["origin"]["dreamlab_prompt"] == "a red mushroom"
    assert model["origin"]["dreamlab_seed"] == 5
    (refined,) = report["refined"]
    before = report["before"]
    assert np.allclose(refined["matrix"], before["matrix"], atol=1e-6)
    assert np.allclose(refined["bounds"], before["bounds"], atol=1e-3), "same place and size"
    assert refined["is_packed"] and report["cube"]["is_hidden"]
    assert report["history"] == [["a red cube", "done"], ["a red mushroom", "done"]]
