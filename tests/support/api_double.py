"""A server that answers like the HTTP API, on a real socket, for tests of those who ask it.

A run goes one step further each time it is looked at: queued, running (twice), done.
"""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from local_server import LocalServer

RECIPES = [
    {"name": "toybox", "summary": "a toy", "qualities": ["draft", "standard"]},
    {"name": "toybox-texture", "summary": "colours for a mesh", "qualities": ["draft"]},
]
COURSE = [("queued", 0.0), ("running", 0.25), ("running", 0.75), ("done", 1.0)]


class Refusal(Exception):
    def __init__(self, status: int, message: str, fix: str) -> None:
        super().__init__(status, message, fix)
        self.status, self.message, self.fix = status, message, fix


class ApiDouble(LocalServer):
    """`with ApiDouble(glb) as server: server.address`."""

    def __init__(
        self,
        glb: bytes | Callable[[bytes | None], bytes] = b"glTF",
        picture: bytes = b"RIFF",
        token: str = "",
    ) -> None:
        """Serve `glb` as every run's model, or what it makes of the last model, if any."""
        self.glb, self.picture, self.token = glb, picture, token
        self.jobs: dict[str, dict[str, Any]] = {}
        self.models: list[bytes] = []
        self.asked: list[tuple[str, str]] = []
        """Method and path of every request."""
        self.headers: list[dict[str, str]] = []
        self.course = list(COURSE)
        self.broken: int = 0
        """So many of the next requests fail with status 503."""
        self.opening = {f"Bearer {token}"}
        """Headers that show the token, or something as good."""
        self.reason, self.fix = "", ""
        self.redirect = ""
        """Another server that every request is sent to."""
        self._looks: dict[str, int] = {}

    def _serve(self, request: BaseHTTPRequestHandler, method: str) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        self.asked.append((method, request.path))
        self.headers.append(dict(request.headers))
        try:
            status, content = 200, self._answer(method, request, body)
            if method == "POST" and request.path.split("/")[-1] in ("jobs", "models"):
                status = 201
        except Refusal as refusal:
            said = {"message": refusal.message, "fix": refusal.fix}
            status, content = refusal.status, {"error": said}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        request.send_response(307 if self.redirect else status)
        if self.redirect:
            request.send_header("Location", self.redirect + request.path)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def _answer(self, method: str, request: BaseHTTPRequestHandler, body: bytes) -> Any:
        if self.broken > 0:
            self.broken -= 1
            raise Refusal(503, "The server is busy.", "Wait.")
        if self.token and request.headers.get("Authorization") not in self.opening:
            raise Refusal(401, "The token is missing or wrong.", "Give the server's token.")
        parts = urlsplit(request.path)
        place = [unquote(part) for part in parts.path.removeprefix("/api/v1/").split("/")]
        match [method, *place]:
            case ["GET", "health"]:
                return {"name": "dreamlab", "version": "1", "api": 1, "running": 0, "queued": 0}
            case ["GET", "recipes"]:
                return RECIPES
            case ["GET", "jobs"]:
                newest = list(reversed(self.jobs.values()))
                limit = int(parse_qs(parts.query)["limit"][0])
                return {"total": len(newest), "jobs": newest[:limit]}
            case ["POST", "jobs"]:
                return self._submit(json.loads(body))
            case ["POST", "models"]:
                self.models.append(body)
                return {"id": f"model-{len(self.models)}"}
            case ["GET", "jobs", name]:
                return self._look(self._job(name))
            case ["GET", "jobs", name, "files"]:
                paths = ["config.yaml", "previews/000100.webp"]
                if self._job(name)["state"] in ("done", "stopped"):
                    paths.append("exports/model.glb")
                return [{"path": path} for path in paths]
            case ["GET", "jobs", name, "files", *path]:
                self._job(name)
                if not path[-1].endswith(".glb"):
                    return self.picture
                if isinstance(self.glb, bytes):
                    return self.glb
                return self.glb(self.models[-1] if self.models else None)
            case ["POST", "jobs", name, action]:
                job = self._job(name)
                job["state"] = {"stop": "stopped", "cancel": "cancelled"}[action]
                self._looks[name] = len(self.course)
                return job
        raise Refusal(404, f"There is nothing at {request.path}.", "Correct the path.")

    def _submit(self, fields: dict[str, Any]) -> dict[str, Any]:
        if fields["recipe"] not in [recipe["name"] for recipe in RECIPES]:
            raise Refusal(400, f"There is no recipe {fields['recipe']!r}.", "Did you mean toybox?")
        name = f"run-{len(self.jobs)}"
        self.jobs[name] = {
            **fields,
            "name": name,
            "state": "queued",
            "phase": "",
            "progress": 0.0,
            "eta_s": None,
            "reason": "",
            "fix": "",
        }
        return self.jobs[name]

    def _job(self, name: str) -> dict[str, Any]:
        if name not in self.jobs:
            raise Refusal(404, f"There is no run {name}.", "Look at the history.")
        return self.jobs[name]

    def _look(self, job: dict[str, Any]) -> dict[str, Any]:
        look = self._looks.get(job["name"], 0)
        if look < len(self.course):
            job["state"], job["progress"] = self.course[look]
            job["phase"] = "mesh" if job["state"] == "running" else ""
            if job["state"] == "failed":
                job["reason"], job["fix"] = self.reason, self.fix
            self._looks[job["name"]] = look + 1
        return dict(job)
