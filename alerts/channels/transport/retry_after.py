"""How long a provider asks us to wait, in the various forms that providers use."""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_tz

LONGEST_WAIT_SECONDS = 86_400.0
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SECONDS_SINCE_1970 = 1e9  # too long for a wait (thirty years), so such a value is a Unix time
# Providers' own headers, read after Retry-After; these may also contain a Unix time.
_RESETS = ("ratelimit-reset", "x-sib-ratelimit-reset")


def seconds(value: object) -> float | None:
    """Parse a number of seconds: positive, capped at one day; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        wait = float(value)
    except OverflowError:  # an integer too large for a float
        return LONGEST_WAIT_SECONDS if isinstance(value, int) and value > 0 else None
    except ValueError:
        return None
    return min(wait, LONGEST_WAIT_SECONDS) if wait > 0 else None  # false for nan


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Return the wait in seconds that the headers ask for, or None.

    If a header is repeated or lists several values, the longest counts.
    """
    asked = [_wait(value) for value in _values(headers.get("retry-after", ""))]
    if wait := max((wait for wait in asked if wait is not None), default=None):
        return wait
    resets = (_until_reset(headers.get(name, "")) for name in _RESETS)
    return next((wait for wait in resets if wait is not None), None)


def _values(header: str) -> Iterator[str]:
    """Split a list at its commas, except the comma after a weekday, which is part of a date."""
    day = ""
    for part in header.split(","):
        if not day and part.strip().lower()[:3] in _DAYS and part.strip().isalpha():
            day = part
            continue
        yield f"{day},{part}" if day else part
        day = ""


def _wait(value: str) -> float | None:
    """Parse seconds, or an HTTP date in one of its three forms, all of which are in UTC."""
    if (wait := seconds(value.strip())) is not None:
        return wait
    fields = parsedate_tz(value)
    if fields is None:
        return None
    try:
        moment = calendar.timegm(fields[:9]) - (fields[9] or 0)
    except (ValueError, OverflowError):
        return None
    return seconds(moment - time.time())


def _until_reset(value: str) -> float | None:
    try:
        moment = float(value)
    except ValueError:
        return None
    return seconds(moment - time.time() if _SECONDS_SINCE_1970 <= moment < math.inf else moment)
