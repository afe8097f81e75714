"""Typed reading of environment variables, collecting every problem before giving up."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

from alerts.readers import Reader, choice, integer, is_utf8

T = TypeVar("T")
D = TypeVar("D")

_HIDDEN = "a value that does not parse (not shown)"
# Values of other variables are shown when they do not parse: not where a secret was put into
# the wrong one. Credentials in addresses, queries, and long unbroken texts are taken for secrets.
_SECRET_NAME = re.compile(r"_KEY$|_TOKEN$|DATABASE_URL$")
_LEAST_PART = 8  # characters of a secret that are worth hiding
_PRIVATE = re.compile(r"[@?%=]|(?=[\d:_-]*[a-z])[\w:-]{24,}", re.IGNORECASE)


class Secret:
    """A value that no repr, format or log shows; :meth:`reveal` gives it to a driver."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The plain value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


@dataclass(frozen=True)
class Problem:
    """One variable that cannot be used, and a sentence that says what it takes."""

    variable: str
    message: str


class ConfigError(Exception):
    """The environment cannot be used; ``problems`` names every variable at once."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(p.message for p in problems))
        self.problems = problems


def parse_web_address(text: str) -> str:
    """An http(s) address without query, fragment and trailing slash. Raises ValueError."""
    parts = urlsplit(text)
    parts.port  # noqa: B018  (raises ValueError on a port that is none)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not an http(s) address")
    if parts.query or parts.fragment or any(c.isspace() for c in text):
        raise ValueError("more than an address")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def parse_origin(text: str) -> str:
    """``scheme://host[:port]`` of an HTTP server. Raises ValueError when there is a path."""
    address = parse_web_address(text)
    if urlsplit(address).path:
        raise ValueError("more than scheme, host and port")
    return address


class EnvReader:
    """Reads variables by type and collects a :class:`Problem` for each that does not parse.

    A value that does not parse reads as its default, so that one pass finds every problem.
    ``secret_names``: variables whose values no message repeats, besides those named like one.
    """

    def __init__(self, environ: Mapping[str, str], secret_names: Collection[str] = ()) -> None:
        self._environ = environ
        self._secret_names = secret_names
        self.problems: list[Problem] = []

    def apart(self) -> EnvReader:
        """A reader of the same variables that collects problems of its own."""
        return EnvReader(self._environ, self._secret_names)

    def raw(self, name: str) -> str | None:
        """The stripped value; None when unset or empty. Bytes that are not UTF-8 are surrogates."""
        return self._environ.get(name, "").strip() or None

    def text(self, name: str) -> str | None:
        """The stripped value; None when unset, empty, or not UTF-8 (which is noted)."""
        value = self.raw(name)
        if value is not None and not is_utf8(value):
            self.add_problem(name, "holds bytes that are not UTF-8; it takes UTF-8")
            return None
        return value

    def secret(self, name: str) -> Secret | None:
        """The stripped value, hidden; None when unset or empty."""
        value = self.text(name)
        return Secret(value) if value else None

    def add_problem(self, name: str, message: str) -> None:
        """Note that ``name`` cannot be used; ``message`` goes behind the name."""
        problem = Problem(name, f"{name} {message}")
        if problem not in self.problems:
            self.problems.append(problem)

    def parsed(
        self, name: str, default: D, parse: Callable[[str], T], takes: str, *, hide: bool = False
    ) -> T | D:
        """The value through ``parse`` (which raises ValueError), or ``default``."""
        value = self.text(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError:
            got = _HIDDEN if hide or self._private(value) else repr(value[:80])
            self.add_problem(name, f"got {got}; it takes {takes}")
            return default

    def _private(self, value: str) -> bool:
        """Whether the value of some variable could be, or hold, an address or a secret."""
        secrets = (
            held.strip()
            for name, held in self._environ.items()
            if name in self._secret_names or _SECRET_NAME.search(name)
        )
        part = len(value) >= _LEAST_PART
        return bool(_PRIVATE.search(value)) or any(
            held in value or (part and value in held) for held in secrets if held
        )

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of the closed range."""
        return self.value(name, default, integer(low, high))

    def optional_integer(self, name: str, low: int, high: int) -> int | None:
        """A whole number of the closed range; None when unset."""
        return self.value(name, None, integer(low, high))

    def choice(self, name: str, default: str | None, choices: tuple[str, ...]) -> str | None:
        """One of the words, in any case."""
        words = choice(choices)
        return self.parsed(name, default, lambda text: words.read(text.lower()), words.takes)

    def value(self, name: str, default: D, reader: Reader[T]) -> T | D:
        """The value through ``reader``, or ``default``."""
        return self.parsed(name, default, reader.read, reader.takes)
