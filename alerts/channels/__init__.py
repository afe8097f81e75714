"""The channels: one table of providers, with one adapter module per provider."""

from __future__ import annotations

import json

from alerts.channels import brevo, outbox, resend, smtp, telegram, twilio
from alerts.channels.base import Channel
from alerts.channels.choosing import ChannelSettings
from alerts.channels.provider import CallOptions, Provider

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


def provider_named(name: str | None) -> Provider | None:
    """The provider of that name; None where there is none."""
    return _BY_NAME.get(name or "")


def build_channels(settings: ChannelSettings, options: CallOptions) -> dict[str, Channel]:
    """Return one adapter per configured channel, keyed by channel name.

    No connection is opened before the first message.
    """
    return {
        channel: _BY_NAME[provider].build(settings.values, channel, options)
        for channel, provider in settings.providers.items()
    }


def settings_text(settings: ChannelSettings, channel: str) -> str:
    """All that a channel is built from, secrets included: to be hashed, never kept or shown."""
    provider = _BY_NAME.get(settings.providers.get(channel, ""))
    if provider is None:
        return ""
    texts = [settings.values.texts[variable.name] for variable in provider.variables]
    return json.dumps([provider.name, *(text and text.reveal() for text in texts)])
