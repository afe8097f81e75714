"""Rows as JSON, and pages of them from new to old: the cursor is the last row's time and id."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cursor(moment: datetime, row_id: int) -> str:
    """Digits and a dot only, so that it passes through a URL and a shell unquoted."""
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}.{row_id}"


def parse_cursor(text: str) -> tuple[datetime, int]:
    """Time and id; raises ValueError when the text is no cursor of ours."""
    microseconds, dot, row_id = text.partition(".")
    digits = microseconds.isascii() and microseconds.isdigit() and row_id.isdigit()
    if not (dot and digits and len(microseconds) <= 17 and row_id.isascii() and len(row_id) <= 18):
        raise ValueError("not a cursor")
    return _EPOCH + timedelta(microseconds=int(microseconds)), int(row_id)


def checked_cursor(text: str) -> str:
    """The cursor itself; raises ValueError when it is none of ours."""
    parse_cursor(text)
    return text


def json_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its times as ISO 8601 texts with ``+00:00``."""
    return {name: iso(v) if isinstance(v, datetime) else v for name, v in row.items()}


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with ``+00:00``."""
    return moment.astimezone(UTC).isoformat()
