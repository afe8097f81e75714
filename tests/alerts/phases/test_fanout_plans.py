"""Phase B: plans, what they allow on a channel, and the quota of a product day."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support import CHECKOUT
from tests.support.phases import (
    add_plan,
    channel_config,
    counts,
    deliveries,
    use_plain_timestamps,
    utc,
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

PLANS_SQL = CHECKOUT / "sql" / "0003_plans.sql"
TYPES = ("HIGH_IMPACT_EVENT", "REGIONAL_RISK_SPIKE", "ASSET_RISK_SPIKE")
SECOND = timedelta(seconds=1)
BIG = 2**31 - 1


def limits(conn: Connection, plan: str) -> dict[str, tuple[bool, int | None]]:
    """By channel: whether the plan allows it, and its instant number a day."""
    rows = query(conn, "SELECT * FROM plan_channel_limits WHERE plan_code = %s", plan)
    return {row["channel"]: (row["allowed"], row["instant_per_day"]) for row in rows}


@pytest.mark.parametrize(
    ("plan", "email", "telegram", "sms"),
    [
        ("free", 1, None, None),
        ("personal", 1, None, None),
        ("trader", 3, 8, None),
        ("pro", 15, 15, 15),
        ("enterprise", 30, 30, 30),
    ],
)
def test_instant_numbers_of_the_plans_sold(
    conn: Connection, plan: str, email: int, telegram: int | None, sms: int | None
) -> None:
    assert limits(conn, plan) == {
        "email": (True, email),
        "telegram": (telegram is not None, telegram or 0),
        "sms": (sms is not None, sms or 0),
        "account": (True, None),
    }


def test_prices_types_and_maxima_of_the_plans_sold(conn: Connection) -> None:
    rows = query(conn, "SELECT * FROM plan_settings")
    assert {
        row["plan_code"]: (
            float(row["monthly_price_usd"]),
            tuple(row["allowed_alert_types"]),
            row["max_email_alerts_per_day"],
            row["delivery_config"]["email"]["max_per_day"],
        )
        for row in rows
    } == {
        "free": (0, TYPES[:1], 2, 2),
        "personal": (9.95, TYPES[:2], 4, 4),
        "trader": (29, TYPES, 8, 8),
        "pro": (49, ("ALL",), 15, 15),
        "enterprise": (129, ("ALL",), 30, 30),
    }
    assert all(row["is_active"] for row in rows)


def test_seeding_plans_again_keeps_later_edits(conn: Connection) -> None:
    db.execute(conn, "UPDATE plan_settings SET monthly_price_usd = 1, delivery_config = '{}'")
    db.execute(conn, "DELETE FROM plan_settings WHERE plan_code = 'pro'")
    before = query(conn, "SELECT * FROM plan_settings ORDER BY plan_code")
    db.execute(conn, PLANS_SQL.read_text())
    kept = query(conn, "SELECT * FROM plan_settings WHERE plan_code <> 'pro' ORDER BY plan_code")
    assert kept == before
    assert limits(conn, "pro")["sms"] == (True, 15)


# delivery_config, and what it says where the plan's column says 5 mails a day: the instant
# numbers of email, telegram and sms (None: not allowed), and whether account is allowed.
CONFIGS: list[tuple[Any, int, int | None, int | None, bool]] = [
    (None, 5, None, None, True),
    ({}, 5, None, None, True),
    ([], 5, None, None, True),
    ("text", 5, None, None, True),
    ({"email": None, "telegram": 1, "sms": []}, 5, None, None, True),
    ({"email": {"max_per_day": 9}}, 9, None, None, True),
    ({"email": {"max_per_day": 9, "realtime_limit": None}}, 9, None, None, True),
    ({"email": {"max_per_day": 9, "realtime_limit": 2}}, 2, None, None, True),
    ({"email": {"max_per_day": 9, "realtime_limit": 0}}, 0, None, None, True),
    ({"email": {"realtime_limit": None}}, 5, None, None, True),
    ({"email": {"realtime_limit": "2"}}, 5, None, None, True),
    ({"email": {"realtime_limit": "many", "max_per_day": [9]}}, 5, None, None, True),
    ({"email": {"realtime_limit": -3, "max_per_day": -1}}, 0, None, None, True),
    ({"email": {"realtime_limit": 2.9}}, 2, None, None, True),
    ({"email": {"realtime_limit": 99_999_999_999}}, BIG, None, None, True),
    ({"email": {"max_per_day": 99_999_999_999}}, BIG, None, None, True),
    ({"telegram": {"enabled": True, "send_all": True}}, 5, 5, None, True),
    (
        {"email": {"max_per_day": 9, "realtime_limit": 2}, "telegram": {"enabled": True}},
        *(2, 2, None, True),
    ),
    (
        {
            "email": {"max_per_day": 9, "realtime_limit": 2},
            "telegram": {"enabled": True, "send_all": True},
            "sms": {"enabled": True, "send_all": False},
            "account": {"show_all": False},
        },
        *(2, 9, 2, False),
    ),
    ({"telegram": {"enabled": None}, "sms": {"enabled": False}}, 5, None, None, True),
    ({"telegram": {"enabled": "yes"}, "sms": {"send_all": True}}, 5, None, None, True),
    ({"account": {"show_all": None}}, 5, None, None, True),
    ({"account": {}}, 5, None, None, True),
]


def test_delivery_config_is_read_whatever_it_holds(database_url: str, conn: Connection) -> None:
    for number, (config, email, telegram, sms, account) in enumerate(CONFIGS):
        plan = add_plan(conn, f"custom{number}", config=config)
        expected = {
            "email": (True, email),
            "telegram": (telegram is not None, telegram or 0),
            "sms": (sms is not None, sms or 0),
            "account": (account, None),
        }
        assert limits(conn, plan) == expected, config
        add_user(conn, plan)
    add_alert(conn)
    counted = counts(database_url, "b")
    assert counted["deliveries_considered"] == 4 * len(CONFIGS)


def test_plan_without_any_figure_sends_mail_in_digests(conn: Connection) -> None:
    user = add_user(conn, add_plan(conn, "custom", max_email=None))
    assert verdicts(conn, add_alert(conn))[user, "email"] == "digest"


@pytest.mark.parametrize("plan", [None, "free", "FREE", "gone", "", "retired"])
def test_no_unknown_and_inactive_plan_mean_free(conn: Connection, plan: str | None) -> None:
    add_plan(conn, "retired", config=channel_config(telegram=3), active=False)
    user = add_user(conn, plan, telegram="77")
    add_pref(conn, user)
    assert verdicts(conn, add_alert(conn))[user, "email"] == "digest"
    assert verdicts(conn, add_alert(conn))[user, "telegram"] == "channel_not_in_plan"
    spike = add_alert(conn, alert_type="REGIONAL_RISK_SPIKE", risk_score=99)
    assert verdicts(conn, spike)[user, "email"] == "plan_type"


@pytest.mark.parametrize("plan", ["pro", "Pro", "PRO"])
def test_plan_is_known_whatever_its_case(conn: Connection, plan: str) -> None:
    user = add_user(conn, plan)
    assert verdicts(conn, add_alert(conn))[user, "email"] == "instant"


def test_plan_of_which_nobody_said_whether_it_is_active_is(conn: Connection) -> None:
    user = add_user(conn, add_plan(conn, "custom", active=None))
    assert verdicts(conn, add_alert(conn))[user, "email"] == "instant"


def test_without_any_free_plan_nobody_of_no_plan_gets_anything(
    database_url: str, conn: Connection
) -> None:
    db.execute(conn, "DELETE FROM plan_settings WHERE plan_code = 'free'")
    add_user(conn)
    add_alert(conn)
    assert counts(database_url, "b")["deliveries_skipped_plan_type"] == 4


@pytest.mark.parametrize(
    ("plan", "wanted"),
    [
        ("free", TYPES[:1]),
        ("personal", TYPES[:2]),
        ("trader", TYPES),
        ("pro", TYPES),
        ("enterprise", TYPES),
    ],
)
def test_plan_decides_which_types_arrive(
    conn: Connection, plan: str, wanted: tuple[str, ...]
) -> None:
    user = add_user(conn, plan)
    add_pref(conn, user)
    for alert_type in TYPES:
        event = add_alert(conn, alert_type=alert_type, risk_score=75)
        expected = "instant" if alert_type in wanted else "plan_type"
        assert verdicts(conn, event)[user, "account"] == expected


def test_mail_of_the_free_plan_waits_for_the_digest(database_url: str, conn: Connection) -> None:
    user, event = add_user(conn, "free"), add_alert(conn)
    counted = counts(database_url, "b")
    assert deliveries(conn)[event, user, "email"] == ("digest", "queued")
    assert (counted["digest_created"], counted["overflow_to_digest"]) == (1, 0)


# Quotas


@pytest.mark.parametrize(
    ("status", "counts_as_used"),
    [("queued", True), ("sending", True), ("sent", True), ("failed", False), ("skipped", False)],
)
def test_instant_deliveries_on_their_way_or_sent_use_the_quota(
    conn: Connection, status: str, counts_as_used: bool
) -> None:
    plan = add_plan(conn, "custom", config=channel_config(email=1, sms=1))
    user = add_user(conn, plan, phone="+31600000000")
    event, other = add_alert(conn), add_alert(conn)
    add_delivery(conn, user, other, "email", status=status)
    add_delivery(conn, user, other, "sms", status=status)
    found = verdicts(conn, event)
    assert found[user, "email"] == ("digest" if counts_as_used else "instant")
    assert found[user, "sms"] == ("quota" if counts_as_used else "instant")


def test_only_instant_deliveries_of_that_user_and_channel_use_the_quota(conn: Connection) -> None:
    plan = add_plan(conn, "custom", config=channel_config(email=1, telegram=1, sms=1))
    user = add_user(conn, plan, telegram="77", phone="+31600000000")
    event, other = add_alert(conn), add_alert(conn)
    add_delivery(conn, add_user(conn, plan), other, "email")
    add_delivery(conn, user, other, "account", status="sent")
    add_delivery(conn, user, other, "sms")
    add_delivery(conn, user, other, "email", kind="digest")
    add_delivery(conn, user, other, "email", kind="weekly_report")
    found = verdicts(conn, event)
    assert (found[user, "email"], found[user, "telegram"]) == ("instant", "instant")
    assert found[user, "sms"] == "quota"


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2022-03-07 23:00", "2022-03-08 23:00"),
        ("2022-03-26 23:00", "2022-03-27 22:00"),  # 23 hours
        ("2022-10-29 22:00", "2022-10-30 23:00"),  # 25 hours
    ],
)
@pytest.mark.parametrize("plain", [False, True])
def test_quota_is_of_the_product_day(conn: Connection, start: str, end: str, plain: bool) -> None:
    first, last = utc(start), utc(end) - SECOND
    user = add_user(conn, add_plan(conn, "custom", config=channel_config(email=1)))
    event, other = add_alert(conn, created_at=first), add_alert(conn, created_at=first)
    if plain:
        use_plain_timestamps(conn)

    def kind(delivered_at: Any, now: Any) -> str:
        db.execute(conn, "TRUNCATE user_alert_deliveries CASCADE")
        add_delivery(conn, user, other, created_at=delivered_at)
        return verdicts(conn, event, now)[user, "email"]

    assert kind(first, last) == "digest"
    assert kind(last, last) == "digest"
    assert kind(first - SECOND, first) == "instant"
    assert kind(first - SECOND, last) == "instant"
    assert kind(last, last + SECOND) == "instant"
    assert kind(last, last - SECOND) == "instant"  # of later than the clock


def test_past_the_quota_mail_and_telegram_come_in_a_digest_and_sms_not(
    database_url: str, conn: Connection
) -> None:
    plan = add_plan(conn, "custom", config=channel_config(email=2, telegram=2, sms=1))
    add_user(conn, plan, telegram="77", phone="+31600000000")
    for _ in range(5):
        add_alert(conn)
    counted = counts(database_url, "b")
    kinds = query(
        conn,
        "SELECT channel, delivery_kind AS kind, count(*) AS n FROM user_alert_deliveries"
        " WHERE channel <> 'account' GROUP BY 1, 2",
    )
    assert {(row["channel"], row["kind"]): row["n"] for row in kinds} == {
        ("email", "instant"): 2,
        ("email", "digest"): 3,
        ("telegram", "instant"): 2,
        ("telegram", "digest"): 3,
        ("sms", "instant"): 1,
    }
    assert counted["overflow_to_digest"] == counted["digest_created"] == 6
    assert counted["deliveries_skipped_quota"] == 4


def test_channel_with_an_instant_number_of_zero_is_no_overflow(
    database_url: str, conn: Connection
) -> None:
    add_plan(conn, "custom", config=channel_config(email=0, telegram=0, sms=0))
    user = add_user(conn, "custom", telegram="77", phone="+31600000000")
    event = add_alert(conn)
    counted = counts(database_url, "b")
    found = deliveries(conn)
    assert found[event, user, "email"] == found[event, user, "telegram"] == ("digest", "queued")
    assert counted["overflow_to_digest"] == 0
    assert counted["deliveries_skipped_quota"] == 1


def test_digest_only_past_the_quota_is_no_overflow(database_url: str, conn: Connection) -> None:
    user = add_user(conn, add_plan(conn, "custom", config=channel_config(email=1)))
    add_channel_pref(conn, user, "email", digest_only=True)
    add_delivery(conn, user, add_alert(conn), "email", created_at=NOW)
    add_alert(conn)
    counted = counts(database_url, "b")
    assert (counted["digest_created"], counted["overflow_to_digest"]) == (1, 0)
