"""Which provider serves which channel, as the environment says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.channels.names import KINDS, SEND_CHANNELS
from alerts.channels.provider import Provider, Values
from alerts.readers import choice
from alerts.settings.env import EnvReader, Problem


@dataclass(frozen=True)
class ChannelProblem(Problem):
    """A variable that keeps one channel from being used; ``channel`` None: it is of a provider
    that is not in use, and keeps none."""

    channel: str | None


@dataclass(frozen=True)
class ChannelSettings:
    """Providers by channel, and the values of every provider's variables.

    ``providers`` holds names; a channel that is missing there is not configured. ``incomplete``
    says what a channel that was begun still lacks, ``unreadable`` what does not parse.
    """

    providers: Mapping[str, str]
    incomplete: tuple[ChannelProblem, ...]
    unreadable: tuple[ChannelProblem, ...]
    values: Values
    rate_limits_per_minute: Mapping[str, int | None]  # by channel; None: unlimited

    @property
    def misconfigured(self) -> dict[str, list[str]]:
        """By channel that was begun and cannot be used the variables that are to blame."""
        found: dict[str, list[str]] = {}
        for problem in (*self.unreadable, *self.incomplete):
            if problem.channel is not None:
                found.setdefault(problem.channel, []).append(problem.variable)
        return found


def read_channels(env: EnvReader, providers: Sequence[Provider]) -> ChannelSettings:
    """Read all variables of ``providers`` and the channels' limits.

    What does not parse concerns its channel and stops nothing else: it is not noted on ``env``.
    """
    variables = {v.name: v for provider in providers for v in provider.variables}
    with env.apart() as unreadable:
        chosen = {
            channel: provider
            for channel in SEND_CHANNELS
            if (provider := _choose(env, channel, providers))
        }
        values = Values({name: variable.read(env) for name, variable in variables.items()})
        limits = {
            kind.name: env.optional_integer(kind.rate_limit_variable, 1, 1_000_000)
            for kind in KINDS
            if not kind.sent_on_creation
        }
    incomplete = [
        ChannelProblem(name, f"{name} is not set; {channel} through {provider.name} needs it",
                       channel)
        for channel, provider in chosen.items()
        for name in provider.missing(env)
    ]  # fmt: skip
    bad = [
        ChannelProblem(problem.variable, problem.message, channel)
        for problem in unreadable
        for channel in _concerned(problem.variable, chosen)
    ]
    unusable = {problem.channel for problem in (*incomplete, *bad)}
    usable = {name: provider for name, provider in chosen.items() if name not in unusable}
    # A provider without credentials, such as the outbox, takes the channels that have none of
    # their own, so that a demonstration shows every message.
    for provider in [each for each in usable.values() if not each.credentials]:
        left = [name for name in provider.channels if name not in chosen and name not in unusable]
        usable |= dict.fromkeys(left, provider)
    return ChannelSettings(
        providers={name: provider.name for name, provider in usable.items()},
        incomplete=tuple(incomplete),
        unreadable=tuple(bad),
        values=values,
        rate_limits_per_minute=limits,
    )


def _concerned(variable: str, chosen: Mapping[str, Provider]) -> Sequence[str | None]:
    """The channels that cannot be used as long as the variable does not parse; else None."""
    found = [
        kind.name
        for kind in KINDS
        if variable == _choice_variable(kind.name)
        or (kind.name in chosen and variable == kind.rate_limit_variable)
        or (kind.name in chosen and variable in {v.name for v in chosen[kind.name].variables})
    ]
    return found or [None]


def _choice_variable(channel: str) -> str:
    return f"{channel.upper()}_PROVIDER"


def _choose(env: EnvReader, channel: str, providers: Sequence[Provider]) -> Provider | None:
    """The provider that is meant for the channel, complete or not.

    A channel with several of its own has a variable that names one: ``EMAIL_PROVIDER``.
    """
    serving = {each.name: each for each in providers if channel in each.channels}
    begun = {name: by for name, each in serving.items() if (by := each.begun_by(env))}
    if sum(bool(each.credentials) for each in serving.values()) > 1:
        variable, names = _choice_variable(channel), tuple(serving)
        named = env.choice(variable, None, names)
        if named or env.text(variable):
            return serving[named] if named else None
        if len(begun) > 1:
            told = f"is not set while {', '.join(begun.values())} are; it takes"
            env.add_problem(variable, f"{told} {choice(names).takes}")
    return next((serving[name] for name in begun), None)
