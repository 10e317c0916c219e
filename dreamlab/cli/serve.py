"""`dreamlab serve`: the page and the HTTP API over a folder of runs."""

import importlib.util
import secrets
from pathlib import Path
from typing import Annotated

import typer

from dreamlab.cli.options import WorkersOption
from dreamlab.cli.output import JsonOption, QuietOption, output_of, reported
from dreamlab.core.errors import InputError, MissingError

EXAMPLES = """
Examples:

  dreamlab serve

  dreamlab serve --listen --token new

  dreamlab serve /data/runs --listen --auth anna:a-long-password --queue-max 20
"""
EVERYWHERE = "0.0.0.0"
NEW = "new"
TOKEN_BYTES = 24


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("serve", epilog=EXAMPLES)(serve)


def serve(
    runs: Annotated[
        Path, typer.Argument(metavar="[RUNS]", help="Where run folders lie and are made.")
    ] = Path("runs"),
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Its port.")] = 7860,
    listen: Annotated[
        bool, typer.Option("--listen", help=f"Be reached from other machines: --host {EVERYWHERE}.")
    ] = False,
    auth: Annotated[
        str | None,
        typer.Option(
            "--auth",
            metavar="USER:PASSWORD",
            envvar="DREAMLAB_AUTH",
            show_envvar=True,
            help="Ask for these.",
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TOKEN",
            envvar="DREAMLAB_TOKEN",
            show_envvar=True,
            help=f"Ask programs for this; `{NEW}` makes one and shows it.",
        ),
    ] = None,
    i_know: Annotated[
        bool,
        typer.Option("--i-know", help="Let everybody in who reaches the address, without either."),
    ] = False,
    queue_max: Annotated[
        int | None, typer.Option("--queue-max", min=1, metavar="N", help="Most runs that may wait.")
    ] = None,
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="PATH", help="What a proxy puts before addresses.")
    ] = "",
    workers: WorkersOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Serve the web page and the HTTP API, and carry out the queue, until Ctrl-C.

    If no `dreamlab work` is at work on the folder, one is started; it goes on when the server is
    killed, and Ctrl-C ends it: workers write checkpoints and hand their runs back to the queue.
    """
    output = output_of(json, quiet)
    with reported(output):
        _check_installed()
        from dreamlab.jobs.queue.presence import Keeper
        from dreamlab.web.security import Access
        from dreamlab.web.server import ServerSettings, bind, build_app
        from dreamlab.web.server import serve as serve_app
        from dreamlab.web.service import Service

        user, password = _split(auth)
        if token == NEW:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            output.note(f"token: {token}")
        address = EVERYWHERE if listen else host
        access = Access(address, token, user, password, is_open=i_know)
        settings = ServerSettings(access, port, root_path)
        listener = bind(settings)
        service = Service(runs, queue_max=queue_max, root_path=root_path)
        app = build_app(service, settings)
        keeper = Keeper(service.runs, workers=workers)
        url = f"http://{'127.0.0.1' if address == EVERYWHERE else address}:{port}"
        output.event("serve", url=url, folder=str(service.runs))
        output.note(f"{url} shows {service.runs}; Ctrl-C ends it")
        keeper.start()
        try:
            serve_app(app, listener)
        finally:
            if keeper.process is not None:
                output.note("waiting for the runs at work to write their checkpoints")
            keeper.end()
            service.close()


def _check_installed() -> None:
    for name in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise MissingError(
                f"the server needs {name}.", 'install it, in the clone: pip install -e ".[web]".'
            )


def _split(auth: str | None) -> tuple[str | None, str | None]:
    if auth is None:
        return None, None
    user, colon, password = auth.partition(":")
    if not (user and colon and password):
        raise InputError("--auth is not of the form USER:PASSWORD.", "give both, with a colon.")
    return user, password
