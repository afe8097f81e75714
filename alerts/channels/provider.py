"""What a provider declares: its variables, the channels it serves, and how its adapter is built."""

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
    """A variable of the environment; a ``secret`` one is read into :class:`Secret` values."""

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
    """A text that nobody may see."""
    return Variable(name, lambda env: env.secret(name), secret=True)


def origin_variable(name: str, default: str) -> Variable[str]:
    """Where an HTTP API is: scheme, host and port."""
    takes = f"scheme, host and port only, like {default}"
    return Variable(name, lambda env: env.parsed(name, default, parse_origin, takes))


@dataclass(frozen=True)
class Values:
    """What the variables hold, and the texts that say so, by name."""

    by_name: Mapping[str, object]
    texts: Mapping[str, Secret | None]

    def get(self, variable: Variable[T]) -> T | None:
        """The value, of the variable's type; None when unset."""
        return cast("T | None", self.by_name.get(variable.name))

    def __getitem__(self, variable: Variable[T]) -> T:
        """The value of a variable that the provider requires; raises ValueError when unset."""
        value = self.get(variable)
        if value is None:
            raise ValueError(f"{variable.name} is not set, though its channel is configured")
        return value


class CallOptions(TypedDict):
    """How calls are made.

    ``timeout``: seconds for each step until the message is handed over; ``answer``: for the
    answer after that; ``connections``: how many are kept open at most.
    """

    timeout: float
    answer: float
    connections: int


@dataclass(frozen=True)
class Provider:
    """One way to send on ``channels``.

    Setting any of the ``credentials`` says that the provider is meant; it is complete with all of
    them and all of ``requires``. One without credentials is used only where it is chosen by name,
    and then for every channel of its own that has no other provider.
    """

    name: str
    channels: tuple[str, ...]
    build: Callable[[Values, str, CallOptions], Channel]  # the str: for which channel
    credentials: tuple[Variable[object], ...] = ()
    requires: tuple[Variable[object], ...] = ()
    optional: tuple[Variable[object], ...] = ()

    @property
    def variables(self) -> tuple[Variable[object], ...]:
        """All that it reads."""
        return (*self.credentials, *self.requires, *self.optional)

    def begun_by(self, env: EnvReader) -> str | None:
        """The first credential that is set; None when the provider is not meant."""
        return next((v.name for v in self.credentials if v.is_set(env)), None)

    def missing(self, env: EnvReader) -> list[str]:
        """The variables that it needs and that are not set."""
        return [v.name for v in (*self.credentials, *self.requires) if not v.is_set(env)]
