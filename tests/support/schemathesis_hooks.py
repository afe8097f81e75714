"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): what values of our formats look like."""

from __future__ import annotations

from datetime import UTC, datetime

import schemathesis
from hypothesis import strategies as st

# The address says which years: 1970 to 2999.
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=200)

schemathesis.openapi.format("date-time", TIMES.map(datetime.isoformat))
schemathesis.openapi.format("printable", PRINTABLE)
