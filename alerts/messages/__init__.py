"""Renders messages for each channel. Pure: the same alert always gives the same text.

All untrusted text is sanitized here; adapters pass the result on unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from alerts.messages import mail, sms, telegram
from alerts.messages.model import Alert, Notice, Rendered, Style

__all__ = [
    "Alert",
    "Notice",
    "Rendered",
    "Style",
    "render_alert",
    "render_digest",
    "render_notice",
]

_ALERTS: dict[str, Callable[[Alert, Style], Rendered]] = {
    "email": mail.render_alert,
    "telegram": telegram.render_alert,
    "sms": sms.render_alert,
}
_DIGESTS: dict[str, Callable[[Sequence[Alert], str, datetime, datetime, Style], Rendered]] = {
    "email": mail.render_digest,
    "telegram": telegram.render_digest,
}

_NOTICES: dict[str, Callable[[Notice], Rendered]] = {
    "email": mail.render_notice,
    "telegram": telegram.render_notice,
}


def render_alert(channel: str, alert: Alert, style: Style) -> Rendered:
    """Render one alert; raises ValueError for a channel that sends nothing."""
    render = _ALERTS.get(channel)
    if render is None:
        raise ValueError(f"no alerts on channel {channel!r}; there are {', '.join(_ALERTS)}")
    return render(alert, style)


def render_digest(
    channel: str,
    alerts: Sequence[Alert],
    period: str,
    window_start: datetime,
    window_end: datetime,
    style: Style,
) -> Rendered:
    """Render the digest of a window's alerts, given in any order.

    ``period`` is ``daily`` or ``hourly``; the window's ends are timezone-aware. Raises ValueError
    for a channel without digests.
    """
    render = _DIGESTS.get(channel)
    if render is None:
        raise ValueError(f"no digests on channel {channel!r}; there are {', '.join(_DIGESTS)}")
    return render(alerts, period, window_start, window_end, style)


def render_notice(channel: str, notice: Notice) -> Rendered:
    """Render a notice to the owner; raises ValueError for a channel that has none."""
    render = _NOTICES.get(channel)
    if render is None:
        raise ValueError(f"no notices on channel {channel!r}; there are {', '.join(_NOTICES)}")
    return render(notice)
