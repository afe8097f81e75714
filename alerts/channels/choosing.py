"""Which provider serves which channel, according to the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.channels.names import KINDS, SEND_CHANNELS
from alerts.channels.provider import Provider, Values
from alerts.readers import choice
from alerts.settings.env import EnvReader, Problem


@dataclass(frozen=True)
class ChannelProblem(Problem):
    """A variable that prevents one channel from being used."""

    channel: str


@dataclass(frozen=True)
class ChannelSettings:
    """The provider of each channel, and the values of every provider's variables.

    ``providers`` holds names; a channel that is missing there is not configured, or is one of the
    ``off``: switched off by the owner. ``problems`` say what is wrong with, or lacking to, a
    channel that was begun: it alone cannot be used. ``unused`` are problems with variables that
    no channel needs.
    """

    providers: Mapping[str, str]
    problems: tuple[ChannelProblem, ...]
    unused: tuple[Problem, ...]
    off: frozenset[str]
    values: Values

    @property
    def misconfigured(self) -> frozenset[str]:
        """Channels that were begun and cannot be used."""
        return frozenset(problem.channel for problem in self.problems)


def read_channels(
    env: EnvReader, providers: Sequence[Provider], off: frozenset[str] = frozenset()
) -> ChannelSettings:
    """Read all variables of ``providers``; a problem concerns the channels that use the variable.

    ``env`` may have problems already: those with rate limits. It is for the channels alone.
    """
    begun = {
        channel: provider
        for channel in SEND_CHANNELS
        if (provider := _choose(env, channel, providers))
    }
    serving = dict(begun)
    # A provider without credentials, such as the outbox, takes the channels that have none of
    # their own, so that a demonstration shows every message.
    for provider in [each for each in begun.values() if not each.credentials]:
        if not provider.missing(env):
            serving |= {name: provider for name in provider.channels if name not in begun}
    variables = {v.name: v for provider in providers for v in provider.variables}
    values = Values(
        {name: variable.read(env) for name, variable in variables.items()},
        {name: env.secret(name) for name in variables},
    )
    lacking = [
        ChannelProblem(name, f"{name} is not set; {channel} through {provider.name} needs it",
                       channel)
        for channel, provider in begun.items()
        for name in provider.missing(env)
    ]  # fmt: skip
    wrong = [
        ChannelProblem(problem.variable, problem.message, channel)
        for problem in env.problems
        for channel in SEND_CHANNELS
        if problem.variable in _variables_of(channel, serving.get(channel))
    ]
    told = {problem.variable for problem in wrong}
    problems = tuple(each for each in (*lacking, *wrong) if each.channel not in off)
    stopped = {problem.channel for problem in problems}
    return ChannelSettings(
        providers={
            channel: provider.name
            for channel, provider in serving.items()
            if channel not in stopped | off
        },
        problems=problems,
        unused=tuple(each for each in env.problems if each.variable not in told),
        off=off,
        values=values,
    )


def _variables_of(channel: str, provider: Provider | None) -> set[str]:
    """The variables that a channel needs, or that choose its provider."""
    names = {_chooser(channel)}
    if provider is not None:
        names |= {variable.name for variable in provider.variables}
        names |= {kind.rate_limit_variable for kind in KINDS if kind.name == channel}
    return names


def _chooser(channel: str) -> str:
    return f"{channel.upper()}_PROVIDER"


def _choose(env: EnvReader, channel: str, providers: Sequence[Provider]) -> Provider | None:
    """Return the provider intended for the channel, even if incompletely configured.

    A channel with several providers has a variable that selects one, such as ``EMAIL_PROVIDER``.
    """
    serving = {each.name: each for each in providers if channel in each.channels}
    begun = {name: by for name, each in serving.items() if (by := each.begun_by(env))}
    if sum(bool(each.credentials) for each in serving.values()) > 1:
        variable, names = _chooser(channel), tuple(serving)
        named = env.choice(variable, None, names)
        if named or env.text(variable):
            return serving[named] if named else None
        if len(begun) > 1:
            told = f"is not set while {', '.join(begun.values())} are; it takes"
            env.add_problem(variable, f"{told} {choice(names).takes}")
    return next((serving[name] for name in begun), None)
