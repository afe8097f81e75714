"""A model of fan-out's rules in plain Python, one user and channel at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

CHANNELS = ("email", "telegram", "sms", "account")
AMSTERDAM = ZoneInfo("Europe/Amsterdam")


@dataclass(frozen=True)
class Plan:
    types: tuple[str, ...]
    max_per_day: int | None
    realtime_limit: int | None
    column_maximum: int
    telegram: tuple[bool, bool]  # enabled, send_all
    sms: tuple[bool, bool]
    show_all: bool | None
    active: bool | None


@dataclass(frozen=True)
class Preference:
    alert_type: str | None = None
    region: str | None = None
    asset: str | None = None
    threshold: float | None = None
    enabled: bool = True


@dataclass(frozen=True)
class Event:
    alert_type: str
    region: str | None
    assets: tuple[str, ...]
    severity: int
    risk_score: float | None


@dataclass(frozen=True)
class Delivery:
    """An existing one; `event` is its index among the events to fan out, None for another event."""

    event: int | None
    channel: str
    kind: str
    status: str
    created_at: datetime


@dataclass(frozen=True)
class User:
    plan: str | None
    addresses: dict[str, str | None]
    email_verified: bool | None
    preferences: tuple[Preference, ...]
    channels: dict[str, tuple[bool, bool]]  # enabled, digest_only
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True)
class World:
    now: datetime
    plans: dict[str, Plan]
    users: tuple[User, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Verdict:
    reason: str | None = None
    kind: str | None = None
    overflow: bool = False


@dataclass
class Model:
    """Fan out the world's events; `made` are the deliveries by user number."""

    world: World
    made: dict[int, list[Delivery]] = field(default_factory=dict)

    def fan_out(self, number: int) -> dict[tuple[int, str], Verdict]:
        """Return one event's verdicts by user number and channel, and the deliveries created."""
        found = {
            (who, channel): self._decide(number, who, channel)
            for who in range(len(self.world.users))
            for channel in CHANNELS
        }
        for (who, channel), verdict in found.items():
            if verdict.kind:
                status = "sent" if channel == "account" else "queued"
                delivery = Delivery(number, channel, verdict.kind, status, self.world.now)
                self.made.setdefault(who, []).append(delivery)
        return found

    def _decide(self, number: int, who: int, channel: str) -> Verdict:
        event, user = self.world.events[number], self.world.users[who]
        code, plan = plan_of(user, self.world.plans)
        there = [*user.deliveries, *self.made.get(who, [])]
        there = [delivery for delivery in there if delivery.channel == channel]
        enabled, digest_only = user.channels.get(channel, (True, False))
        allowed, instant_number = limit(plan, channel)
        if not {"ALL", event.alert_type} & set(plan.types):
            return Verdict("plan_type")
        if not wants(user, event) or not enabled or (channel == "sms" and digest_only):
            return Verdict("prefs")
        if channel != "account" and not address(user, channel):
            return Verdict("missing_destination")
        if not allowed:
            return Verdict("channel_not_in_plan")
        if any(d.event == number and d.kind in ("instant", "digest") for d in there):
            return Verdict("exists")
        if channel == "account":
            return Verdict(kind="instant")
        used_up = instant_number is not None and self._used(there) >= instant_number
        if channel == "sms":
            return Verdict("quota") if used_up else Verdict(kind="instant")
        if code == "free" or digest_only or instant_number == 0:
            return Verdict(kind="digest")
        return Verdict(kind="digest" if used_up else "instant", overflow=used_up)

    def _used(self, there: Iterable[Delivery]) -> int:
        """Count the instant deliveries of the current product day."""
        now = self.world.now
        return sum(
            d.kind == "instant"
            and d.status in ("queued", "sent")
            and d.created_at <= now
            and d.created_at.astimezone(AMSTERDAM).date() == now.astimezone(AMSTERDAM).date()
            for d in there
        )


def plan_of(user: User, plans: dict[str, Plan]) -> tuple[str, Plan]:
    code = (user.plan or "free").lower()
    if code in plans and plans[code].active is not False:
        return code, plans[code]
    return "free", plans["free"]


def limit(plan: Plan, channel: str) -> tuple[bool, int | None]:
    """Whether the plan allows the channel, and its instant limit (None: no limit)."""
    maximum = plan.column_maximum if plan.max_per_day is None else plan.max_per_day
    instant = maximum if plan.realtime_limit is None else plan.realtime_limit
    if channel == "email":
        return True, instant
    if channel == "account":
        return plan.show_all is not False, None
    enabled, send_all = plan.telegram if channel == "telegram" else plan.sms
    if not enabled:
        return False, 0
    return True, maximum if send_all else instant


def address(user: User, channel: str) -> str | None:
    if channel == "email" and user.email_verified is False:
        return None
    return user.addresses[channel]


def wants(user: User, event: Event) -> bool:
    default = Preference("HIGH_IMPACT_EVENT", "Europe", None, 4)
    rows = user.preferences or (default,)
    return any(row.enabled and matches(row, event) for row in rows)


def matches(row: Preference, event: Event) -> bool:
    if row.alert_type is not None and row.alert_type != event.alert_type:
        return False
    if row.region is not None and event.region is not None:
        regions = {row.region.lower(), event.region.lower()}
        if "global" not in regions and len(regions) > 1:
            return False
    if row.asset is not None and row.asset not in event.assets:
        return False
    if row.threshold is None:
        return True
    high_impact = event.alert_type == "HIGH_IMPACT_EVENT"
    measure = event.severity if high_impact else event.risk_score
    return measure is not None and measure >= row.threshold
