"""Each complaint about a message is answered in a sentence, compared whole."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.names import CHANNELS
from alerts.cli.tables_lookup import explanation
from alerts.cli.text import Style
from alerts.failures import FailureCode
from alerts.lookup.explain import explain
from alerts.phases.decisions import SKIP_REASONS
from tests.support.explain_world import (
    FAR_AHEAD,
    LONG_AGO,
    after,
    closed,
    delivered,
    disabled,
    engine_ran_with,
    handed_out,
    paused,
    pending,
    reader,
    switched_off_for_all,
)
from tests.support.incidents_explain import COMPLAINTS, Complaint
from tests.support.world import NOW, add_alert, settings_for

# The web app's own variables say otherwise than the engine's, which count.
WEB = settings_for("postgresql://unused", ALERTS_TIMEZONE="Asia/Tokyo", ALERTS_CHANNELS_OFF="sms",
                   ALERTS_SEND_ALLOWLIST_USER_IDS="5", ALERTS_DIGEST_PERIOD="hourly")  # fmt: skip


TROUBLE = {"failure_code": "provider_unavailable"}
_MESSAGE = "/ops/messages/{delivery}"

# What else explain tells: what waits, and what went well.
OUTCOMES = (
    Complaint(
        0, "sent", delivered(status="sent"), "Sent at 18:55.", page=_MESSAGE
    ),
    Complaint(
        0, "in the app", delivered("account", status="sent"), "In the app since 18:55.", "account"
    ),
    Complaint(
        0, "queued", delivered(), "Has waited since 18:55, goes out with the next run.",
        page=_MESSAGE,
    ),
    Complaint(
        0, "being sent", delivered(status="sending", claimed_by="run", claimed_until=FAR_AHEAD),
        "Is being sent right now.", page=_MESSAGE,
    ),
    Complaint(
        0, "its run died", delivered(status="sending", claimed_by="run", claimed_until=LONG_AGO),
        "Was being sent when its run died, so it may have arrived; the next run takes it over.",
        page=_MESSAGE,
    ),
    Complaint(
        0, "a retry to come",
        delivered(**TROUBLE, attempts=2, next_retry_at=NOW + timedelta(minutes=4)),
        "Tried twice: the provider was out of order. It is tried again after 19:04.", page=_MESSAGE,
    ),
    Complaint(
        0, "a retry that is due",
        delivered(
            attempts=3, failure_code="outcome_unknown", next_retry_at=NOW - timedelta(minutes=1)
        ),
        "Tried 3 times: no answer came, so it may or may not have been delivered. It is tried "
        "again with the next run.", page=_MESSAGE,
    ),
    Complaint(
        0, "the engine is paused", after(paused("all"), delivered()),
        "Has waited since 18:55: the engine has been paused since 7 March 2022 12:00 (wrong "
        "headline).",
        does="Resume the engine when the reason is gone.", page="/ops/pause",
    ),
    Complaint(
        0, "the channel is paused, before it is made", after(paused("email"), pending()),
        "Will be queued with the next run and wait: email has been paused since 7 March 2022 12:00 "
        "(wrong headline).",
        does="Resume email when the reason is gone.", page="/ops/pause",
    ),
    Complaint(
        0, "the engine is off", after(disabled, delivered()),
        "Has waited since 18:55: the engine has been switched off since 7 March 2022 12:00.",
        does="Set ALERTS_V2_ENABLED to true where the runs get their variables.",
        page="/ops/setup",
    ),
    Complaint(
        0, "closed, the time of the next try known",
        after(closed("rate_limited", FAR_AHEAD), delivered()),
        "Has waited since 18:55: email has been closed since 7 March 2022 12:00 because the "
        "provider asked us to slow down, and is tried again after 1 January 2999 01:00.",
        page="/ops",
    ),
    Complaint(
        0, "held, until somebody acts", after(closed("auth_failed", LONG_AGO), delivered()),
        "Has waited since 18:55: email has been closed since 7 March 2022 12:00 because the "
        "provider refused our password or key, and is tried again with the next run.",
        page="/ops",
    ),
    Complaint(
        0, "closed after a try",
        after(closed("misconfigured"), delivered(**TROUBLE, attempts=1, next_retry_at=NOW)),
        "Tried once: the provider was out of order. It waits: email has been closed since 7 March "
        "2022 12:00 because the channel's settings cannot be used, and is tried again with the "
        "next run.",
        page="/ops",
    ),
    Complaint(
        0, "the channel is off deliberately",
        after(switched_off_for_all, lambda conn: (handed_out(conn), reader(conn))),
        "Not sent: email is switched off for everybody, deliberately, since 7 March 2022 12:00.",
        page="/ops/setup",
    ),
    Complaint(
        0, "too old", delivered(status="skipped", failure_code="expired"),
        "Not sent: it had become too old to be of use.", page=_MESSAGE,
    ),
    Complaint(
        0, "to be made", pending(), "Will be sent with the next run."
    ),
    Complaint(
        0, "an hourly digest, as the engine makes them",
        after(
            lambda conn: engine_ran_with(conn, digest_period="hourly"),
            lambda conn: (add_alert(conn), reader(conn, "free")),
        ),
        "Will go into the digest of 8 March 2022, 18:00 to 19:00 CET, which goes with the next run "
        "(the Free plan has no instant alerts by email).",
    ),
    Complaint(
        0, "a digest to come, and a channel that is paused",
        after(paused("email"), lambda conn: (add_alert(conn), reader(conn, "free"))),
        "Will go into the digest of 8 March 2022, which goes with the first run after Wednesday "
        "00:00 (the Free plan has no instant alerts by email); for now, email has been paused "
        "since 7 March 2022 12:00 (wrong headline).",
        does="Resume email when the reason is gone.", page="/ops/pause",
    ),
    Complaint(
        0, "to be shown", pending(), "Will be shown after the next run.", "account"
    ),
    Complaint(
        0, "changed since", lambda conn: (handed_out(conn), reader(conn)),
        "Not sent: when the alert was handed out (18:54), something about the user's plan, "
        "preferences or address was not as it is now; as it is now, it would be.",
    ),
    Complaint(
        0, "never handed out", pending(created_at=NOW - timedelta(hours=25)),
        "Will not be sent: no run handed the alert of Monday 18:00 out within 24 hours, to "
        "anybody.",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def answers(test_server: Any) -> Any:
    """Explains a complaint in one database for all, undone after each."""
    name = test_server.create(migrated=True)
    with closing(psycopg2.connect(test_server.url(name))) as conn:
        conn.autocommit = True
        yield lambda complaint: _explained(conn, complaint)
    test_server.drop(name)


def _explained(conn: Connection, complaint: Complaint) -> dict[str, Any]:
    db.execute(conn, "BEGIN")
    try:
        event, user = complaint.make(conn)
        if not db.fetch_all(conn, "SELECT 1 FROM alerts_engine_state"):
            engine_ran_with(conn)
        answer = explain(conn, WEB, event_id=event, user_id=user, now=NOW)
    finally:
        db.execute(conn, "ROLLBACK")
    assert isinstance(answer, dict)
    return answer


ALL = (*COMPLAINTS, *OUTCOMES)
PHONE = Style(width=60)
CODES = {*FailureCode, *SKIP_REASONS, "changed_since", "fanout_expired", "not_in_allowlist"}


@pytest.mark.parametrize("complaint", ALL, ids=[f"{c.incident} {c.name}" for c in ALL])
def test_the_answer_names_the_cause_in_a_sentence(answers: Any, complaint: Complaint) -> None:
    answer = answers(complaint)
    told = {each["channel"]: each for each in answer["channels"]}
    assert tuple(told) == CHANNELS
    one = told[complaint.channel]
    ids = {name: one[name] and one[name]["id"] for name in ("delivery", "digest")}
    page = complaint.page and complaint.page.format(**ids)
    assert (one["summary"], one["action"], one["page"]) == (complaint.says, complaint.does, page)
    for each in told.values():
        words = set(re.findall(r"[a-z]+(?:_[a-z]+)+", each["summary"]))
        assert not words & CODES, "codes stay in the fields"
    shown = " ".join(" ".join(explanation(PHONE, answer)).split())
    assert f"{complaint.channel}: {complaint.says}" in shown
    assert complaint.does is None or f"-> {complaint.does}" in shown
    assert not any(secret in json.dumps(answer) for secret in complaint.secrets)
