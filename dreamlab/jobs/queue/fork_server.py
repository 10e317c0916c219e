"""Processes that need not import what others have imported: forks of one that waits for that.

    python -m dreamlab.jobs.queue.fork_server MODULE

imports MODULE and then, for every request on its standard input, forks a process that carries out
`python -m MODULE ARGUMENTS`: it calls `MODULE.main(ARGUMENTS)`, in a session of its own, with the
environment, the working directory, the standard input and the output that came with the request. A
worker imports torch in `main`, so all that has threads, devices or settings in the environment is
loaded after the fork, and the server stays a small process of one thread.

    supervisor (ForkServer)  ──number, arguments, two open files──▶  server  ──fork──▶  worker
                             ◀────────number, exit status───────────

Requests and answers are JSON, each a packet of a Unix socket. The server ends when nobody holds the
other end of the socket. When it dies itself, nobody learns any more how its processes end: they
lose their leash (see `worker`), hand their runs back, and count as ended.
"""

import atexit
import errno
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from itertools import count
from types import ModuleType
from typing import Any, NoReturn

from dreamlab.jobs.queue.process import Ring, phrase

COMMAND = (sys.executable, "-m", "dreamlab.jobs.queue.fork_server")
MAX_BYTES = 1 << 17
"""Of a packet; the kernel takes somewhat more, of which the other end would read a part."""
LOST = 1
"""Exit status of a process of which nobody knows how it ends."""
KILL_SECONDS = 10.0
"""In which a process that was killed is gone, unless its system keeps it."""
_servers: dict[str, "ForkServer"] = {}
_lock = threading.Lock()


def server_of(module: str) -> "ForkServer":
    """Return the server of this process that has a module imported; it is started if need be.

    Raises:
        OSError: it does not start.
    """
    with _lock:
        if module not in _servers or _servers[module].is_lost:
            _servers[module] = ForkServer(module)
        return _servers[module]


class ForkServer:
    """The end of a server at which requests are made; by any thread."""

    def __init__(self, module: str) -> None:
        self.is_lost = False
        self._environment = dict(os.environ)
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [*COMMAND, module], stdin=theirs.fileno(), start_new_session=True
            )
        self._numbers = count()
        self._processes: dict[int, ForkedProcess] = {}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        atexit.register(self.close)

    def fork(
        self, arguments: Sequence[str], output: int, environment: Mapping[str, str]
    ) -> "ForkedProcess":
        """Start a process.

        Args:
            arguments: of the module.
            output: descriptor of the file that it writes to.
            environment: of the process.

        Raises:
            OSError: the server is gone, or the request is too long.
        """
        names = environment.keys() | self._environment.keys()
        changed = {
            name: environment.get(name)
            for name in names
            if environment.get(name) != self._environment.get(name)
        }
        request = {"do": [*arguments], "environment": changed, "directory": os.getcwd()}
        number = next(self._numbers)
        theirs, leash = os.pipe()
        process = self._processes[number] = ForkedProcess(self, number, leash)
        try:
            packet = json.dumps({"number": number, **request}).encode()
            if len(packet) > MAX_BYTES:
                raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
            socket.send_fds(self._line, [packet], [theirs, output])
        except OSError:
            process.end(LOST)
            raise
        finally:
            os.close(theirs)
        return process

    def signal(self, number: int, which: int) -> None:
        """Send a signal to a process that has not ended."""
        with suppress(OSError):  # the server is gone, and with it the leash
            self._line.send(json.dumps({"number": number, "signal": which}).encode())

    def forget(self, number: int) -> None:
        """Wait no longer for the end of a process."""
        self._processes.pop(number, None)

    def close(self) -> None:
        """End the server; its processes lose their leash."""
        with suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._listener.join()
        self._line.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while packet := self._line.recv(MAX_BYTES):
                answer = json.loads(packet)
                process = self._processes.get(answer["number"])
                if process is not None:
                    process.end(answer["code"])
        self.is_lost = True
        for process in list(self._processes.values()):
            process.end(LOST, "the process that had forked its process is gone")
        self._server.wait()


