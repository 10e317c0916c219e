"""Downloading through the real hub client, from a hub of our own on this machine."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SCRIPT = """
import sys
from dreamlab.core.errors import MissingError
from dreamlab.priors.hub import locate
try:
    print("FOLDER", locate("model", sys.argv[2:], prefer_half=sys.argv[1] == "half"))
except MissingError as error:
    print("MISSING", error)
"""


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that a download needs; repositories are folders of `root`."""

    root: Path

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, send_body: bool) -> None:
        parts = unquote(self.path.partition("?")[0]).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.describe(self.root / parts[2] / parts[3], "/".join(parts[2:4]), parts[4:])
        elif len(parts) > 4 and parts[2] == "resolve":
            file = self.root.joinpath(*parts[:2], *parts[4:])
            if file.is_file():
                self.reply(200, file.read_bytes(), send_body)
            elif not self.root.joinpath(*parts[:2]).is_dir():
                self.refuse("/".join(parts[:2]))
            else:
                self.reply(404, b"", send_body, error="EntryNotFound")
        else:
            self.reply(404, b"", send_body)

    def describe(self, folder: Path, name: str, rest: list[str]) -> None:
        if not folder.is_dir():
            self.refuse(name)
            return
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        if rest[:1] == ["tree"]:
            content = [
                {
                    "type": "file",
                    "path": str(p.relative_to(folder)),
                    "size": p.stat().st_size,
                    "oid": hashlib.sha1(p.read_bytes()).hexdigest(),
                }
                for p in files
            ]
        else:
            siblings = [{"rfilename": str(p.relative_to(folder))} for p in files]
            content = {"id": name, "sha": COMMIT, "siblings": siblings}
        self.reply(200, json.dumps(content).encode(), True)

    def refuse(self, name: str) -> None:
        """Say that there is no such repository, or that its licence was not accepted."""
        gated = "gated" in name
        error = "GatedRepo" if gated else "RepoNotFound"
        self.reply(403 if gated else 404, b"{}", self.command == "GET", error=error)

    def reply(self, status: int, body: bytes, send_body: bool, error: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
        self.end_headers()
        if send_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(sd1_folder: Path, tmp_path: Path):
    """Serve one repository, `mirror/model`, with full and half-precision weights and a pickle."""
    model = tmp_path / "served" / "mirror" / "model"
    shutil.copytree(sd1_folder, model)
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        shutil.copy(model / part / f"{stem}.safetensors", model / part / f"{stem}.fp16.safetensors")
        (model / part / f"{stem}.bin").write_bytes(b"a pickle")
    handler = type("Served", (Hub,), {"root": tmp_path / "served"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(hub: str, home: Path, precision: str, *sources: str) -> str:
    environment = os.environ | {
        "HF_ENDPOINT": hub,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    command = [sys.executable, "-c", SCRIPT, precision, *sources]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "unwanted"), [("full", ".fp16."), ("half", "el.safetensors")]
)
def test_the_first_live_mirror_is_downloaded_with_the_weights_that_are_needed_only(
    hub: str, tmp_path: Path, precision: str, unwanted: str
):
    said = ask(hub, tmp_path / "home", precision, "gone/model", "mirror/model", "never/asked")
    kind, _, folder = said.partition(" ")
    assert kind == "FOLDER", said
    files = [p.name for p in Path(folder).rglob("*") if p.is_file()]
    assert sum(name.endswith(".safetensors") for name in files) == 3
    assert not any(unwanted in name or name.endswith(".bin") for name in files)
    again = ask("http://127.0.0.1:9", tmp_path / "home", precision, "gone/model", "mirror/model")
    assert again == said


@pytest.mark.slow
def test_models_without_half_precision_files_come_in_full(hub: str, tmp_path: Path):
    for file in (tmp_path / "served").rglob("*.fp16.*"):
        file.unlink()
    assert ask(hub, tmp_path / "home", "half", "mirror/model").startswith("FOLDER")


@pytest.mark.slow
def test_a_pipeline_beside_diffusers_comes_with_the_parts_that_its_adapter_reads(
    hub: str, tmp_path: Path
):
    repository = tmp_path / "served" / "mirror" / "model"
    index = json.loads((repository / "model_index.json").read_text())
    index |= {"_class_name": "MVDreamPipeline", "unet": ["mv_unet", "MultiViewUNetModel"]}
    (repository / "model_index.json").write_text(json.dumps(index))
    (repository / "unet" / "mv_unet.py").write_text("raise SystemExit('code of a repository ran')")
    said = ask(hub, tmp_path / "home", "full", "mirror/model")
    kind, _, folder = said.partition(" ")
    assert kind == "FOLDER", said
    names = {p.suffix for p in Path(folder).rglob("*") if p.is_file()}
    assert ".safetensors" in names and not names & {".py", ".bin"}


@pytest.mark.slow
def test_every_refusal_is_told_with_its_reason(hub: str, tmp_path: Path):
    for file in (tmp_path / "served").rglob("*.safetensors"):
        file.unlink()
    said = ask(hub, tmp_path / "home", "full", "gone/model", "gated/model", "mirror/model")
    assert said.startswith("MISSING")
    assert "gone/model: there is no such repository" in said
    assert "gated/model: its owner asks you to accept a licence" in said
    assert "mirror/model: " in said and "safetensors" in said
