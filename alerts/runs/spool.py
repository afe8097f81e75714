"""Run records that the database would not take, kept in a file until it does.

One JSON line a record. A lock on the file keeps two runners from replaying the same lines; since
storing a record is idempotent, one that dies halfway costs nothing but a repetition.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from alerts.runs.record import RunRecord

REJECTED_SUFFIX = ".rejected"
# The line before each one that is set aside says why; such a file can be replayed as it is.
_COMMENT = "# "


class NeverStored(Exception):
    """The database will not take this record, however often it is tried; ``str`` says why."""


def append(path: Path, record: RunRecord) -> None:
    """Add a record as a line. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path, create=True) as file:
        if file is None:
            raise FileNotFoundError(path)
        # A writer that was killed may have left half a line, which must not spoil this one.
        end = b"" if _ends_a_line(file) else b"\n"
        file.seek(0, os.SEEK_END)
        file.write(end + record.as_line().encode() + b"\n")
        _flush(file)


def replay(path: Path, store: Callable[[RunRecord], bool]) -> tuple[int, int]:
    """Store every record of the file; how many were stored, and how many lines never will be.

    ``store`` gives False for a record that has to wait, and raises :class:`NeverStored`. The file
    is removed when all are stored, else it keeps the rest. What is no record, or one that the
    database will never take, is set aside in a file of its own with the reason. Raises OSError.
    """
    with _locked(path, create=False) as file:
        if file is None:
            return 0, 0
        lines = _lines(file)
        stored = 0
        rejected: list[tuple[str, str]] = []
        kept: list[str] = []
        for line in lines:
            try:
                if kept or not store(_parse(line)):
                    kept.append(line)
                else:
                    stored += 1
            except NeverStored as error:
                rejected.append((line, str(error)))
        if rejected:
            _set_aside(path, rejected)
        if not kept:
            path.unlink()
        elif kept != lines:
            _replace(path, kept)
    return stored, len(rejected)


@dataclass(frozen=True)
class Waiting:
    """How many records wait in the spool or were set aside beside it, and when the oldest of those
    runs started (None: unknown)."""

    records: int = 0
    since: datetime | None = None


def waiting(path: Path) -> Waiting:
    """What waits there now. Raises OSError."""
    starts: list[datetime | None] = []
    for each in (path, path.with_name(path.name + REJECTED_SUFFIX)):
        with suppress(FileNotFoundError), each.open("rb") as file:
            starts += [_started(line) for line in _lines(file)]
    known = [start for start in starts if start is not None]
    return Waiting(len(starts), min(known, default=None))


def _started(line: str) -> datetime | None:
    try:
        return _parse(line).started_at
    except NeverStored:
        return None


def _lines(file: IO[bytes]) -> list[str]:
    """Lines end with a line feed and nothing else: texts may hold what Unicode calls a line's."""
    text = file.read().decode("utf-8", "replace")
    return [line for line in text.split("\n") if line.strip() and not line.startswith(_COMMENT)]


def _ends_a_line(file: IO[bytes]) -> bool:
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _set_aside(path: Path, lines: list[tuple[str, str]]) -> None:
    with path.with_name(path.name + REJECTED_SUFFIX).open("ab") as file:
        for line, reason in lines:
            file.write(f"{_COMMENT}{reason}\n{line}\n".encode())
        _flush(file)


def _replace(path: Path, lines: list[str]) -> None:
    """All or nothing: a process that dies halfway leaves the old file in place."""
    rest = path.with_name(path.name + ".new")
    with rest.open("wb") as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
        _flush(file)
    rest.replace(path)


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _parse(line: str) -> RunRecord:
    try:
        fields: Any = json.loads(line)
        return RunRecord.from_json(fields)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NeverStored(f"no run record ({type(error).__name__})") from None


@contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[IO[bytes] | None]:
    """The file, open and locked; None where there is none.

    Whoever waited for the lock may hold a file that was replaced meanwhile: then again.
    """
    while True:
        flags = os.O_RDWR | (os.O_CREAT if create else 0)
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            yield None
            return
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                current = os.stat(path).st_ino == os.fstat(descriptor).st_ino  # noqa: PTH116
            except FileNotFoundError:
                current = False
            if current:
                yield file
                return
