"""How long a provider asks to wait, in its several ways of saying so."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LONGEST_WAIT_SECONDS = 86_400.0
_SECONDS_SINCE_1970 = 1e9  # as a duration it would be thirty years: such a value is a moment
_HEADERS = ("retry-after", "ratelimit-reset", "x-sib-ratelimit-reset")


def seconds(value: object) -> float | None:
    """A number of seconds as a wait: above 0, at most a day; None for anything else.

    Numbers too large to be durations are taken for Unix times.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        wait = float(value)
    except (ValueError, OverflowError):
        return None
    if wait >= _SECONDS_SINCE_1970:
        wait -= time.time()
    if not math.isfinite(wait) or wait <= 0:
        return LONGEST_WAIT_SECONDS if wait == math.inf else None
    return min(wait, LONGEST_WAIT_SECONDS)


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """The wait that an answer's headers ask for, in seconds; None where they do not."""
    for name in _HEADERS:
        value = headers.get(name)
        if value is None:
            continue
        wait = seconds(value.strip())
        if wait is None:
            wait = _until_date(value)
        if wait is not None:
            return wait
    return None


def _until_date(value: str) -> float | None:
    """Seconds until an HTTP date."""
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
    return seconds(moment - time.time())
