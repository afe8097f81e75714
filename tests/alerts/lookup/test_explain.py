"""Explaining says what fan-out does: over the random worlds of the model, and for each end."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.lookup.explain import explain
from alerts.phases.decisions import SKIP_REASONS
from tests.alerts.phases.test_fanout_model import World, build, worlds
from tests.support.phases import allow_null, counts
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_pref,
    add_user,
    query,
    settings_for,
)

SETTINGS = settings_for("postgresql://unused")


def explained(
    conn: Connection, event: int, user: int, now: Any = NOW, **environ: str
) -> dict[str, dict[str, Any]]:
    chosen = settings_for("postgresql://unused", **environ) if environ else SETTINGS
    answer = explain(conn, chosen, event_id=event, user_id=user, now=now)
    assert isinstance(answer, dict), answer
    return {channel["channel"]: channel for channel in answer["channels"]}


@settings(
    max_examples=40, derandomize=True, deadline=None, database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(world=worlds())
def test_explaining_equals_fanning_out(database_url: str, conn: Connection, world: World) -> None:
    allow_null(conn, "users", "email_verified")
    users, events = build(conn, world)
    event, others = events[0], events[1:]
    db.execute(conn, "UPDATE alert_events SET fanout_completed_at = %s WHERE id = ANY (%s)",
               (world.now, others))  # fmt: skip
    before = {user: explained(conn, event, user, world.now) for user in users}
    there = {
        (row["user_id"], row["channel"])
        for row in query(conn, "SELECT * FROM user_alert_deliveries WHERE alert_event_id = %s"
                         " AND delivery_kind IN ('instant', 'digest')", event)
    }  # fmt: skip
    counted = counts(database_url, "b", now=world.now)
    made = {
        (row["user_id"], row["channel"]): row["delivery_kind"]
        for row in query(conn, "SELECT * FROM user_alert_deliveries WHERE alert_event_id = %s"
                         " AND delivery_kind IN ('instant', 'digest') ORDER BY id DESC", event)
    }  # fmt: skip
    reasons: Counter[str] = Counter()
    for user, channels in before.items():
        after = explained(conn, event, user, world.now)
        for name, told in channels.items():
            assert told["taken"] is ((user, name) in there)
            if (user, name) in there:
                assert told["delivery"]
                reasons[told.get("today", "exists")] += 1
                continue
            expected = "created" if (user, name) in made else told["decision"]
            assert told["decision"] == expected
            assert told["kind"] == made.get((user, name))
            reasons[told["decision"]] += 1
            assert after[name]["taken"]
            assert after[name]["decision"] == told["decision"]
            assert bool(after[name]["delivery"]) is ((user, name) in made)
    assert {reason: counted[f"deliveries_skipped_{reason}"] for reason in SKIP_REASONS} == {
        reason: reasons[reason] for reason in SKIP_REASONS
    }
    assert counted["deliveries_created"] == reasons["created"]


SENT = {"status": "sent", "sent_at": NOW}


def test_what_happened_stands_though_todays_rules_say_otherwise(conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn)
    add_delivery(conn, user, event, **SENT)
    add_pref(conn, user, region="Asia")
    told = explained(conn, event, user)["email"]
    assert (told["decision"], told["today"], told["taken"]) == ("created", "prefs", True)


def test_inputs_that_changed_since_are_not_passed_off_as_the_decision(conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn)
    db.execute(conn, "UPDATE alert_events SET fanout_completed_at = %s", (NOW,))
    assert explained(conn, event, user)["email"]["decision"] == "changed_since"


def test_the_allowlist_and_the_age_of_an_event_are_told(conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn)
    told = explained(conn, event, user, ALERTS_SEND_ALLOWLIST_USER_IDS="999999")
    assert {channel["decision"] for channel in told.values()} == {"not_in_allowlist"}
    later = explained(conn, event, user, NOW + timedelta(hours=25))
    assert later["email"]["decision"] == "fanout_expired"


def test_unknown_ids_and_events_of_the_future_are_not_there(conn: Connection) -> None:
    user, event = add_user(conn), add_alert(conn, created_at=NOW)
    asked = {"event_id": event, "user_id": user, "now": NOW}
    assert isinstance(explain(conn, SETTINGS, **asked), dict)
    assert explain(conn, SETTINGS, **{**asked, "event_id": event + 1}) == "event"
    assert explain(conn, SETTINGS, **{**asked, "user_id": user + 1}) == "user"
    assert explain(conn, SETTINGS, **{**asked, "now": NOW - timedelta(seconds=1)}) == "event"
