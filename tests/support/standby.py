"""Two real servers, a primary and its standby, for tests of failovers."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from alerts import db
from alerts.migrations import migrate
from scripts.dev.database import create_database
from scripts.dev.place import Place, find_place
from scripts.dev.server import ServerInfo, create, end, live_pid, start
from tests.support import CHECKOUT

DATABASE = "failover"
SETTINGS = {"fsync": "off", "shared_buffers": "16MB", "wal_keep_size": "64MB"}


@dataclass(frozen=True)
class Pair:
    """A primary with a migrated database, and the standby that follows it."""

    primary: ServerInfo
    standby: ServerInfo
    primary_data: Path

    @property
    def primary_url(self) -> str:
        return self.primary.url(DATABASE)

    @property
    def standby_url(self) -> str:
        return self.standby.url(DATABASE)

    def promote(self) -> None:
        """Promote the standby, so that there are two primaries."""
        with closing(
            db.connect(f"{self.standby_url}?target_session_attrs=any", application_name="promote")
        ) as conn:
            db.execute(conn, "SELECT pg_promote()")

    def stop_primary(self) -> None:
        pid = live_pid(self.primary_data)
        if pid:
            end(self.primary_data, pid)

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


@contextmanager
def replicated() -> Iterator[Pair]:
    """Create a new pair, and remove it afterwards."""
    state = CHECKOUT / ".dev" / "db"
    state.mkdir(parents=True, exist_ok=True)
    place = find_place(state)
    token = secrets.token_hex(4)
    folders = [place.base / f"{kind}_{token}" for kind in ("primary", "standby")]
    try:
        create(folders[0], place, durable=False)
        primary = start(folders[0], place, SETTINGS)
        create_database(primary.url(), DATABASE)
        migrate(primary.url(DATABASE))
        _copy(primary, folders, place)
        standby = start(folders[1], place, SETTINGS)
        yield Pair(primary, standby, folders[0] / "data")
    finally:
        for folder in folders:
            pid = live_pid(folder / "data")
            if pid:
                end(folder / "data", pid)
            shutil.rmtree(folder, ignore_errors=True)


def _copy(primary: ServerInfo, folders: list[Path], place: Place) -> None:
    source, target = folders
    target.mkdir()
    target.chmod(0o711)
    shutil.copy(source / "password", target / "password")
    subprocess.run(
        [
            str(place.binary("pg_basebackup")),
            *("-D", str(target / "data"), "-d", primary.url("postgres"), "-R", "-c", "fast"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"]},
    )
    if place.account:
        for path in [target / "data", *(target / "data").rglob("*")]:
            os.chown(path, place.account.uid, place.account.gid, follow_symlinks=False)
