"""How long a provider asks to wait, in its several ways of saying so."""

from __future__ import annotations

import calendar
import math
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_tz

LONGEST_WAIT_SECONDS = 86_400.0
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SECONDS_SINCE_1970 = 1e9  # as a duration it would be thirty years: such a value is a moment
# Providers' own headers, asked after Retry-After; here a moment in Unix time may stand too.
_RESETS = ("ratelimit-reset", "x-sib-ratelimit-reset")


def seconds(value: object) -> float | None:
    """A number of seconds as a wait: above 0, at most a day; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        wait = float(value)
    except OverflowError:  # an integer beyond every float
        return LONGEST_WAIT_SECONDS if isinstance(value, int) and value > 0 else None
    except ValueError:
        return None
    return min(wait, LONGEST_WAIT_SECONDS) if wait > 0 else None  # nan is not above 0


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """The wait that an answer's headers ask for, in seconds; None where they do not.

    A header that is repeated, or lists several values, asks for the longest of them.
    """
    asked = [_wait(value) for value in _values(headers.get("retry-after", ""))]
    if wait := max((wait for wait in asked if wait is not None), default=None):
        return wait
    resets = (_until_reset(headers.get(name, "")) for name in _RESETS)
    return next((wait for wait in resets if wait is not None), None)


def _values(header: str) -> Iterator[str]:
    """The members of a list; the comma behind the name of a day belongs to the date."""
    day = ""
    for part in header.split(","):
        if not day and part.strip().lower()[:3] in _DAYS and part.strip().isalpha():
            day = part
            continue
        yield f"{day},{part}" if day else part
        day = ""


def _wait(value: str) -> float | None:
    """Seconds, or an HTTP date in one of its three forms; all of them are in UTC."""
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
