"""The channels: one table of providers, each with its adapter in a module of its own."""

from __future__ import annotations

from alerts.channels import brevo, outbox, resend, smtp, telegram, twilio
from alerts.channels.base import Channel
from alerts.channels.choosing import ChannelSettings
from alerts.channels.misconfigured import MisconfiguredChannel
from alerts.channels.provider import CallOptions

PROVIDERS = (
    smtp.PROVIDER,
    brevo.PROVIDER,
    resend.PROVIDER,
    telegram.PROVIDER,
    twilio.PROVIDER,
    outbox.PROVIDER,
)
SECRET_NAMES = frozenset(
    variable.name for provider in PROVIDERS for variable in provider.variables if variable.secret
)
_BY_NAME = {provider.name: provider for provider in PROVIDERS}


def build_channels(settings: ChannelSettings, options: CallOptions) -> dict[str, Channel]:
    """One adapter for each channel that was begun, by the channel's name.

    Nothing is connected to before the first message.
    """
    return {
        channel: _BY_NAME[provider].build(settings.values, channel, options)
        for channel, provider in settings.providers.items()
    } | stand_ins(settings)


def stand_ins(settings: ChannelSettings) -> dict[str, Channel]:
    """For each channel that cannot be used one that refuses: its messages wait, untried."""
    return {name: MisconfiguredChannel(names) for name, names in settings.misconfigured.items()}
