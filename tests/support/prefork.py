"""Programs as processes of their own that start in milliseconds instead of a quarter of a second.

Each is forked from one process that has imported what they need, and runs as `python -m` would run
it: own arguments, environment, folder and exit, no standard input. Tests of how a program starts,
or that talk to it while it runs, start a real one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO

from tests.support import CHECKOUT

LARGEST_REQUEST = 1 << 20
_lock = Lock()  # several threads may start programs
SERVER = "from tests.support.prefork import serve; serve()"


def run_module(
    module: str,
    arguments: Sequence[str],
    folder: Path,
    environ: Mapping[str, str],
    terminal: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module`` to its end; it has a minute.

    With a ``terminal``, a file descriptor, it reads and writes there; else it has no input.
    """
    request = json.dumps([module, [*arguments], str(folder), dict(environ)]).encode()
    answer, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with answer, theirs, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        own = [os.open(os.devnull, os.O_RDONLY), out.fileno(), err.fileno()]
        files = own if terminal is None else [terminal] * 3
        with _lock:
            socket.send_fds(_server(), [request], [*files, theirs.fileno()])
        theirs.close()
        os.close(own[0])
        answer.settimeout(60)
        pid = int(answer.recv(20))
        try:
            code = int(answer.recv(20))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        output, errors = (_all_of(file) for file in (out, err))
    return subprocess.CompletedProcess([module, *arguments], code, output, errors)


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="surrogateescape")


@cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_REQUEST)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            cwd=CHECKOUT,
            # As bare as the environment of most tests; the programs get their own.
            env={"PATH": os.environ["PATH"], **_pycache()},
            stdin=theirs.fileno(),
        )
    atexit.register(process.wait)
    atexit.register(ours.close)  # which ends it
    return ours


def _pycache() -> dict[str, str]:
    name = "PYTHONPYCACHEPREFIX"
    return {name: os.environ[name]} if name in os.environ else {}


def serve() -> None:
    """Fork a program for each request; returns never, but in a program that has ended well."""
    # All that the programs import, but themselves.
    import alerts.cli.commands
    import alerts.cli.github
    import alerts.cli.signals
    import alerts.engine  # noqa: F401

    gc.freeze()  # what the programs share is neither looked at nor copied at their ends
    requests = socket.socket(fileno=os.dup(0))
    while True:
        request, files, _, _ = socket.recv_fds(requests, LARGEST_REQUEST, 4)
        if not request:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            _attend(request, *files)
            return
        for file in files:
            os.close(file)
        _forget_the_ended()


def _forget_the_ended() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


def _attend(request: bytes, *files: int) -> None:
    """Fork once more, to see how the program ends while others are started."""
    *streams, answer = files
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        _become(*json.loads(request))
        return
    for stream in streams:
        os.close(stream)
    os.write(answer, str(pid).encode())
    _, status = os.waitpid(pid, 0)
    os.write(answer, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(module: str, arguments: list[str], folder: str, environ: dict[str, str]) -> None:
    sys.stdout = open(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
