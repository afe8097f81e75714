"""Sends the owner a message through a real adapter, within a bounded time."""

from __future__ import annotations

import logging
import threading
import time

from alerts.channels import build_channels
from alerts.channels.base import Message, Moved
from alerts.channels.provider import CallOptions
from alerts.failures import DeliveryError, FailureCode
from alerts.messages import Notice, render_notice
from alerts.phases.context import Stop
from alerts.settings.config import Settings
from alerts.settings.owner import VARIABLES

OPTIONS: CallOptions = {"timeout": 3.0, "answer": 6.0, "connections": 1}
CALL_SECONDS = 8.0
_LOOK_SECONDS = 0.1  # how often a waiting call looks for a signal

log = logging.getLogger("alerts.owner")


def send(
    settings: Settings,
    channel: str,
    notice: Notice,
    key: str,
    *,
    seconds: float = CALL_SECONDS,
    stop: Stop | None = None,
) -> None:
    """Send the notice to the owner's address on the channel, and to nobody else.

    ``key`` is that of :class:`Message`. Raises :class:`DeliveryError`; ``outcome_unknown`` where
    the call has not ended in time or the run was told to stop.
    """
    address = settings.owner.addresses.get(channel)
    if address is None:
        detail = f"{VARIABLES[channel]} is not set"
        raise DeliveryError(FailureCode.MISSING_DESTINATION, detail)
    if channel not in settings.channels.providers:
        broken = channel in settings.channels.misconfigured
        code = FailureCode.MISCONFIGURED if broken else FailureCode.CHANNEL_NOT_CONFIGURED
        raise DeliveryError(code, f"{channel} cannot be used with the settings there are")
    rendered = render_notice(channel, notice)
    message = Message(key, address, rendered.text, rendered.subject, rendered.html)
    _bounded(settings, channel, message, seconds, stop or Stop())


def _bounded(
    settings: Settings, channel: str, message: Message, seconds: float, stop: Stop
) -> None:
    failure: list[DeliveryError] = []
    thread = threading.Thread(
        target=_call, args=(settings, channel, message, failure), name="alerts-owner", daemon=True
    )
    thread.start()
    ends = time.monotonic() + seconds
    while thread.is_alive() and time.monotonic() < ends and not stop.signal:
        thread.join(_LOOK_SECONDS)
    if thread.is_alive():
        raise DeliveryError(FailureCode.OUTCOME_UNKNOWN, f"{channel}: no answer in time")
    if failure:
        raise failure[0]


def _call(settings: Settings, channel: str, message: Message, failure: list[DeliveryError]) -> None:
    try:
        adapters = build_channels(settings.channels, OPTIONS)
        try:
            taken = adapters[channel].send(message)
        finally:
            for adapter in adapters.values():
                adapter.close()
        if isinstance(taken, Moved):
            log.warning("the owner's chat has a new number", extra={"variable": VARIABLES[channel]})
    except DeliveryError as error:
        failure.append(error)
    except Exception as error:  # a bug of the adapter
        detail = f"{channel}: {type(error).__name__}"
        failure.append(DeliveryError(FailureCode.OUTCOME_UNKNOWN, detail))
