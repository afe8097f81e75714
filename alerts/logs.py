"""Logging for programs: every record is scrubbed and written as JSON or as a readable line.

Our own loggers (``alerts``, ``app``) log at INFO and above, libraries at WARNING and above, all
through one handler. Exceptions are described, never printed with their values.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from traceback import extract_tb
from typing import Any, TextIO
from uuid import UUID

from alerts.redaction import KEY_PATTERN, REDACTED, Redactor, describe_exception

OWN_LOGGERS = ("alerts", "app")
MESSAGE_MAX = 2000  # characters
VALUE_MAX = 500
_DEPTH_MAX = 4
_ITEMS_MAX = 100

_RECORD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def setup_logging(
    redactor: Redactor,
    *,
    json_lines: bool,
    stream: TextIO | None = None,
    level: int = logging.INFO,
) -> None:
    """Send all logging of the process, scrubbed, to ``stream`` (default: standard error).

    ``level`` applies to our own loggers; at DEBUG, exceptions also list the file and line of each
    frame. A second call replaces the previous setup.
    """
    formatter = (JsonFormatter if json_lines else HumanFormatter)(
        redactor, frames=level <= logging.DEBUG
    )
    handler = RedactingHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_own_or_warning)
    root = logging.getLogger()
    for old in list(root.handlers):
        # A plain handler, as added by basicConfig, would print what this one redacts.
        if type(old) in (logging.StreamHandler, RedactingHandler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    # By default an uncaught exception is printed with its values; describe it instead.
    sys.excepthook = lambda _, error, __: _log_escaped(error)
    threading.excepthook = lambda escaped: _log_escaped(escaped.exc_value)


def before_records(tell: Callable[[], None]) -> None:
    """Call ``tell`` before the handler of the last :func:`setup_logging` writes a record."""

    def told(_: logging.LogRecord) -> bool:
        tell()
        return True

    for handler in logging.getLogger().handlers:
        if isinstance(handler, RedactingHandler):
            handler.addFilter(told)


def _log_escaped(error: BaseException | None) -> None:
    if not isinstance(error, KeyboardInterrupt | SystemExit | None):
        logging.getLogger("alerts").critical("a bug: an exception escaped", exc_info=error)


def bound(logger: logging.Logger | BoundLogger, **fields: object) -> BoundLogger:
    """Return ``logger`` with ``fields`` (run_id, phase, ...) on every record; can be nested."""
    if isinstance(logger, BoundLogger):
        return BoundLogger(logger.logger, {**logger.fields, **fields})
    return BoundLogger(logger, fields)


class BoundLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger whose records carry fields; a call's ``extra`` adds to them."""

    def __init__(self, logger: logging.Logger, fields: Mapping[str, object]) -> None:
        super().__init__(logger, fields)
        self.fields = dict(fields)

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        merged = {**self.fields, **(kwargs.get("extra") or {})}
        # logging raises on names that a record already uses, such as "name" or "args".
        kwargs["extra"] = {f"{k}_" if k in _RECORD_FIELDS else k: v for k, v in merged.items()}
        return msg, kwargs


class RedactingHandler(logging.StreamHandler[TextIO]):
    """A stream handler that does not print the record to standard error if writing fails."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Report the lost record without its arguments, which the default would print."""
        kind = sys.exc_info()[0]
        name = kind.__name__ if kind else "error"
        try:
            print(f"a log record of {record.name} was lost: {name}", file=sys.stderr)
        except (OSError, ValueError):  # nowhere left to report it
            return


class _ScrubbingFormatter(logging.Formatter):
    """What both formats share: the scrubbed parts of a record."""

    def __init__(self, redactor: Redactor, *, frames: bool = False) -> None:
        super().__init__()
        self._redactor = redactor
        self._frames = frames

    def parts(self, record: logging.LogRecord) -> dict[str, object]:
        """Return the record's parts as JSON values, in output order."""
        when = datetime.fromtimestamp(record.created, UTC)
        parts: dict[str, object] = {
            "time": when.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._message(record),
        }
        for key, value in record.__dict__.items():
            if key not in _RECORD_FIELDS:
                parts.setdefault(self._redactor.scrub(key), self._field(key, value, 0))
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            parts["error"] = describe_exception(error, self._redactor, VALUE_MAX)
            if self._frames:
                parts["frames"] = _frames_of(error)
        return parts

    def _message(self, record: logging.LogRecord) -> str:
        try:
            text = self._template(record)
        except Exception as error:  # a faulty log call must not end the program
            text = f"{record.msg!s} (arguments do not fit: {type(error).__name__})"
        return self._redactor.scrub(text, MESSAGE_MAX)

    def _template(self, record: logging.LogRecord) -> str:
        template: object = record.msg
        if isinstance(template, BaseException):
            template = describe_exception(template, self._redactor)
        args = record.args
        if isinstance(args, tuple):
            args = tuple(self._argument(arg) for arg in args)
        elif args:
            args = {key: self._argument(arg) for key, arg in args.items()}
        return str(template) % args if args else str(template)

    def _argument(self, value: object) -> object:
        if isinstance(value, BaseException):
            return describe_exception(value, self._redactor)
        return value

    def _field(self, key: str, value: object, depth: int) -> object:
        if value is not None and not isinstance(value, bool) and KEY_PATTERN.fullmatch(key):
            return REDACTED
        try:
            return self._value(value, depth)
        except Exception:  # a value that cannot be shown must not end the program
            return f"<{type(value).__name__}>"

    def _value(self, value: object, depth: int) -> object:
        """Return ``value`` as scrubbed JSON types; other objects only as their type's name."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
            text = str(value)
            return value if self._redactor.scrub(text) == text else REDACTED
        if isinstance(value, BaseException):
            return describe_exception(value, self._redactor, VALUE_MAX)
        if isinstance(value, datetime):
            return value.isoformat()
        if isinstance(value, str | float | Path | UUID | Decimal):
            return self._redactor.scrub(str(value), VALUE_MAX)
        if depth < _DEPTH_MAX and isinstance(value, Mapping):
            pairs = list(value.items())[:_ITEMS_MAX]
            return {
                self._redactor.scrub(str(key)): self._field(str(key), part, depth + 1)
                for key, part in pairs
            }
        if depth < _DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
            return [self._value(part, depth + 1) for part in list(value)[:_ITEMS_MAX]]
        return f"<{type(value).__name__}>"


class JsonFormatter(_ScrubbingFormatter):
    """One JSON object per line: time, level, logger, message, extra fields, error."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.parts(record))  # ASCII, so correct in any stream encoding


class HumanFormatter(_ScrubbingFormatter):
    """``12:30:11 INFO alerts.engine: phase finished phase=a``."""

    def format(self, record: logging.LogRecord) -> str:
        parts = self.parts(record)
        time, level, logger, message = (
            str(parts.pop(k)) for k in ("time", "level", "logger", "message")
        )
        shown = "".join(f" {key}={_shown(value)}" for key, value in parts.items())
        return f"{time[11:19]} {level} {logger}: {message}{shown}"


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _own_or_warning(record: logging.LogRecord) -> bool:
    # Checked here too, because some libraries set their own level.
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in OWN_LOGGERS


def _frames_of(error: BaseException) -> list[str]:
    """Return the file and line of each frame, without source code or values."""
    return [
        f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno} in {frame.name}"
        for frame in extract_tb(error.__traceback__)
    ]
