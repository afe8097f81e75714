"""Phase B against a model: random users, plans, preferences, history and events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, given, settings
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.phases.decisions import SKIP_REASONS
from tests.support.fanout_model import (
    CHANNELS,
    Delivery,
    Event,
    Model,
    Plan,
    Preference,
    User,
    World,
)
from tests.support.phases import add_plan, allow_null, counts, decide, utc
from tests.support.world import (
    NOW,
    add_alert,
    add_channel_pref,
    add_delivery,
    add_pref,
    add_user,
    query,
    value,
)

TYPES = ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE")
REGIONS = ("Europe", "EUROPE", "Asia", "Global", "global", None)
CODES = ("free", "custom", "other")
# Late on days of 24, 23 and 25 hours, and the ages around their starts.
TIMES = (NOW, utc("2022-03-27 21:30"), utc("2022-10-30 22:30"))
AGES = (-1.0, 0.0, 5.0, 18.9, 19.0, 19.1, 22.4, 22.5, 22.6, 24.4, 24.5, 24.6)


def rarely(value: Any, otherwise: Any) -> Any:
    """`value` now and then: else few examples would get past the first rules."""
    return st.sampled_from([otherwise, otherwise, otherwise, value])


def pairs() -> Any:
    return st.tuples(rarely(False, True), st.booleans())


def plans() -> Any:
    small = st.sampled_from([None, 0, 1, 2, 3])
    return st.builds(
        Plan,
        types=st.sampled_from([("ALL",), ("ALL",), TYPES, TYPES[:1], TYPES[1:], ()]),
        max_per_day=small,
        realtime_limit=small,
        column_maximum=st.integers(0, 3),
        telegram=pairs(),
        sms=pairs(),
        show_all=st.sampled_from([True, True, False, None]),
        active=st.sampled_from([True, True, False, None]),
    )


def preferences() -> Any:
    return st.builds(
        Preference,
        alert_type=st.sampled_from([None, *TYPES]),
        region=st.sampled_from(REGIONS),
        asset=st.sampled_from([None, None, "gas", "oil"]),
        threshold=st.sampled_from([None, 3, 4, 70.5]),
        enabled=rarely(False, True),
    )


def events() -> Any:
    return st.builds(
        Event,
        alert_type=st.sampled_from(TYPES),
        region=st.sampled_from(REGIONS),
        assets=st.sampled_from([(), ("gas",), ("oil", "gas")]),
        severity=st.integers(3, 5),
        risk_score=st.sampled_from([None, 70.0, 70.5, 90.0]),
    )


def past(now: datetime) -> Any:
    """Deliveries that are there, mostly of other events."""
    return st.builds(
        Delivery,
        event=st.sampled_from([None, None, 0, 1]),
        channel=st.sampled_from(CHANNELS),
        kind=st.sampled_from(["instant", "instant", "digest", "weekly_report"]),
        status=st.sampled_from(["queued", "sending", "sent", "failed", "skipped"]),
        created_at=st.sampled_from([now - timedelta(hours=age) for age in AGES]),
    )


def users(now: datetime) -> Any:
    return st.builds(
        User,
        plan=st.sampled_from([None, "custom", "custom", "CUSTOM", "Other", "free", "gone"]),
        addresses=st.fixed_dictionaries(
            {channel: rarely(None, "x") for channel in ("email", "telegram", "sms")}
        ),
        email_verified=st.sampled_from([True, None, False]),
        preferences=st.lists(preferences(), max_size=3).map(tuple),
        channels=st.dictionaries(st.sampled_from(CHANNELS), pairs(), max_size=2),
        deliveries=st.lists(
            past(now),
            max_size=5,
            unique_by=lambda d: (d.event, d.channel, d.kind) if d.event is not None else object(),
        ).map(tuple),
    )


@st.composite
def worlds(draw: Any) -> World:
    now = draw(st.sampled_from(TIMES))
    return World(
        now=now,
        plans={code: draw(plans()) for code in CODES},
        users=tuple(draw(st.lists(users(now), min_size=1, max_size=4))),
        events=tuple(draw(st.lists(events(), min_size=2, max_size=3))),
    )


def build(conn: Connection, world: World) -> tuple[list[int], list[int]]:
    """Makes the database hold the world; the ids of its users and of its events."""
    for table in ("user_alert_deliveries", "alert_events", "users", "plan_settings"):
        db.execute(conn, f"DELETE FROM {table}")
    for code, plan in world.plans.items():
        add_plan(
            conn,
            code,
            types=plan.types,
            max_email=plan.column_maximum,
            active=plan.active,
            config={
                "email": {"max_per_day": plan.max_per_day, "realtime_limit": plan.realtime_limit},
                "telegram": dict(zip(("enabled", "send_all"), plan.telegram, strict=True)),
                "sms": dict(zip(("enabled", "send_all"), plan.sms, strict=True)),
                "account": {"show_all": plan.show_all},
            },
        )
    event_ids = [
        add_alert(
            conn,
            alert_type=event.alert_type,
            region=event.region,
            assets=event.assets,
            severity=event.severity,
            risk_score=event.risk_score,
            created_at=world.now - timedelta(minutes=5),
        )
        for event in world.events
    ]
    return [_build_user(conn, user, event_ids, world.now) for user in world.users], event_ids


def _build_user(conn: Connection, user: User, event_ids: Sequence[int], now: datetime) -> int:
    user_id = add_user(
        conn,
        user.plan,
        email=user.addresses["email"],
        email_verified=user.email_verified,  # type: ignore[arg-type]
        telegram=user.addresses["telegram"],
        phone=user.addresses["sms"],
    )
    for row in user.preferences:
        add_pref(conn, user_id, **vars(row))
    for channel, (enabled, digest_only) in user.channels.items():
        add_channel_pref(conn, user_id, channel, enabled=enabled, digest_only=digest_only)
    for old in user.deliveries:
        if old.event is None:  # an event of before the window, done
            event_id = add_alert(conn, created_at=now - timedelta(days=3))
            db.execute(
                conn,
                "UPDATE alert_events SET fanout_completed_at = created_at WHERE id = %s",
                (event_id,),
            )
        else:
            event_id = event_ids[old.event]
        options = {"kind": old.kind, "status": old.status, "created_at": old.created_at}
        add_delivery(conn, user_id, event_id, old.channel, **options)
    return user_id


def in_order(world: World) -> list[int]:
    """The numbers of the events as fan-out takes them; all are of one time."""
    return sorted(range(len(world.events)), key=lambda n: (-world.events[n].severity, n))


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking takes minutes; worlds are small already
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(world=worlds())
def test_every_verdict_is_the_models(database_url: str, conn: Connection, world: World) -> None:
    allow_null(conn, "users", "email_verified")
    user_ids, event_ids = build(conn, world)
    model, order = Model(world), in_order(world)
    expected = [model.fan_out(number) for number in order]

    first = decide(conn, event_ids[order[0]], world.now)
    assert {(row["user_id"], row["channel"]): row["reason"] or row["kind"] for row in first} == {
        (user_ids[who], channel): verdict.reason or verdict.kind
        for (who, channel), verdict in expected[0].items()
    }

    newest = value(conn, "SELECT coalesce(max(id), 0) FROM user_alert_deliveries")
    counted = counts(database_url, "b", now=world.now)
    reasons = Counter(v.reason for verdicts in expected for v in verdicts.values())
    kinds = Counter(v.kind for verdicts in expected for v in verdicts.values())
    overflow = sum(v.overflow for verdicts in expected for v in verdicts.values())
    created = reasons.pop(None, 0)
    assert counted == {
        "events_processed": len(event_ids),
        "events_expired": 0,
        "deliveries_considered": 4 * len(user_ids) * len(event_ids),
        "deliveries_created": created,
        "instant_created": kinds["instant"],
        "digest_created": kinds["digest"],
        "overflow_to_digest": overflow,
        "allowlist_active": False,
        **{f"deliveries_skipped_{reason}": reasons[reason] for reason in SKIP_REASONS},
    }
    rows = query(conn, "SELECT * FROM user_alert_deliveries WHERE id > %s", newest)
    assert sorted(
        (row["alert_event_id"], row["user_id"], row["channel"], row["delivery_kind"], row["status"])
        for row in rows
    ) == sorted(
        (event_ids[d.event], user_ids[who], d.channel, d.kind, d.status)
        for who, of_user in model.made.items()
        for d in of_user
        if d.event is not None
    )
