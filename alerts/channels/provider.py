"""A provider's declaration: its variables, its channels and how its adapter is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar, cast

from alerts.channels.base import Channel
from alerts.settings.env import EnvReader, Secret, parse_origin

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Variable(Generic[T_co]):
    """An environment variable; a ``secret`` one is read as :class:`Secret`."""

    name: str
    read: Callable[[EnvReader], T_co | None]
    secret: bool = False

    def is_set(self, env: EnvReader) -> bool:
        """Whether it has a value, also one that does not parse."""
        return env.raw(self.name) is not None


def text_variable(name: str) -> Variable[str]:
    """Any text."""
    return Variable(name, lambda env: env.text(name))


def secret_variable(name: str) -> Variable[Secret]:
    """Text that must not be shown."""
    return Variable(name, lambda env: env.secret(name), secret=True)


def origin_variable(name: str, default: str) -> Variable[str]:
    """The origin of an HTTP API: scheme, host and port."""
    takes = f"scheme, host and port only, like {default}"
    return Variable(name, lambda env: env.parsed(name, default, parse_origin, takes))


@dataclass(frozen=True)
class Values:
    """What the variables hold, and the texts that say so, by name."""

    by_name: Mapping[str, object]
    texts: Mapping[str, Secret | None]

    def get(self, variable: Variable[T]) -> T | None:
        """Return the value with the variable's type, or None if unset."""
        return cast("T | None", self.by_name.get(variable.name))

    def __getitem__(self, variable: Variable[T]) -> T:
        """Return the value of a required variable; raises ValueError if unset."""
        value = self.get(variable)
        if value is None:
            raise ValueError(f"{variable.name} is not set, though its channel is configured")
        return value


class CallOptions(TypedDict):
    """Limits for provider calls.

    ``timeout``: seconds for each step until the message is handed over; ``answer``: seconds for
    the answer after that; ``connections``: the maximum number kept open.
    """

    timeout: float
    answer: float
    connections: int


@dataclass(frozen=True)
class Provider:
    """One way to send on ``channels``.

    Setting any of the ``credentials`` selects the provider; its configuration is complete with all
    of them and all of ``requires``. A provider without credentials is used only if it is selected
    by name, and then for every channel it supports that has no other provider.
    """

    name: str
    channels: tuple[str, ...]
    build: Callable[[Values, str, CallOptions], Channel]  # the str is the channel's name
    credentials: tuple[Variable[object], ...] = ()
    requires: tuple[Variable[object], ...] = ()
    optional: tuple[Variable[object], ...] = ()
    title: str = ""  # its name within a sentence

    @property
    def variables(self) -> tuple[Variable[object], ...]:
        """All variables that the provider reads."""
        return (*self.credentials, *self.requires, *self.optional)

    def begun_by(self, env: EnvReader) -> str | None:
        """Return the name of the first credential that is set, or None."""
        return next((v.name for v in self.credentials if v.is_set(env)), None)

    def missing(self, env: EnvReader) -> list[str]:
        """Return the names of required variables that are not set."""
        return [v.name for v in (*self.credentials, *self.requires) if not v.is_set(env)]
