"""A new channel is what CONTRIBUTING.md lists and nothing else: the whole engine knows it then."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support import CHECKOUT
from tests.support.made_up_channels import Extended
from tests.support.world import NOW, add_alert, add_channel_pref, add_pref, add_user, query

# Not shown to work here: the variables of a job, and words for people.
BESIDE = ("tests/", "docs/", ".github/workflows/alerts_engine_v2.yml", "CHANGELOG.md", "replit.md")


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Extended:
    return Extended(database_url, tmp_path)


def add_reader(conn: Connection, *, confirmed: bool | None = True) -> int:
    """Someone who gets everything, by the two made-up channels and the account."""
    user = add_user(conn, "pro", email=None)
    add_pref(conn, user)
    db.execute(
        conn,
        "UPDATE users SET pager_number = 4000 + id, push_to = ' to-' || id || ' ',"
        " push_confirmed = %s WHERE id = %s",
        (confirmed, user),
    )
    return user


def made(conn: Connection, event: int) -> dict[tuple[int, str], tuple[str, str]]:
    """Kind and status by user and channel, the account's left out."""
    rows = query(conn, "SELECT * FROM user_alert_deliveries WHERE alert_event_id = %s", event)
    return {
        (row["user_id"], row["channel"]): (row["delivery_kind"], row["status"])
        for row in rows
        if row["channel"] != "account"
    }


def test_contributing_lists_every_file_that_a_new_channel_touches(engine: Extended) -> None:
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    section = text.partition("## Adding a channel or provider\n")[2].partition("\n## ")[0]
    listed = {word for word in section.split("`") if "/" in word or word.endswith(".md")}
    touched = {
        "alerts/channels/<provider>.py" if name == "alerts/channels/beeper.py"
        else "sql/NNNN_name.sql" if name.startswith("sql/") else name
        for name in engine.differing()
    }  # fmt: skip
    assert touched == {name for name in listed if not name.startswith(BESIDE)}


def test_alerts_are_fanned_out_and_sent_and_past_the_quota_put_off_or_left_out(
    conn: Connection, engine: Extended
) -> None:
    reader, unsure = add_reader(conn), add_reader(conn, confirmed=False)
    unasked, choosy = add_reader(conn, confirmed=None), add_reader(conn)
    for channel in ("pager", "push"):
        add_channel_pref(conn, choosy, channel, digest_only=True)
    first, second = add_alert(conn, created_at=NOW - timedelta(minutes=20)), add_alert(conn)
    engine.run("all", NOW)
    sent, put_off = ("instant", "sent"), ("digest", "queued")
    pagers = dict.fromkeys([(reader, "pager"), (unsure, "pager"), (unasked, "pager")], sent)
    pushes = dict.fromkeys([(reader, "push"), (unasked, "push")], sent)
    assert made(conn, first) == {**pagers, **pushes, (choosy, "push"): put_off}
    assert made(conn, second) == dict.fromkeys([*pushes, (choosy, "push")], put_off)
    assert sorted(engine.messages()) == sorted(
        [("pager", str(4000 + user)) for user in (reader, unsure, unasked)]
        + [("push", f"to-{user}") for user in (reader, unasked)]
    )
    engine.run("all", NOW + timedelta(days=1))
    digests = query(conn, "SELECT user_id, channel, status FROM user_alert_digests")
    assert sorted(tuple(row.values()) for row in digests) == sorted(
        (user, "push", "sent") for user in (reader, unasked, choosy)
    )


def test_health_counts_it_explain_explains_it_and_a_pause_stops_it(
    conn: Connection, engine: Extended
) -> None:
    reader, event = add_reader(conn, confirmed=False), add_alert(conn)
    engine.ask("pause", "pager", "--reason", "maintenance")
    engine.run("all", NOW)
    assert made(conn, event) == {(reader, "pager"): ("instant", "queued")}
    health: dict[str, Any] = engine.ask("health")
    assert health["deliveries_24h"]["pager"]["queued"] == 1
    assert {name: each["paused"] for name, each in health["channels"].items()} == {
        name: name == "pager" for name in ("email", "telegram", "sms", "pager", "push", "account")
    }
    assert health["channels"]["pager"]["configured"] is True
    assert set(health["digests_24h"]) == {"email", "telegram", "push"}
    engine.ask("resume", "pager")
    engine.run("c", NOW)
    assert engine.messages() == [("pager", str(4000 + reader))]
    told = engine.ask("explain", "--event-id", str(event), "--user-id", str(reader))
    decisions = {each["channel"]: each["decision"] for each in told["channels"]}
    assert list(decisions) == ["email", "telegram", "sms", "pager", "push", "account"]
    assert (decisions["pager"], decisions["push"]) == ("created", "missing_destination")


def test_without_its_provider_its_messages_are_skipped_and_can_be_queued_again(
    conn: Connection, engine: Extended
) -> None:
    reader, event = add_reader(conn), add_alert(conn)
    engine.run("all", NOW, BEEPER_CODE="", TELEGRAM_BOT_TOKEN="1:unused")
    skipped = ("instant", "skipped")
    assert made(conn, event) == {(reader, "pager"): skipped, (reader, "push"): skipped}
    again = ("retry-failed", "deliveries", "--channel", "pager", "--include", "not_configured")
    assert engine.ask(*again)["by_channel"] == {"pager": 1}
    engine.run("c", NOW)
    assert engine.messages() == [("pager", str(4000 + reader))]


def test_its_settings_are_read_checked_and_told_like_the_others(
    conn: Connection, engine: Extended
) -> None:
    told = engine.ask("preflight")
    assert told["providers"] == {"pager": "beeper", "push": "beeper"}
    told = engine.ask("preflight", code=1, BEEPER_FILE="")
    assert [finding["message"] for finding in told["errors"]] == [
        f"BEEPER_FILE is not set; {name} through beeper needs it" for name in ("pager", "push")
    ]
    told = engine.ask("preflight", code=1, ALERTS_RATE_LIMIT_PAGER_PER_MINUTE="hush-beeper")
    (error,) = told["errors"]
    assert error["message"].startswith("ALERTS_RATE_LIMIT_PAGER_PER_MINUTE got ")
    assert "hush" not in error["message"]
    outbox = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": str(engine.tree), "BEEPER_CODE": ""}
    assert engine.ask("preflight", **outbox)["providers"] == dict.fromkeys(
        ("email", "telegram", "sms", "pager", "push"), "outbox"
    )
