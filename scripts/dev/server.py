"""Creates, starts, finds and stops one PostgreSQL cluster, given its folder and place.

A cluster's folder contains `data` (PostgreSQL's own), `password`, `port` and `server.log`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from scripts.dev.place import Account, DevDbError, Place

USER = "alerts"
START_SECONDS = 120.0
STOP_SECONDS = 30.0
PORT_TRIES = 5


@dataclass(frozen=True)
class ServerInfo:
    """Where a running cluster listens. `url()` contains the password; the repr does not."""

    host: str
    port: int
    password: str = field(repr=False)
    user: str = USER

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{database}"


def check_owner(folder: Path, place: Place) -> None:
    expected = place.account.uid if place.account else os.geteuid()
    if (folder / "data").stat().st_uid != expected:
        raise DevDbError(
            f"{folder} was created by another user: run as that user, or remove it to start over"
        )


def create(folder: Path, place: Place, durable: bool) -> None:
    """Run initdb next to the final folder, then rename, so an interruption leaves no cluster."""
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    # The server's user may traverse it; only the owner may list it.
    fresh.mkdir()
    fresh.chmod(0o711)
    place.give(fresh / "data")
    password = secrets.token_urlsafe(32)
    _write_private(fresh / "password", password)
    with tempfile.NamedTemporaryFile("w", dir=fresh) as pwfile:
        pwfile.write(password)
        pwfile.flush()
        if place.account:
            os.chown(pwfile.name, place.account.uid, place.account.gid)
        command = [
            str(place.binary("initdb")),
            *("-D", str(fresh / "data"), "-U", USER, "--pwfile", pwfile.name),
            *("-A", "scram-sha-256", "-E", "UTF8", "--no-locale", "--no-instructions"),
            # Sorts the same on every machine and still handles upper and lower case.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            # Slow hashing only helps guessable passwords; this one is 256 random bits.
            *("-c", "scram_iterations=1", "-c", "timezone=UTC", "-c", "log_timezone=UTC"),
            *([] if durable else ["--no-sync", "--no-data-checksums"]),
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, **_as_server(place.account)
        )
    if done.returncode != 0:
        raise DevDbError(f"initdb failed in {fresh}:\n{_tail(done.stderr)}")
    fresh.rename(folder)


def start(folder: Path, place: Place, settings: dict[str, str]) -> ServerInfo:
    data, log = folder / "data", folder / "server.log"
    for _ in range(PORT_TRIES):
        # Reached only if no live server owns the file. Its process id may belong to another process
        # by now, and PostgreSQL would refuse to start because of that.
        (data / "postmaster.pid").unlink(missing_ok=True)
        port = _free_port(folder / "port")
        process = _spawn(place, data, log, port, settings)
        if _wait_until_ready(process, data):
            _write_private(folder / "port", str(port))
            info = running(folder)
            if info:
                return info
        if "could not bind" not in log.read_text(errors="replace"):
            break
    raise DevDbError(
        f"PostgreSQL did not start; its log {log} ends with:\n{_tail(log.read_text())}\n"
        f"It contains only sample data: remove {folder} to start over."
    )


def _spawn(
    place: Place, data: Path, log: Path, port: int, settings: dict[str, str]
) -> subprocess.Popen[bytes]:
    options = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    command = [str(place.binary("postgres")), "-D", str(data)]
    for name, value in {**settings, **options}.items():
        command += ["-c", f"{name}={value}"]
    log.unlink(missing_ok=True)
    with log.open("xb") as output:
        # A separate session, so that Ctrl-C in the terminal does not reach the server.
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **_as_server(place.account),
        )


def _wait_until_ready(process: subprocess.Popen[bytes], data: Path) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        # In the file's eighth line the server reports its status.
        if _pid_file(data)[7:8] == ["ready"]:
            # The server outlives this process; avoid the warning about a child that still runs.
            process.returncode = 0
            return True
        time.sleep(0.01)
    process.terminate()
    process.wait()
    return False


def running(folder: Path) -> ServerInfo | None:
    data = folder / "data"
    if live_pid(data) is None or _pid_file(data)[7:8] != ["ready"]:
        return None
    try:
        password = (folder / "password").read_text()
    except OSError as error:
        raise DevDbError(
            f"cannot read {error.filename}: {error.strerror}. The server was started by another "
            f"user; stop it as that user, or remove {folder} to start over."
        ) from error
    return ServerInfo("127.0.0.1", int(_pid_file(data)[3]), password)


def _pid_file(data: Path) -> list[str]:
    try:
        return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []
    except PermissionError as error:
        raise DevDbError(
            f"cannot read {data}: it belongs to another user. Run as that user, or remove "
            f"{data.parent} to start over."
        ) from error


def live_pid(data: Path) -> int | None:
    """Return the server's process id, verified by its command line: after a crash, the number in
    the file may belong to any process."""
    lines = _pid_file(data)
    if not lines or not lines[0].isdigit():
        return None
    try:
        process = psutil.Process(int(lines[0]))
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    is_server = Path(command[0]).name == "postgres" if command else False
    return process.pid if is_server and str(data) in command else None


def end(data: Path, pid: int) -> None:
    """Shut down fast, and after a while immediately."""
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS)):
        os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if live_pid(data) is None:
                return
            time.sleep(0.01)
    raise DevDbError(f"PostgreSQL (process {pid}) does not stop: see {data.parent / 'server.log'}")


def _as_server(account: Account | None) -> dict[str, Any]:
    """subprocess arguments to run a child as the server's user with a clean environment: the
    caller's PG* variables and locale must not affect the cluster."""
    keep = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    options: dict[str, Any] = {"cwd": "/", "env": {**keep, "LC_ALL": "C"}, "umask": 0o077}
    if account:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _free_port(remembered: Path) -> int:
    """The port of the last start if it is free, so that saved URLs keep working; else any port."""
    wanted = int(remembered.read_text()) if remembered.exists() else 0
    for port in dict.fromkeys((wanted, 0)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DevDbError("no free TCP port on 127.0.0.1")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