class ForkedProcess:
    """A process that was forked, as a `process.Process`."""

    def __init__(self, server: ForkServer, number: int, leash: int) -> None:
        self._server, self._number, self._leash = server, number, leash
        self._code: Future[int] = Future()
        self._reason = ""
        self._ending = threading.Lock()

    def end(self, code: int, reason: str = "") -> None:
        """Note that it has ended, or that nobody will know."""
        with self._ending:
            if self._code.done():
                return
            os.close(self._leash)
            self._reason = reason or phrase(code)
            self._server.forget(self._number)
            self._code.set_result(code)

    def poll(self) -> int | None:
        return self._code.result() if self._code.done() else None

    def call_when_ended(self, ring: Ring) -> None:
        self._code.add_done_callback(lambda code: ring())

    def terminate(self) -> None:
        self._server.signal(self._number, signal.SIGTERM)

    def kill(self) -> None:
        self._server.signal(self._number, signal.SIGKILL)
        wait([self._code], KILL_SECONDS)

    def reason(self) -> str:
        return self._reason


class _Children:
    """The processes that this server has forked."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.numbers: dict[int, int] = {}  # by process id
        self.awake, self._alarm = os.pipe()
        for end in (self.awake, self._alarm):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._alarm, warn_on_full_buffer=False)

    def fork(self, request: Mapping[str, Any], files: list[int]) -> list[str] | None:
        """Fork; returns the arguments in the new process, None in this one."""
        try:
            process_id = os.fork()
        except OSError as error:
            os.write(files[1], f"{error}\n".encode())
            self.tell(request["number"], LOST)
            return None
        if process_id:
            self.numbers[process_id] = request["number"]
            return None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self.awake)
        os.close(self._alarm)
        os.setsid()  # Ctrl-C reaches the supervisor alone
        self.line.detach()  # standard input, which is replaced
        for target, file in ((0, files[0]), (1, files[1]), (2, files[1])):
            os.dup2(file, target)
        os.chdir(request["directory"])
        for name, value in request["environment"].items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        return request["do"]

    def signal(self, request: Mapping[str, Any]) -> None:
        """Send a signal to a process that has not been waited for, so its id is its own."""
        for process_id, number in self.numbers.items():
            if number == request["number"]:
                os.kill(process_id, request["signal"])

    def reap(self) -> None:
        """Tell of those that have ended."""
        with suppress(BlockingIOError):
            os.read(self.awake, MAX_BYTES)
        for process_id, code in _ended():
            self.tell(self.numbers.pop(process_id), code)

    def tell(self, number: int, code: int) -> None:
        self.line.send(json.dumps({"number": number, "code": code}).encode())


def _ended() -> Iterator[tuple[int, int]]:
    """Wait for the processes that have ended; id and exit status, negative for a signal."""
    with suppress(ChildProcessError):
        while True:
            process_id, status = os.waitpid(-1, os.WNOHANG)
            if process_id == 0:
                return
            yield process_id, os.waitstatus_to_exitcode(status)


def serve(line: socket.socket) -> list[str] | None:
    """Answer requests until there are no more.

    Returns:
        None in the server; in each forked process, what it was asked to do.
    """
    children = _Children(line)
    while True:
        ready, _, _ = select.select([line, children.awake], [], [])
        children.reap()
        if line not in ready:
            continue
        packet, files, _, _ = socket.recv_fds(line, MAX_BYTES, 2)
        if not packet:
            return None
        request = json.loads(packet)
        if "signal" in request:
            children.signal(request)
            continue
        arguments = children.fork(request, files)
        for file in files:
            os.close(file)
        if arguments is not None:
            return arguments


def carry_out(module: ModuleType, arguments: list[str]) -> int:
    """Call the module's `main` as an interpreter would, and return the exit status."""
    sys.argv = [str(module.__file__), *arguments]
    try:
        return module.main(arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
    except BaseException:
        traceback.print_exc()
    return 1


def leave(code: int) -> NoReturn:
    """End this process without tearing down what it shares with others: it would be copied.

    Of what is public, only the interpreter's own end waits for threads, those of thread pools too,
    and that tears down; so this calls what it calls, as the children of `multiprocessing` do.
    """
    threading._shutdown()  # type: ignore
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> int:
    """Import a module and serve; forked processes carry it out and do not return."""
    module = importlib.import_module(sys.argv[1])
    gc.collect()
    gc.freeze()  # a collection in a forked process copies no page of what was imported
    try:
        arguments = serve(socket.socket(fileno=0))
    except ConnectionError:
        return 0  # whoever asked has died
    if arguments is not None:
        leave(carry_out(module, arguments))
    return 0


if __name__ == "__main__":
    sys.exit(main())
