"""Claims about requests that nobody would think of: none of them breaks the server."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error

from dreamlab.web.server import ServerSettings, build_app
from dreamlab.web.service import Service

QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
HEADERS = {"host": "127.0.0.1:7860"}


def fuzz(service: Service, new_run, examples: int, *, leave_out: tuple[str, ...] = ()) -> int:
    """Send requests that fit the description, and some that do not, to every route."""
    app = build_app(service, ServerSettings())
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HEADERS)
    routes = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path in leave_out:
            continue
        name = new_run(state="done").root.name  # some requests are about a run that is there

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=QUIET,
            phases=[Phase.explicit, Phase.generate],
        )
        @schemathesis.given(case=operation.as_strategy())
        def send(case, name=name):
            if "name" in (case.path_parameters or {}) and len(str(case.path_parameters)) % 2:
                case.path_parameters["name"] = name
            answer = case.call(headers=HEADERS)
            case.validate_response(answer, checks=[not_a_server_error])

        send()
        routes += 1
    return routes


AT_DESK = ("/api/v1/check", "/api/v1/jobs", "/api/v1/jobs/{name}/rerun")


def test_no_request_breaks_the_server(service, new_run):
    assert fuzz(service, new_run, 6) == 16


@pytest.mark.slow
def test_no_request_of_many_breaks_the_server(service, new_run):
    fuzz(service, new_run, 150)
