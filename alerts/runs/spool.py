"""Run records that the database would not take, kept in a file until it does.

One JSON line a record. A lock on the file keeps two runners from replaying the same lines; since
storing a record is idempotent, one that dies halfway costs nothing but a repetition.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from alerts.runs.record import RunRecord

REJECTED_SUFFIX = ".rejected"


def append(path: Path, record: RunRecord) -> None:
    """Add a record as a line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path, create=True) as file:
        if file is None:
            raise FileNotFoundError(path)
        file.seek(0, os.SEEK_END)
        file.write(record.as_line() + "\n")
        file.flush()
        os.fsync(file.fileno())


def replay(path: Path, store: Callable[[RunRecord], bool]) -> tuple[int, int]:
    """Store every record of the file; how many were stored, and how many lines were no records.

    The file is removed when all are stored, else it keeps the rest. Lines that are no records
    are set aside in a file of their own. Raises OSError.
    """
    with _locked(path, create=False) as file:
        if file is None:
            return 0, 0
        stored = 0
        rejected: list[str] = []
        kept: list[str] = []
        for line in file.read().splitlines():
            record = _parse(line)
            if record is None:
                rejected.append(line)
            elif not kept and store(record):
                stored += 1
            else:
                kept.append(line)
        if rejected:
            _set_aside(path, rejected)
        if kept:
            file.seek(0)
            file.truncate()
            file.write("".join(line + "\n" for line in kept))
        else:
            path.unlink()
    return stored, len(rejected)


def _set_aside(path: Path, lines: list[str]) -> None:
    with path.with_name(path.name + REJECTED_SUFFIX).open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)


def _parse(line: str) -> RunRecord | None:
    try:
        fields: Any = json.loads(line)
        return RunRecord.from_json(fields)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


@contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[IO[str] | None]:
    """The file, open and locked; None where there is none.

    Whoever waited for the lock may hold a file that was removed meanwhile: then again.
    """
    while True:
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            yield None
            return
        with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                current = os.stat(path).st_ino == os.fstat(descriptor).st_ino  # noqa: PTH116
            except FileNotFoundError:
                current = False
            if current:
                yield file
                return
