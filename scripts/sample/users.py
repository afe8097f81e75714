"""The sample's users: every plan with every mix of addresses, preferences and channel settings.

No real person can be reached: the addresses are in example.com, the phone numbers in the range
reserved for fiction (555-0100 to 555-0199), and the Telegram ids exceed the 52 bits of real ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PLANS = ("free", "personal", "trader", "pro", "enterprise")
TELEGRAM_PREFIX = "90000000000000"  # and two digits
PHONE_PREFIX = "+120255501"  # and two digits


class Preference(NamedTuple):
    """A row of ``user_alert_prefs``; None means any."""

    region: str | None = None
    alert_type: str | None = None
    asset: str | None = None
    threshold: float | None = None
    enabled: bool = True


class ChannelPreference(NamedTuple):
    """A row of ``user_channel_prefs``."""

    channel: str
    enabled: bool = True
    digest_only: bool = False


@dataclass(frozen=True)
class SampleUser:
    """A user with its related rows; ``plan`` None means no row in ``user_plans``."""

    email: str | None
    email_verified: bool
    telegram_chat_id: str | None
    phone_number: str | None
    plan: str | None
    preferences: tuple[Preference, ...]
    channel_preferences: tuple[ChannelPreference, ...]


class _Addresses(NamedTuple):
    email: bool
    verified: bool
    telegram: bool
    phone: bool


_ADDRESSES = (
    _Addresses(email=True, verified=True, telegram=False, phone=False),
    _Addresses(email=True, verified=True, telegram=True, phone=True),
    _Addresses(email=True, verified=True, telegram=True, phone=False),
    _Addresses(email=True, verified=True, telegram=False, phone=True),
    _Addresses(email=True, verified=False, telegram=True, phone=False),
    _Addresses(email=True, verified=False, telegram=False, phone=False),
    _Addresses(email=True, verified=True, telegram=True, phone=True),
    _Addresses(email=False, verified=False, telegram=True, phone=True),
    _Addresses(email=False, verified=False, telegram=True, phone=False),
    _Addresses(email=False, verified=False, telegram=False, phone=True),
    _Addresses(email=True, verified=True, telegram=False, phone=False),
    _Addresses(email=False, verified=False, telegram=False, phone=False),
)

_EVENT, _REGION, _ASSET = "HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE"
_PREFERENCES: tuple[tuple[Preference, ...], ...] = (
    (),  # the default: high-impact events of Europe
    (Preference(),),  # matches everything
    (Preference("Europe"), Preference("Global", _EVENT, threshold=4)),  # two rows, one alert
    (Preference("eUROPE", _REGION, threshold=50), Preference("BLACK sea", _EVENT)),
    (Preference(None, _ASSET, "oil", 70), Preference(None, _EVENT)),
    (Preference("Global", None, None, 90),),  # only the rarest spikes, no events
    (Preference("Europe", enabled=False), Preference(None, _EVENT, enabled=False)),  # nothing
    (Preference("Middle East", _EVENT, threshold=4), Preference("Black Sea", _EVENT, threshold=5)),
    (Preference("Europe", _ASSET, "oil", 80), Preference("Europe", _REGION)),
    (Preference("North America"), Preference("Europe", enabled=False)),
    (Preference("Global", _EVENT, threshold=5),),
    (Preference("north america", _ASSET, "gas", 70), Preference(None, _EVENT)),
    (Preference(None, _REGION, threshold=70), Preference("Global", _EVENT)),
    (Preference(None, _ASSET, "freight"), Preference("Europe", _EVENT)),  # no freight series
    (Preference("Europe", None, None, 101),),  # a threshold that nothing reaches
)
_CHANNEL_PREFERENCES: tuple[tuple[ChannelPreference, ...], ...] = (
    (),
    (ChannelPreference("email", digest_only=True),),
    (),
    (ChannelPreference("telegram", enabled=False), ChannelPreference("sms", digest_only=True)),
    (),
    (ChannelPreference("email", enabled=False), ChannelPreference("telegram", digest_only=True)),
    (ChannelPreference("account", enabled=False), ChannelPreference("sms", enabled=False)),
)


def sample_users() -> list[SampleUser]:
    """All users, always the same and in the same order."""
    return list(_numbered_users())


def _numbered_users() -> Iterator[SampleUser]:
    # The three lists have different lengths, so each plan gets every mix of addresses once, with
    # different preferences from the previous plan.
    for index, plan in enumerate(PLANS):
        for place in range(len(_ADDRESSES)):
            number = index * len(_ADDRESSES) + place
            yield _user(f"{plan}{place + 1:02d}", plan, number)
    # Both of these are implicitly on the free plan.
    yield _user("no-plan", None, number=60)
    yield _user("retired-plan", "legacy-gold", number=63)


def _user(name: str, plan: str | None, number: int) -> SampleUser:
    addresses = _ADDRESSES[number % len(_ADDRESSES)]
    return SampleUser(
        email=f"{name}@example.com" if addresses.email else None,
        email_verified=addresses.verified,
        telegram_chat_id=f"{TELEGRAM_PREFIX}{number:02d}" if addresses.telegram else None,
        phone_number=f"{PHONE_PREFIX}{number:02d}" if addresses.phone else None,
        plan=plan,
        preferences=_PREFERENCES[number % len(_PREFERENCES)],
        channel_preferences=_CHANNEL_PREFERENCES[number % len(_CHANNEL_PREFERENCES)],
    )
