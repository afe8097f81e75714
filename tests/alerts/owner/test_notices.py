"""Notices as they arrive, through real adapters: which channel, what they say, what is kept."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.messages import render_notice
from alerts.owner import notices, sending
from alerts.owner.notices import notice_of, working_first
from alerts.owner.rules import Found
from tests.support.owner_world import (
    OWNER,
    OWNER_CHAT,
    OWNER_EMAIL,
    Place,
    parsed,
    place_at,
)
from tests.support.providers import Fault
from tests.support.world import query, settings_for


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    with place_at(database_url) as found:
        yield found


def told(conn: Connection) -> list[tuple[str, str | None, str | None]]:
    """Status, code and channel of what is remembered, the oldest first."""
    rows = query(conn, "SELECT status, code, told_by FROM alerts_notices ORDER BY id")
    return [(row["status"], row["code"], row["told_by"]) for row in rows]


def test_trouble_that_a_second_run_finds_and_that_all_is_well_again(
    conn: Connection, place: Place
) -> None:
    place.run()
    place.run(failing=True)
    assert place.chats == []
    place.run(failing=True)
    ((chat, text),) = place.chats
    assert chat == OWNER_CHAT
    assert text.startswith("<b>EnergyRiskIQ is failing: The run of ")
    assert text.endswith('<a href="https://alerts.example.com/ops">Open the operator page</a>')
    place.run(failing=True)
    assert len(place.chats) == 1
    place.run()
    assert place.chats[1][1].startswith("<b>EnergyRiskIQ is well again</b>\n\nAll is well")
    assert place.mail.mails == []
    assert told(conn) == [
        ("ok", None, None), ("failing", "last_run_failed", "telegram"), ("ok", None, "telegram"),
    ]  # fmt: skip


def fail_twice(place: Place) -> None:
    for _ in range(2):
        place.run(failing=True)


def test_an_email_has_text_and_page_and_nothing_that_is_for_users(place: Place) -> None:
    del place.environ["ALERTS_OWNER_TELEGRAM_CHAT_ID"]
    fail_twice(place)
    (mail,) = place.mail.mails
    assert mail.recipient == OWNER_EMAIL
    message = parsed(mail)
    assert message["Subject"].startswith("EnergyRiskIQ is failing: The run of ")
    assert message["List-Unsubscribe"] is None
    text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    page = message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "Open the operator page: https://alerts.example.com/ops" in text
    assert 'href="https://alerts.example.com/ops"' in page
    for part in (text, page):
        assert " failed: interrupted by SIGTERM." in part
        assert "preferences" not in part


# -- which channel -----------------------------------------------------------------------------


def reason(channel: str | None, severity: str = "failing") -> dict[str, Any]:
    return {"code": "x", "severity": severity, "channel": channel, "message": "", "action": ""}


@pytest.mark.parametrize(
    ("owner", "reasons", "closed", "order"),
    [
        (("email", "telegram"), [], (), ["telegram", "email"]),
        (("email", "telegram"), [reason(None)], (), ["telegram", "email"]),
        (("email", "telegram"), [reason("telegram")], (), ["email", "telegram"]),
        (("email", "telegram"), [reason("email")], (), ["telegram", "email"]),
        (("email", "telegram"), [reason("telegram", "note")], (), ["telegram", "email"]),
        (("email", "telegram"), [], ("telegram",), ["email", "telegram"]),
        (("email", "telegram"), [reason("email")], ("telegram",), ["telegram", "email"]),
        (("email",), [reason("email")], ("email",), ["email"]),
        (("telegram",), [reason("email")], (), ["telegram"]),
        ((), [], (), []),
    ],
)
def test_a_channel_without_trouble_comes_first(
    owner: tuple[str, ...], reasons: list[dict[str, Any]], closed: tuple[str, ...], order: list[str]
) -> None:
    names = {"email": "ALERTS_OWNER_EMAIL", "telegram": "ALERTS_OWNER_TELEGRAM_CHAT_ID"}
    environ = {names[channel]: OWNER[names[channel]] for channel in owner}
    settings = settings_for(
        "postgresql://unused", TELEGRAM_BOT_TOKEN="1:x", SMTP_URL="smtp://127.0.0.1",
        EMAIL_FROM="a@example.com", **environ,
    )  # fmt: skip
    states = {name: {"state": "closed" if name in closed else "open"} for name in names}
    assert working_first(settings, {"reasons": reasons, "channels": states}) == order


def test_a_channel_that_cannot_be_used_here_is_none() -> None:
    settings = settings_for("postgresql://unused", TELEGRAM_BOT_TOKEN="1:x", **OWNER)
    assert working_first(settings, {"reasons": [], "channels": {}}) == ["telegram"]


def _refused(place: Place) -> None:
    place.telegram.rule = lambda _: Fault(status=502)


def _unreachable(place: Place) -> None:
    place.environ["TELEGRAM_API_BASE"] = "http://127.0.0.1:9"


def _hangs(place: Place) -> None:
    place.telegram.rule = lambda _: Fault("hang")


def _blocked(place: Place) -> None:
    body = {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"}
    place.telegram.rule = lambda _: Fault(status=403, body=json.dumps(body).encode())


@pytest.mark.parametrize("breaks", [_refused, _unreachable, _hangs, _blocked])
def test_where_the_first_channel_does_not_take_it_the_other_is_tried(
    conn: Connection,
    place: Place,
    breaks: Callable[[Place], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(sending, "CALL_SECONDS", 2.0)
    breaks(place)
    with caplog.at_level(logging.INFO):
        fail_twice(place)
    assert [mail.recipient for mail in place.mail.mails] == [OWNER_EMAIL]
    assert told(conn)[-1] == ("failing", "last_run_failed", "email")
    ours = [record for record in caplog.records if record.name.startswith("alerts")]
    logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in ours)
    assert "the owner could not be told" in logged
    assert "owner.owl" not in logged
    assert OWNER_CHAT not in logged


def test_where_none_takes_it_the_run_ends_as_it_would_and_the_next_one_tries_again(
    conn: Connection, place: Place
) -> None:
    place.mail.fail("RCPT", "550 5.1.1 no such user", times=1)
    _blocked(place)
    fail_twice(place)
    assert (place.mail.mails, told(conn)) == ([], [("failing", "last_run_failed", None)])
    db.execute(conn, "UPDATE alerts_notices SET tried_at = tried_at - %s", (timedelta(minutes=1),))
    place.run(failing=True)
    assert len(place.mail.mails) == 1
    assert told(conn) == [("failing", "last_run_failed", "email")]


# -- who is told nothing -----------------------------------------------------------------------


def test_a_dry_run_tells_nobody_and_is_no_second_run(conn: Connection, place: Place) -> None:
    place.run(failing=True)
    place.run(failing=True, dry_run=True)
    assert (place.chats, len(told(conn))) == ([], 1)


def test_of_runs_that_end_at_once_one_tells(conn: Connection, place: Place) -> None:
    place.run(failing=True)
    reports = [place.run_untold(failing=True) for _ in range(4)]
    threads = [threading.Thread(target=place.tell, args=(report,)) for report in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(place.chats) == 1


def test_what_is_remembered_holds_no_address_and_does_not_grow(
    conn: Connection, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alerts.owner.store.KEPT", 4)
    for number in range(4):
        place.run(failing=bool(number % 2))
        place.run(failing=bool(number % 2))
    rows = query(conn, "SELECT n::text AS row FROM alerts_notices AS n")
    assert len(rows) == 4
    assert not [row for row in rows if "owner.owl" in row["row"] or OWNER_CHAT in row["row"]]


def test_a_table_that_is_missing_costs_a_warning(
    conn: Connection, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.run()
    db.execute(conn, "DROP TABLE alerts_notices")
    with caplog.at_level(logging.WARNING):
        assert place.run().record.status == "success"
    assert "what the owner is told could not be stored" in caplog.text


# -- what it says ------------------------------------------------------------------------------

HEALTH: dict[str, Any] = {
    "generated_at": "2026-01-16T18:03:00+00:00",
    "status": "failing",
    "reasons": [
        {"code": "paused", "severity": "note", "channel": "sms", "since": None,
         "page": "/ops/pause", "action": "Resume it.",
         "message": "SMS has been paused since 18:00: <b>why</b> & so on"},
        {"code": "last_run_failed", "severity": "failing", "channel": None, "since": None,
         "page": "/ops", "message": "The last run failed.", "action": "Look at it."},
    ],
    "channels": {"email": {"state": "open", "paused": False, "configured": True, "waiting": 0}},
    "deliveries_24h": {"email": {"sent": 3}},
    "last_run": None,
    "engine": {"timezone": "Europe/Amsterdam"},
}  # fmt: skip


def test_the_code_is_that_of_the_first_reason_that_is_no_note() -> None:
    assert notices.found_in(HEALTH) == Found("failing", "last_run_failed")
    assert notices.found_in({**HEALTH, "status": "ok"}) == Found("ok", None)


def test_texts_are_escaped_on_telegram_and_in_mail() -> None:
    notice = notice_of(HEALTH, None)
    rendered = {name: render_notice(name, notice) for name in ("telegram", "email")}
    for page in (rendered["telegram"].text, rendered["email"].html):
        assert "&lt;b&gt;why&lt;/b&gt; &amp; so on" in page
        assert "href" not in page
    assert "<b>why</b> & so on" in rendered["email"].text
    with pytest.raises(ValueError, match="no notices on channel 'sms'"):
        render_notice("sms", notice)
