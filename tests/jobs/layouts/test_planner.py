"""Claims about layouts from a language model, with a real server on this machine."""

import json
import time

import pytest
from chat_double import ChatDouble, said, send

from dreamlab.core.errors import InputError, MissingError
from dreamlab.jobs.layouts import chat
from dreamlab.jobs.layouts.chat import Endpoint, key_from
from dreamlab.jobs.layouts.planner import plan, rules
from dreamlab.jobs.layouts.schema import layout_schema

PROMPT = "a cat on a table"
GOOD = {
    "boxes": [
        {"prompt": "a cat", "center": [0, 0, 0.4], "size": [0.5, 0.5, 0.6]},
        {"prompt": "a table 🍄", "center": [0, 0, -0.4], "size": [1.2, 1.2, 1]},
    ]
}
WRONG = json.dumps({"boxes": [{"prompt": "a cat", "center": [0, 0, 3], "size": [1, 1, 1]}]})
KEY = "sk-0123456789"


def ask(*answers, key: str | None = None, time_limit: float = 10.0):
    """Plan with a server that gives these answers; return the layout and the server."""
    with ChatDouble(*answers) as server:
        return plan(PROMPT, Endpoint(server.url, "tiny", key, time_limit)), server


def refused(*answers, **settings) -> tuple[InputError, ChatDouble]:
    with ChatDouble(*answers) as server, pytest.raises(InputError) as caught:
        settings = {"key": None, "time_limit": 10.0} | settings
        plan(PROMPT, Endpoint(server.url, "tiny", **settings))
    return caught.value, server


def test_a_good_answer_is_the_layout_and_the_prompt_stays_that_of_the_user():
    layout, server = ask(json.dumps({**GOOD, "prompt": "something else"}))
    assert [box.prompt for box in layout.boxes] == ["a cat", "a table 🍄"]
    assert layout.boxes[1].size == (1.2, 1.2, 1.0) and layout.prompt == PROMPT
    assert len(server.asked) == 1 and server.paths == ["/v1/chat/completions"]


def test_the_model_is_told_the_schema_and_the_prompt():
    _, server = ask(json.dumps(GOOD))
    (asked,) = server.asked
    assert asked["model"] == "tiny" and asked["stream"] is False
    system, user = asked["messages"]
    assert (
        system == {"role": "system", "content": rules()} and json.dumps(layout_schema()) in rules()
    )
    assert user == {"role": "user", "content": PROMPT}
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    "answer",
    [
        f"Sure! Here {{is}} it:\n```json\n{json.dumps(GOOD, indent=1)}\n```\nEnjoy.",
        f'{{"thought": {{"a": 1}}}} {json.dumps(GOOD)} {WRONG}',
        json.dumps(GOOD, indent="\t"),
    ],
)
def test_the_first_object_with_boxes_counts_whatever_stands_around_it(answer: str):
    layout, server = ask(answer)
    assert len(layout) == 2 and len(server.asked) == 1


def test_what_is_refused_is_asked_for_once_more_with_the_reason():
    layout, server = ask(WRONG, json.dumps(GOOD))
    assert len(layout) == 2 and len(server.asked) == 2
    *before, answer, again = server.asked[1]["messages"]
    assert before == server.asked[0]["messages"]
    assert answer == {"role": "assistant", "content": WRONG}
    assert again["role"] == "user" and "lie in the cube" in again["content"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (WRONG, "lie in the cube"),
        ('{"boxes": []}', "boxes must name 1 to 12"),
        ("I cannot do that.", "no JSON object"),
        ('{"boxes": [{"prompt": "${oc.env:HOME}"}]}', "interpolation"),
        ('{"objects": 3}', "unknown key"),
        ("{" * 5000 + '"a":' * 5000, "no JSON object"),
        ('{"a":' * 5000, "no JSON object"),
    ],
)
def test_two_useless_answers_end_it(answer: str, message: str):
    error, server = refused(answer)
    assert len(server.asked) == 2
    assert error.message.startswith("tiny gave no layout, twice") and message in error.message
    assert "dreamlab layout" in error.fix


def test_a_server_that_hangs_or_drips_is_left_after_the_time_limit():
    def hang(server, request):
        server.over.wait(5)

    def drip(server, request):
        request.send_response(200)
        request.end_headers()
        while not server.over.wait(0.05):
            request.wfile.write(b" ")

    def drip_headers(server, request):
        request.send_response(200)
        request.flush_headers()
        while not server.over.wait(0.05):
            request.wfile.write(b"X")

    for behaviour in (hang, drip, drip_headers):
        begin = time.perf_counter()
        error, server = refused(behaviour, time_limit=0.4)
        assert "did not answer within 0.4 s" in error.message and "--time-limit" in error.fix
        assert time.perf_counter() - begin < 4 and len(server.asked) == 1


