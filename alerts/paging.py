"""Rows as JSON, and pages of them from new to old: the cursor is the last row's time and id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cursor(moment: datetime, row_id: int) -> str:
    """Digits and a dot only, so that it passes through a URL and a shell unquoted."""
    return f"{(moment - _EPOCH) // timedelta(microseconds=1)}.{row_id}"


def parse_cursor(text: str) -> tuple[datetime, int]:
    """Time and id; raises ValueError when the text is no cursor of ours."""
    parts = re.fullmatch(r"([0-9]{1,17})\.([0-9]{1,19})", text)
    if not parts or int(parts[2]) >= 2**63:  # the largest of an id column
        raise ValueError("not a cursor")
    return _EPOCH + timedelta(microseconds=int(parts[1])), int(parts[2])


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
