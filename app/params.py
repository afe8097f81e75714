"""Query parameters: typed, bounded, and 400 with the parameter's name for anything else."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from flask import request

from app.errors import ApiError

T = TypeVar("T")


class Params:
    """The request's query parameters, of which only ``names`` are known."""

    def __init__(self, *names: str) -> None:
        for name, values in request.args.lists():
            if name not in names:
                known = ", ".join(names) or "none"
                # The name comes from outside: only what could be one is repeated.
                shown = name if re.fullmatch(r"[\w.-]{1,40}", name, re.ASCII) else "(not shown)"
                raise _bad(shown, f"is not known here; known: {known}")
            if len(values) > 1:
                raise _bad(name, "is given more than once")

    def parsed(self, name: str, default: T, parse: Callable[[str], T], takes: str) -> T:
        """The value through ``parse`` (which raises ValueError), or ``default``."""
        value = request.args.get(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError:
            raise _bad(name, f"takes {takes}") from None

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number of the closed range."""

        def parse(text: str) -> int:
            if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) or not low <= int(text) <= high:
                raise ValueError
            return int(text)

        return self.parsed(name, default, parse, f"a whole number from {low} to {high}")

    def boolean(self, name: str) -> bool:
        """``true``, ``false``, ``1`` or ``0``; false when absent."""
        words = {"true": True, "1": True, "false": False, "0": False}

        def parse(text: str) -> bool:
            if text not in words:
                raise ValueError
            return words[text]

        return self.parsed(name, False, parse, "true, false, 1 or 0")

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        """One of the words; None when absent."""

        def parse(text: str) -> str | None:
            if text not in choices:
                raise ValueError
            return text

        return self.parsed(name, None, parse, " or ".join(choices))


def _bad(name: str, what: str) -> ApiError:
    return ApiError(400, "bad_parameter", f"Parameter {name} {what}.")
