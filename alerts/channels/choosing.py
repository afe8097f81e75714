"""Which provider serves which channel, according to the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alerts.channels.names import SEND_CHANNELS
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

    ``providers`` maps channel names to provider names; a missing channel is not configured.
    ``incomplete`` lists what a partly configured channel still needs.
    """

    providers: Mapping[str, str]
    incomplete: tuple[ChannelProblem, ...]
    values: Values


def read_channels(env: EnvReader, providers: Sequence[Provider]) -> ChannelSettings:
    """Read all variables of ``providers``; invalid values are recorded as problems on ``env``."""
    chosen = {
        channel: provider
        for channel in SEND_CHANNELS
        if (provider := _choose(env, channel, providers))
    }
    incomplete = [
        ChannelProblem(name, f"{name} is not set; {channel} through {provider.name} needs it",
                       channel)
        for channel, provider in chosen.items()
        for name in provider.missing(env)
    ]  # fmt: skip
    lacking = {problem.channel for problem in incomplete}
    complete = {name: provider for name, provider in chosen.items() if name not in lacking}
    # A provider without credentials, such as the outbox, also takes the channels that have no
    # provider, so that a demonstration shows every message.
    for provider in [each for each in complete.values() if not each.credentials]:
        complete |= {name: provider for name in provider.channels if name not in chosen}
    variables = {v.name: v for provider in providers for v in provider.variables}
    return ChannelSettings(
        providers={name: provider.name for name, provider in complete.items()},
        incomplete=tuple(incomplete),
        values=Values({name: variable.read(env) for name, variable in variables.items()}),
    )


def _choose(env: EnvReader, channel: str, providers: Sequence[Provider]) -> Provider | None:
    """Return the provider intended for the channel, even if incompletely configured.

    A channel with several providers has a variable that selects one, such as ``EMAIL_PROVIDER``.
    """
    serving = {each.name: each for each in providers if channel in each.channels}
    begun = {name: by for name, each in serving.items() if (by := each.begun_by(env))}
    if sum(bool(each.credentials) for each in serving.values()) > 1:
        variable, names = f"{channel.upper()}_PROVIDER", tuple(serving)
        named = env.choice(variable, None, names)
        if named or env.text(variable):
            return serving[named] if named else None
        if len(begun) > 1:
            told = f"is not set while {', '.join(begun.values())} are; it takes"
            env.add_problem(variable, f"{told} {choice(names).takes}")
    return next((serving[name] for name in begun), None)
