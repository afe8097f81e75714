"""Phase B: the seven rules, and what preferences, destinations and earlier deliveries mean."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from alerts import db
from tests.support.phases import (
    add_plan,
    allow_null,
    channel_config,
    counts,
    decide,
    deliveries,
    verdicts,
)
from tests.support.world import (
    NOW,
    add_alert,
    add_channel_pref,
    add_delivery,
    add_pref,
    add_user,
    query,
)

CHANNELS = ("email", "telegram", "sms", "account")
REGIONAL = {"alert_type": "REGIONAL_RISK_SPIKE", "risk_score": 75.0, "severity": 3}
ASSET = {"alert_type": "ASSET_RISK_SPIKE", "assets": ("gas",), "risk_score": 75.0, "severity": 3}


def reachable(conn: Connection, plan: str | None = "pro", **columns: Any) -> int:
    """A user with an address on every channel who wants everything."""
    user = add_user(conn, plan, **({"telegram": "77", "phone": "+31600000000"} | columns))
    add_pref(conn, user)
    return user


def of_user(conn: Connection, user: int, event: int) -> dict[str, str]:
    """The verdicts of one user, by channel."""
    return {channel: v for (who, channel), v in verdicts(conn, event).items() if who == user}


def test_first_reason_that_holds_is_the_one_given(conn: Connection) -> None:
    """All six stand in the way of one SMS; each is taken away in turn."""
    add_plan(conn, "custom", types=["ASSET_RISK_SPIKE"], config={})
    user = add_user(conn, "custom")
    add_pref(conn, user, region="Asia")
    event, other = add_alert(conn), add_alert(conn)
    for_event = add_delivery(conn, user, event, "sms", kind="digest")
    add_delivery(conn, user, other, "sms", created_at=NOW)

    def verdict() -> str:
        return of_user(conn, user, event)["sms"]

    assert verdict() == "plan_type"
    db.execute(conn, "UPDATE plan_settings SET allowed_alert_types = '{HIGH_IMPACT_EVENT}'")
    assert verdict() == "prefs"
    add_pref(conn, user, region="Europe")
    assert verdict() == "missing_destination"
    db.execute(conn, "UPDATE users SET phone_number = '+31600000000'")
    assert verdict() == "channel_not_in_plan"
    db.execute(
        conn, "UPDATE plan_settings SET delivery_config = %s", (Json(channel_config(sms=1)),)
    )
    assert verdict() == "exists"
    db.execute(conn, "DELETE FROM user_alert_deliveries WHERE id = %s", (for_event,))
    assert verdict() == "quota"
    db.execute(
        conn, "UPDATE plan_settings SET delivery_config = %s", (Json(channel_config(sms=2)),)
    )
    assert verdict() == "instant"


PREFERENCES: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    # NULL means any
    ({}, {}, True),
    ({}, ASSET, True),
    ({}, {**REGIONAL, "region": None}, True),
    # type
    ({"alert_type": "HIGH_IMPACT_EVENT"}, {}, True),
    ({"alert_type": "REGIONAL_RISK_SPIKE"}, {}, False),
    ({"alert_type": "REGIONAL_RISK_SPIKE"}, REGIONAL, True),
    # region
    ({"region": "Europe"}, {"region": "Europe"}, True),
    ({"region": "eUROPE"}, {"region": "EuroPE"}, True),
    ({"region": "Europe"}, {"region": "Asia"}, False),
    ({"region": "Euro_e"}, {"region": "Europe"}, False),
    ({"region": "Global"}, {"region": "Asia"}, True),
    ({"region": "GLOBAL"}, {"region": "Asia"}, True),
    ({"region": "Global"}, {"region": None}, True),
    ({"region": "Europe"}, {"region": "Global"}, True),
    ({"region": "Europe"}, {"region": "gLOBAL"}, True),
    ({"region": "Europe"}, {"region": None}, True),
    # asset
    ({"asset": "gas"}, ASSET, True),
    ({"asset": "GAS"}, ASSET, True),
    ({"asset": "oil"}, ASSET, False),
    ({"asset": "oil"}, {**ASSET, "assets": ("gas", "oil")}, True),
    ({"asset": "gas"}, REGIONAL, False),
    # threshold: the score, for high impact the severity
    ({"threshold": 75}, REGIONAL, True),
    ({"threshold": 75.1}, REGIONAL, False),
    ({"threshold": 4}, REGIONAL, True),
    ({"threshold": 3}, {**REGIONAL, "risk_score": None}, False),
    ({"threshold": 4}, {"severity": 4}, True),
    ({"threshold": 5}, {"severity": 4}, False),
    ({"threshold": 4}, {"severity": 3, "risk_score": 99.0}, False),
    # disabled
    ({"enabled": False}, {}, False),
    # all of a row together
    ({**ASSET, "region": "Europe", "asset": "gas", "threshold": 70}, ASSET, True),
    ({"region": "Europe", "asset": "gas", "threshold": 80}, ASSET, False),
    ({"region": "Asia", "asset": "gas"}, ASSET, False),
]


def test_preference_matches_by_type_region_asset_and_threshold(conn: Connection) -> None:
    wrong = []
    for preference, alert, matches in PREFERENCES:
        row = {k: v for k, v in preference.items() if k not in ("assets", "risk_score", "severity")}
        user, event = add_user(conn, "pro"), add_alert(conn, **alert)
        add_pref(conn, user, **row)
        if (of_user(conn, user, event)["account"] == "instant") is not matches:
            wrong.append((row, alert, matches))
    assert not wrong


def test_one_row_must_match_wholly(conn: Connection) -> None:
    user, event = add_user(conn, "pro"), add_alert(conn, region="Europe")
    add_pref(conn, user, region="Europe", alert_type="ASSET_RISK_SPIKE")
    add_pref(conn, user, region="Asia", alert_type="HIGH_IMPACT_EVENT")
    add_pref(conn, user, region="Europe", alert_type="HIGH_IMPACT_EVENT", enabled=False)
    assert of_user(conn, user, event)["account"] == "prefs"


def test_several_matching_rows_give_one_delivery(database_url: str, conn: Connection) -> None:
    user, event = add_user(conn, "pro"), add_alert(conn)
    for _ in range(3):
        add_pref(conn, user)
    counts(database_url, "b")
    assert set(deliveries(conn)) == {(event, user, "email"), (event, user, "account")}


@pytest.mark.parametrize(
    ("alert", "wanted"),
    [
        ({"severity": 4}, True),
        ({"severity": 3}, False),
        ({"region": "EUROPE"}, True),
        ({"region": "Global"}, True),
        ({"region": None}, True),
        ({"region": "Asia"}, False),
        (REGIONAL, False),
        (ASSET, False),
    ],
)
def test_user_without_rows_wants_severe_events_of_europe(
    conn: Connection, alert: dict[str, Any], wanted: bool
) -> None:
    user, event = add_user(conn, "pro"), add_alert(conn, **alert)
    assert of_user(conn, user, event)["account"] == ("instant" if wanted else "prefs")


def test_user_whose_rows_are_all_disabled_gets_nothing(database_url: str, conn: Connection) -> None:
    user = add_user(conn, "pro", telegram="77", phone="+31600000000")
    add_pref(conn, user, enabled=False)
    add_pref(conn, user, region="Europe", alert_type="HIGH_IMPACT_EVENT", enabled=False)
    add_alert(conn)
    counted = counts(database_url, "b")
    assert (counted["deliveries_skipped_prefs"], counted["deliveries_created"]) == (4, 0)
    add_pref(conn, user)
    assert of_user(conn, user, add_alert(conn))["email"] == "instant"


def test_disabled_channel_gets_nothing(conn: Connection) -> None:
    event = add_alert(conn)
    for channel in CHANNELS:
        user = reachable(conn)
        add_channel_pref(conn, user, channel, enabled=False, digest_only=True)
        others = {name: "instant" for name in CHANNELS if name != channel}
        assert of_user(conn, user, event) == {**others, channel: "prefs"}


def test_digest_only_puts_off_mail_and_telegram_and_means_no_sms(conn: Connection) -> None:
    user, event = reachable(conn), add_alert(conn)
    for channel in CHANNELS:
        add_channel_pref(conn, user, channel, digest_only=True)
    assert of_user(conn, user, event) == {
        "email": "digest",
        "telegram": "digest",
        "sms": "prefs",
        "account": "instant",
    }


@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_channel_without_an_address_is_a_missing_destination(
    conn: Connection, nothing: str | None
) -> None:
    user = reachable(conn, email=None, telegram=nothing, phone=nothing)
    db.execute(conn, "UPDATE users SET email = %s", (nothing,))
    assert of_user(conn, user, add_alert(conn)) == {
        "email": "missing_destination",
        "telegram": "missing_destination",
        "sms": "missing_destination",
        "account": "instant",
    }


@pytest.mark.parametrize(
    ("verified", "verdict"),
    [(True, "instant"), (None, "instant"), (False, "missing_destination")],
)
def test_only_an_email_known_to_be_unverified_counts_as_none(
    conn: Connection, verified: bool | None, verdict: str
) -> None:
    """NULL: a user from before the column, of whom nobody knows."""
    user = reachable(conn)
    allow_null(conn, "users", "email_verified")
    db.execute(conn, "UPDATE users SET email_verified = %s", (verified,))
    found = of_user(conn, user, add_alert(conn))
    assert (found["email"], found["telegram"]) == (verdict, "instant")


@pytest.mark.parametrize("kind", ["instant", "digest"])
@pytest.mark.parametrize("status", ["queued", "sending", "sent", "failed", "skipped"])
def test_delivery_of_either_kind_and_any_status_exists(
    database_url: str, conn: Connection, kind: str, status: str
) -> None:
    user, event = reachable(conn), add_alert(conn)
    add_delivery(conn, user, event, "email", kind=kind, status=status)
    counted = counts(database_url, "b")
    assert counted["deliveries_skipped_exists"] == 1
    stored = "queued" if status == "sending" else status
    assert deliveries(conn)[event, user, "email"] == (kind, stored)
    assert counted["deliveries_created"] == 3


def test_delivery_of_another_user_event_or_kind_does_not_exist(conn: Connection) -> None:
    user, event = reachable(conn), add_alert(conn)
    add_delivery(conn, reachable(conn), event)
    add_delivery(conn, user, add_alert(conn))
    add_delivery(conn, user, event, kind="weekly_report")
    assert of_user(conn, user, event)["email"] == "instant"


def test_account_is_instant_and_sent_on_creation_without_address_or_quota(
    database_url: str, conn: Connection
) -> None:
    user = add_user(conn, "free", email=None)
    for _ in range(40):
        add_alert(conn)
    counted = counts(database_url, "b")
    assert (counted["instant_created"], counted["digest_created"]) == (40, 0)
    rows = query(conn, "SELECT * FROM user_alert_deliveries")
    assert {row["user_id"] for row in rows} == {user}
    assert {
        (row["channel"], row["delivery_kind"], row["status"], row["sent_at"]) for row in rows
    } == {("account", "instant", "sent", NOW)}


def test_deliveries_to_send_are_queued_and_dated_by_the_clock(
    database_url: str, conn: Connection
) -> None:
    reachable(conn)
    add_alert(conn)
    counts(database_url, "b")
    rows = query(conn, "SELECT * FROM user_alert_deliveries WHERE channel <> 'account'")
    assert {
        (row["channel"], row["status"], row["created_at"], row["sent_at"], row["attempts"])
        for row in rows
    } == {(channel, "queued", NOW, None, 0) for channel in ("email", "telegram", "sms")}
    assert all(row["next_retry_at"] is None and row["failure_code"] is None for row in rows)


def test_every_user_and_channel_gets_one_verdict(database_url: str, conn: Connection) -> None:
    for plan in (None, "free", "personal", "trader", "pro", "enterprise"):
        reachable(conn, plan)
        add_user(conn, plan)
    add_alert(conn)
    add_alert(conn, **ASSET)
    event = add_alert(conn, **REGIONAL)
    decided = decide(conn, event)
    assert len(decided) == len({(row["user_id"], row["channel"]) for row in decided}) == 12 * 4
    counted = counts(database_url, "b")
    skipped = sum(n for name, n in counted.items() if name.startswith("deliveries_skipped_"))
    assert counted["deliveries_considered"] == 12 * 4 * 3 == counted["deliveries_created"] + skipped
    assert counted["deliveries_created"] == counted["instant_created"] + counted["digest_created"]
    assert counted["deliveries_created"] == len(deliveries(conn))
    assert counted["events_processed"] == 3
