"""Two real servers, a primary and its standby, for tests of failovers."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from alerts import db
from alerts.migrations import migrate
from scripts.dev.database import create_database
from scripts.dev.place import Place, find_place
from scripts.dev.server import ServerInfo, create, end, live_pid, start
from tests.support import CHECKOUT
from tests.support.world import wait_until

DATABASE = "failover"
SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "wal_keep_size": "64MB"}


class Pair:
    """A primary with a migrated database, and the standby that follows it."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folders: list[Path] = []
        self.promoted = False

    def make(self) -> None:
        """Create the two servers."""
        place, self.primary_data = self._place, self._new_folder("primary")
        create(self.primary_data.parent, place, durable=False)
        self.primary = start(self.primary_data.parent, place, SETTINGS)
        create_database(self.primary.url(), DATABASE)
        migrate(self.primary.url(DATABASE))
        self.add_standby()

    @property
    def primary_url(self) -> str:
        return self.primary.url(DATABASE)

    @property
    def standby_url(self) -> str:
        return self.standby.url(DATABASE)

    def url(self, database: str = DATABASE) -> str:
        """Both servers, as an operator names them who wants whichever takes writes."""
        parts = urlsplit(self.primary.url(database))
        login = parts.netloc.rpartition("@")[0]
        hosts = ",".join(f"{each.host}:{each.port}" for each in (self.primary, self.standby))
        query = "target_session_attrs=read-write"
        return urlunsplit(parts._replace(netloc=f"{login}@{hosts}", query=query))

    def copy_database(self, name: str) -> None:
        """Another database like the first, on both servers."""
        with closing(db.connect(self.primary.url(), application_name="t")) as conn:
            db.execute(conn, f"CREATE DATABASE {name} TEMPLATE {DATABASE}")
        self.follow()

    def set_synchronous(self, *, on: bool) -> None:
        """Whether the primary commits nothing that the standby has not flushed."""
        names = "'*'" if on else "''"
        with closing(db.connect(self.primary_url, application_name="t")) as conn:
            db.execute(conn, f"ALTER SYSTEM SET synchronous_standby_names = {names}")
            db.execute(conn, "SELECT pg_reload_conf()")
            state = "SELECT count(*) AS n FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_until(lambda: db.fetch_all(conn, state)[0]["n"] == on)

    def cut_off_standby(self) -> None:
        """Let the standby fall behind: it gets nothing of what the primary does from now on."""
        with closing(
            db.connect(f"{self.standby_url}?target_session_attrs=any", application_name="t")
        ) as conn:
            db.execute(conn, "ALTER SYSTEM SET primary_conninfo = ''")
            db.execute(conn, "SELECT pg_reload_conf()")
            wait_until(lambda: not db.fetch_all(conn, "SELECT 1 FROM pg_stat_wal_receiver"))

    def promote(self) -> None:
        """Promote the standby, so that there are two primaries."""
        with closing(
            db.connect(f"{self.standby_url}?target_session_attrs=any", application_name="promote")
        ) as conn:
            db.execute(conn, "SELECT pg_promote()")
        self.promoted = True

    def stop_primary(self) -> None:
        pid = live_pid(self.primary_data)
        if pid:
            end(self.primary_data, pid)

    def fail_over(self) -> None:
        """End the primary at once, as a crash does, and promote the standby."""
        _crash(self.primary_data)
        self.promote()

    def replace_primary(self) -> None:
        """The promoted server is the primary from now on, and gets a standby of its own."""
        _crash(self.primary_data)
        self.primary, self.primary_data = self.standby, self.standby_data
        self.promoted = False
        self.add_standby()

    def add_standby(self) -> None:
        """Copy the primary, and let the copy follow it."""
        self.standby_data = self._new_folder("standby")
        _copy(self.primary, self.primary_data.parent, self.standby_data, self._place)
        self.standby = start(self.standby_data.parent, self._place, SETTINGS)

    def follow(self) -> None:
        """Wait until the standby has caught up with the primary."""
        with (
            closing(db.connect(self.primary_url, application_name="t")) as primary,
            closing(
                db.connect(f"{self.standby_url}?target_session_attrs=any", application_name="t")
            ) as standby,
        ):
            row = db.fetch_one(primary, "SELECT pg_current_wal_lsn()::text AS lsn")
            assert row
            behind = "SELECT pg_last_wal_replay_lsn() < %s::pg_lsn AS behind"
            while (found := db.fetch_one(standby, behind, (row["lsn"],))) and found["behind"]:
                pass

    def remove(self) -> None:
        for folder in self._folders:
            _crash(folder / "data")
            shutil.rmtree(folder, ignore_errors=True)

    def _new_folder(self, kind: str) -> Path:
        self._folders.append(self._place.base / f"{kind}_{secrets.token_hex(4)}")
        return self._folders[-1] / "data"


@contextmanager
def replicated() -> Iterator[Pair]:
    """Create a new pair, and remove it afterwards."""
    state = CHECKOUT / ".dev" / "db"
    state.mkdir(parents=True, exist_ok=True)
    pair = Pair(find_place(state))
    try:
        pair.make()
        yield pair
    finally:
        pair.remove()


def _crash(data: Path) -> None:
    pid = live_pid(data)
    if pid:
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: live_pid(data) is None)


def _copy(primary: ServerInfo, source: Path, target: Path, place: Place) -> None:
    target.parent.mkdir()
    target.parent.chmod(0o711)
    shutil.copy(source / "password", target.parent / "password")
    subprocess.run(
        [
            str(place.binary("pg_basebackup")),
            *("-D", str(target), "-d", primary.url("postgres"), "-R", "-c", "fast"),
            "--no-sync",
        ],
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    if place.account:
        for path in [target, *target.rglob("*")]:
            os.chown(path, place.account.uid, place.account.gid, follow_symlinks=False)