def test_a_huge_answer_is_not_read_to_its_end():
    sent = []

    def flood(server, request):
        request.send_response(200)
        request.end_headers()
        while len(sent) < 1000:
            request.wfile.write(b"x" * 100_000)
            sent.append(1)

    error, _ = refused(flood)
    assert f"larger than {chat.MAX_BYTES} bytes" in error.message
    assert len(sent) < 500


@pytest.mark.parametrize(
    "body", [b"<html>hello</html>", b"[]", b'{"choices": []}', said(""), b'{"a":' * 9000, b"\xff"]
)
def test_what_does_not_speak_the_protocol_is_named(body: bytes):
    error, _ = refused(body)
    assert "does not answer as a language model" in error.message or "gave no" in error.message


def test_a_redirect_is_not_followed():
    with ChatDouble(json.dumps(GOOD)) as elsewhere:
        for status in (301, 302, 307, 308):

            def send_on(server, request, status=status):
                send(request, status, b"", Location=elsewhere.url)

            error, _ = refused(send_on, key=KEY)
            assert f"sends on to {elsewhere.url}" in error.message
        assert elsewhere.asked == []


def test_the_key_goes_into_one_header_and_into_no_message():
    def repeat(server, request):
        told = {"error": {"message": f"no such key: {KEY}\x1b[31m"}}
        send(request, 401, json.dumps(told).encode())

    error, server = refused(repeat, key=KEY)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert "no such key: (the key)" in error.message and "\x1b" not in error.message
    assert KEY not in str(error) and KEY not in repr(Endpoint("https://x.org", "m", KEY))
    assert KEY not in json.dumps(server.asked)


def test_other_refusals_are_quoted():
    error, _ = refused(lambda _, request: send(request, 404, b'{"error": "no model tiny"}'))
    assert "status 404: no model tiny." in error.message


def test_the_whole_address_may_be_given():
    with ChatDouble(json.dumps(GOOD)) as server:
        plan(PROMPT, Endpoint(f"{server.url}/chat/completions/", "tiny"))
    assert server.paths == ["/v1/chat/completions"]


def test_nobody_there_is_said_so():
    with ChatDouble("") as server:
        url = server.url
    with pytest.raises(InputError, match="cannot be asked"):
        plan(PROMPT, Endpoint(url, "tiny"))


def test_a_plain_server_is_not_spoken_to_as_https():
    with ChatDouble(json.dumps(GOOD)) as server, pytest.raises(InputError, match="cannot be asked"):
        plan(PROMPT, Endpoint(server.url.replace("http:", "https:"), "tiny", KEY, 5.0))
    assert server.asked == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/v1", "on another computer"),
        ("http://10.0.0.1/v1", "on another computer"),
        ("http://localhost.example.org/v1", "on another computer"),
        ("ftp://127.0.0.1/v1", "no address"),
        ("file:///etc/passwd", "no address"),
        ("127.0.0.1:80", "no address"),
        ("http://127.0.0.1:99999/v1", "no address"),
        ("http://127.0.0.1/a b", "no address"),
        ("http://127.0.0.1/\r\nX: y", "no address"),
        ("https://user:secret@example.org/v1", "a user, a password"),
        ("https://example.org/v1?key=secret", "or a query"),
    ],
)
def test_addresses_that_are_none_or_not_private_are_refused(url: str, message: str):
    with pytest.raises(InputError, match=message) as caught:
        Endpoint(url, "tiny")
    assert "secret" not in str(caught.value)


def test_the_name_of_a_computer_is_not_trusted_to_be_this_one(monkeypatch):
    monkeypatch.setattr(chat, "is_loopback", lambda host: host == "127.0.0.1.nip.io")
    with ChatDouble(json.dumps(GOOD)) as server:
        monkeypatch.setattr(
            chat.http.client.HTTPConnection,
            "connect",
            lambda self: setattr(
                self,
                "sock",
                chat.socket.create_connection(("127.0.0.1", server._server.server_port)),
            ),
        )
        with pytest.raises(InputError, match="is not this machine"):
            chat.ask(Endpoint("http://127.0.0.1.nip.io/v1", "tiny", KEY), [])
    assert server.asked == []


def test_a_key_comes_from_a_variable_that_is_named(monkeypatch):
    monkeypatch.setenv("A_KEY", KEY)
    assert key_from("A_KEY") == KEY
    monkeypatch.setenv("A_KEY", "two\r\nlines")
    with pytest.raises(InputError, match="can be no key"):
        key_from("A_KEY")
    monkeypatch.delenv("A_KEY")
    with pytest.raises(MissingError, match="A_KEY is not set"):
        key_from("A_KEY")
    with pytest.raises(InputError, match="names no environment variable") as caught:
        key_from(KEY)
    assert KEY not in str(caught.value)
