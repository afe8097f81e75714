"""Making, starting, finding and ending one PostgreSQL cluster, given its folder and place.

The folder of a cluster holds `data` (the server's own), `password`, `port` and `server.log`.
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
    """Where a running cluster listens. `url()` holds the password; the repr does not."""

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
            f"{folder} was made by another user: run as that user, or remove it to begin anew"
        )


def create(folder: Path, place: Place, durable: bool) -> None:
    """initdb beside the final place, then one rename: an interrupted one leaves no cluster."""
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    # Traversable for the server's user, listable for its owner alone.
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
            # Sorts alike on every machine and still knows upper and lower case.
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            # Slow hashing protects guessable passwords; this one is 256 random bits.
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
        # Only reached when no live server owns it: the number in it may be another process by
        # now, and PostgreSQL would refuse to start because of that one.
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
        f"Its data is sample data only: remove {folder} to begin anew."
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
        # A session of its own: Ctrl-C in the terminal is not meant for the server.
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
        # The eighth line of the file is the server's own word on how far it is.
        if _pid_file(data)[7:8] == ["ready"]:
            # It is to outlive us: nobody will wait for it, so nobody shall be warned of that.
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
            f"user; stop it as that user, or remove {folder} to begin anew."
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
            f"{data.parent} to begin anew."
        ) from error


def live_pid(data: Path) -> int | None:
    """The server's process id, proved by its command line: after a crash the number in the
    file may belong to any other process."""
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
    """A fast shutdown, and after a while an immediate one."""
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS)):
        os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if live_pid(data) is None:
                return
            time.sleep(0.01)
    raise DevDbError(f"PostgreSQL (process {pid}) does not end: see {data.parent / 'server.log'}")


def _as_server(account: Account | None) -> dict[str, Any]:
    """Arguments of subprocess for a child of the server's user, free of our environment: the
    caller's PG* variables and locale must not change the cluster."""
    keep = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    options: dict[str, Any] = {"cwd": "/", "env": {**keep, "LC_ALL": "C"}, "umask": 0o077}
    if account:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _free_port(remembered: Path) -> int:
    """The port of the last start if it is free, so that saved URLs keep working; else any."""
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
