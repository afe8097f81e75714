"""Parse outside text into typed values: one set for environment, query string, command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from alerts.paging import checked_cursor

T = TypeVar("T")

LARGEST_ID = 2**63 - 1  # the largest BIGINT, so any stored id can be requested
# Product days and windows look beyond the given time, and datetime covers only years 1 to 9999.
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
_ON = frozenset({"true", "1", "yes", "on"})
_OFF = frozenset({"false", "0", "no", "off"})
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True)
class Reader(Generic[T]):
    """Reads one kind of value.

    ``read`` raises ValueError for invalid text, ``takes`` completes the sentence "it takes ...",
    and ``placeholder`` represents the value in a command's usage.
    """

    read: Callable[[str], T]
    takes: str
    placeholder: str


@dataclass(frozen=True)
class Parameter:
    """A named parameter of an endpoint or a command; ``name`` is its name in the query string.

    ``about`` is a short description.
    """

    name: str
    reader: Reader[Any]
    about: str = ""
    default: Any = None
    required: bool = False


class BadValue(Exception):
    """A well-formed value that is not allowed here; ``takes`` as in :class:`Reader`."""

    def __init__(self, name: str, takes: str) -> None:
        super().__init__(f"{name} takes {takes}")
        self.name, self.takes = name, takes


def integer(low: int, high: int) -> Reader[int]:
    """A whole number from ``low`` to ``high`` inclusive, in ASCII digits."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
            raise ValueError("no such number")
        return int(text)

    return Reader(read, f"a whole number from {low} to {high}", "N")


def choice(words: Iterable[str]) -> Reader[str]:
    """One of the words, matched exactly."""
    known = tuple(map(str, words))

    def read(text: str) -> str:
        if text not in known:
            raise ValueError("no such word")
        return text

    return Reader(read, _either(known), "WORD")


def comma_list(words: Iterable[str]) -> Reader[tuple[str, ...]]:
    """One or more of the words, separated by commas."""
    known = tuple(words)

    def read(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(",") if part.strip())
        if not names or set(names) - set(known):
            raise ValueError("no such words")
        return names

    return Reader(read, f"a comma list of {', '.join(known)}", "LIST")


def is_utf8(text: str) -> bool:
    """Whether UTF-8 has bytes for it: bytes of an environment or a command line that are none
    become halves of characters."""
    return text.encode(errors="ignore") == text.encode(errors="replace")


def is_storable(text: str) -> bool:
    """Whether the database can hold the text, or be asked for it."""
    return "\0" not in text and is_utf8(text)


def switch(text: str) -> bool | None:
    """Parse an on/off variable; None if the word means neither."""
    word = text.strip().lower()
    return True if word in _ON else False if word in _OFF else None


def _either(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if words[1:] else words[0]


def _boolean(text: str) -> bool:
    if text not in _BOOLEANS:
        raise ValueError("neither true nor false")
    return _BOOLEANS[text]


def _time(text: str) -> datetime:
    parsed = datetime.fromisoformat(text.strip())
    if not _FIRST_YEAR <= parsed.year <= _LAST_YEAR:
        raise ValueError("too far away")
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)


def _ids(text: str) -> tuple[int, ...]:
    return tuple(sorted({ID.read(part.strip()) for part in text.split(",")}))


ID = Reader(integer(1, LARGEST_ID).read, f"a whole number from 1 to {LARGEST_ID}", "ID")
# Sorted, without duplicates.
IDS = Reader(_ids, "positive ids separated by commas", "IDS")
BOOLEAN = Reader(_boolean, "true, false, 1 or 0", "BOOLEAN")
# A time without an offset is UTC.
TIME = Reader(_time, "an ISO time like 2022-03-08T18:00:00Z", "TIME")
CURSOR = Reader(checked_cursor, "the next_before of an earlier answer", "CURSOR")
