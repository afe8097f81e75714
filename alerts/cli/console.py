"""Where the command line's output goes: JSON lines for programs, tables for people."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from json import dumps
from typing import Any, Protocol, TextIO

from alerts.cli import tables_runs
from alerts.cli.text import NARROWEST, Style, clip
from alerts.runs.record import RunItem, RunRecord

QUIET_SECONDS = 2.0  # a phase that ends sooner shows no progress
REDRAW_SECONDS = 0.2
LINE_SECONDS = 10.0  # when lines cannot be rewritten
DEFAULT_WIDTH = 80
WIDEST = 120  # longer lines are hard to read

_DOING = {"events": "events fanned out", "users": "users of one event", "messages": "messages"}


class Console(Protocol):
    """What the command line reports during a run."""

    def phase(self, item: RunItem) -> None:
        """Report that a phase has ended."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Report how far the current phase is."""

    def clear_progress(self) -> None:
        """Clear the progress line before something else is written to standard error."""

    def run(self, record: RunRecord, *, recorded: bool) -> None:
        """Report that the run has ended."""


def show(
    view: Callable[[Style, Mapping[str, Any]], Sequence[str]],
    answer: Mapping[str, Any],
    environ: Mapping[str, str],
    *,
    json: bool,
) -> None:
    """Print an answer through ``view``, or as JSON if requested or if not on a terminal."""
    if json or not sys.stdout.isatty():
        print(dumps(answer, indent=2, ensure_ascii=False))
    else:
        _print(view(style_of(sys.stdout, environ), answer))


class JsonConsole:
    """One JSON object per line."""

    def progress(self, name: str, done: int, total: int | None) -> None:
        """Do nothing: programs get only finished phases."""

    def clear_progress(self) -> None:
        """Do nothing: there is no progress line."""

    def phase(self, item: RunItem) -> None:
        names = ("phase", "status", "duration_ms", "counts", "error_summary")
        self._line({"event": "phase_finished", **{name: getattr(item, name) for name in names}})

    def run(self, record: RunRecord, *, recorded: bool) -> None:
        self._line(
            {
                "event": "run_finished",
                "run_id": record.run_id,
                "status": record.status,
                "duration_ms": record.duration_ms,
                "dry_run": record.dry_run,
                "phases": [
                    {"phase": i.phase, "status": i.status, "duration_ms": i.duration_ms}
                    for i in record.items
                ],
                "recorded": recorded,
                "error_summary": record.error_summary,
            }
        )

    def _line(self, line: Mapping[str, Any]) -> None:
        print(dumps(line, ensure_ascii=False), flush=True)


class PeopleConsole:
    """Tables on standard output, progress on standard error."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._style = style_of(sys.stdout, environ)
        self._progress = Progress(sys.stderr, environ)

    def progress(self, name: str, done: int, total: int | None) -> None:
        self._progress.show(name, done, total)

    def clear_progress(self) -> None:
        self._progress.clear()

    def phase(self, item: RunItem) -> None:
        self._progress.phase_ended()
        _print(tables_runs.phase(self._style, vars(item)))

    def run(self, record: RunRecord, *, recorded: bool) -> None:
        self._progress.phase_ended()
        _print(tables_runs.run_end(self._style, vars(record), recorded=recorded))


def _print(lines: Sequence[str]) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    print("\n".join(lines).encode(encoding, "replace").decode(encoding), flush=True)


class Progress:
    """One line about a long-running phase, rewritten in place on a terminal."""

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._environ, self._clock = stream, environ, clock
        self._rewrites = _is_terminal(stream, environ)
        self._drawn = False
        self.phase_ended()

    def phase_ended(self) -> None:
        """Start over for the next phase."""
        self.clear()
        now = self._clock()
        self._started, self._next = now, now + QUIET_SECONDS

    def show(self, name: str, done: int, total: int | None) -> None:
        """Draw the line if it is time to. Never raises, even if the stream is closed."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + (REDRAW_SECONDS if self._rewrites else LINE_SECONDS)
        text = progress_text(name, done, total, now - self._started)
        with suppress(OSError, ValueError):
            if self._rewrites:
                # Stop before the last column, because some terminals wrap there.
                text = clip(text, _width(self._stream, self._environ) - 1)
                self._stream.write(f"\r{text}\x1b[K")
                self._drawn = True
            else:
                self._stream.write(f"{text}\n")
            self._stream.flush()

    def clear(self) -> None:
        """Remove the line before something else is printed."""
        if self._drawn:
            self._drawn = False
            with suppress(OSError, ValueError):
                self._stream.write("\r\x1b[K")
                self._stream.flush()


def progress_text(name: str, done: int, total: int | None, seconds: float) -> str:
    """``... messages 1200 of 5000, 240/s, 16 s left``."""
    rate = done / seconds if seconds > 0 else 0.0
    parts = [f"... {_DOING.get(name, name)} {done}" + (f" of {total}" if total else "")]
    if rate and name != "users":  # users are counted from zero for each event
        parts.append(f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        if total:
            left = max(total - done, 0) / rate
            parts.append(f"{left:.0f} s left" if left < 60 else f"{left / 60:.0f} min left")
    return ", ".join(parts)


def style_of(stream: TextIO, environ: Mapping[str, str]) -> Style:
    """Use colour only on a terminal that supports it, and only if NO_COLOR is unset."""
    colour = _is_terminal(stream, environ) and not environ.get("NO_COLOR")
    return Style(width=_width(stream, environ), colour=colour)


def _is_terminal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    try:
        return stream.isatty() and environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def _width(stream: TextIO, environ: Mapping[str, str]) -> int:
    columns = environ.get("COLUMNS", "")
    width = int(columns) if columns.isascii() and columns.isdigit() else 0
    if not width:
        with suppress(OSError, ValueError):
            width = os.get_terminal_size(stream.fileno()).columns
    return min(max(width or DEFAULT_WIDTH, NARROWEST), WIDEST)
