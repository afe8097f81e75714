"""Rows as JSON, and pages from newest to oldest. A cursor is the last row's time and id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cursor(moment: datetime, row_id: int) -> str:
    """Only digits and a dot, so it needs no quoting in a URL or a shell."""
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}.{row_id}"


def parse_cursor(text: str) -> tuple[datetime, int]:
    """Return the time and id; raises ValueError if the text is not one of our cursors."""
    parts = re.fullmatch(r"([0-9]{1,17})\.([0-9]{1,19})", text)
    if not parts or int(parts[2]) >= 2**63:  # out of range for an id column
        raise ValueError("not a cursor")
    return _EPOCH + timedelta(microseconds=int(parts[1])), int(parts[2])


def checked_cursor(text: str) -> str:
    """Return the text unchanged; raises ValueError if it is not one of our cursors."""
    parse_cursor(text)
    return text


def json_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its times as ISO 8601 strings ending in ``+00:00``."""
    return {name: iso(v) if isinstance(v, datetime) else v for name, v in row.items()}


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with ``+00:00``."""
    return moment.astimezone(UTC).isoformat()
