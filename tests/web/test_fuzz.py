"""Claims about requests that nobody would think of: none of them breaks the server."""

from itertools import count

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

HEADERS = {"host": "127.0.0.1:7860"}
ROUTES = 17


def fuzz(app, new_run, examples: int, modes=tuple(GenerationMode), methods="") -> int:
    """Send routes requests that fit their description (positive) or do not (negative).

    Returns:
        How many routes there are.
    """
    bounded = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=HEADERS)
    found = [found.ok() for found in schema.get_all_operations()]
    operations = [route for route in found if route.method.upper() in methods or not methods]
    for operation in operations:
        for mode in modes:
            send = sender(operation.as_strategy(generation_mode=mode), new_run(state="done"))
            try:
                bounded(send)()
            except Unsatisfiable:  # nothing that is sent there could be wrong
                assert mode is GenerationMode.NEGATIVE
    return len(operations)


def sender(strategy, run):
    """A test that sends what a strategy draws, every other time about a run that is there."""
    sent = count()

    @given(case=strategy)
    def send(case):
        if next(sent) % 2 == 0 and "name" in case.path_parameters:
            case.path_parameters["name"] = run.root.name
        answer = case.call(headers=HEADERS)
        case.validate_response(answer, checks=[not_a_server_error])

    return send


def test_no_request_breaks_the_server(web, new_run):
    assert fuzz(web.app, new_run, 4, [GenerationMode.POSITIVE], methods="GET DELETE") == ROUTES - 7


@pytest.mark.slow
def test_no_request_of_many_breaks_the_server(web, new_run):
    assert fuzz(web.app, new_run, 40) == ROUTES
