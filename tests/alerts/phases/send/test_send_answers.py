"""What providers answer in the real world, and what rows, counts and providers say after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.engine import Hooks, RunReport, RunRequest, run_engine
from alerts.phases import Stop
from tests.support.mailserver import MailServer
from tests.support.provider_runs import CHANNEL_OF, environ, mail_environ, send
from tests.support.providers import Fault, HttpProvider, own_error, refusal
from tests.support.queue_world import delivery, let_time_pass, queue_instants, statuses
from tests.support.world import NOW, counts_of, query, settings_for, wait_until

ALL = pytest.mark.parametrize("name", CHANNEL_OF)
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\n\r\n"
PORTAL = Fault(status=403, body=b"<!doctype html><p>Sign in to this network")
IN_AN_HOUR = NOW + timedelta(hours=1)
QUICK = {"ALERTS_PROVIDER_TIMEOUT_SECONDS": "1", "ALERTS_SEND_WORKERS": "4"}


@pytest.fixture
def mail() -> Iterator[MailServer]:
    with MailServer() as found:
        yield found


def rows(conn: Connection) -> list[dict[str, Any]]:
    return query(conn, "SELECT * FROM user_alert_deliveries ORDER BY id")


def phase_c(report: RunReport) -> dict[str, Any]:
    return report.record.counts["c"]


@ALL
def test_interim_answers_cost_no_copies(
    conn: Connection, database_url: str, provider: HttpProvider, name: str
) -> None:
    queue_instants(conn, 20, CHANNEL_OF[name])
    provider.interim = (EARLY_HINTS, b"HTTP/1.1 102 Processing\r\n\r\n", EARLY_HINTS)
    for now in (NOW, IN_AN_HOUR):
        counts = counts_of(send(database_url, environ(provider)[name], now), "c")
        assert counts["deliveries"]["sent"] == (20 if now == NOW else 0)
    assert statuses(conn) == {"sent": 20}
    assert len(provider.accepted) == len({m.destination for m in provider.accepted}) == 20


@ALL
def test_slow_answer_costs_no_copy(
    conn: Connection, database_url: str, provider: HttpProvider, name: str
) -> None:
    queue_instants(conn, 3, CHANNEL_OF[name])
    provider.faults.append(Fault("slow", seconds=2.5))
    for now in (NOW, IN_AN_HOUR):
        counts_of(send(database_url, {**environ(provider)[name], **QUICK}, now), "c")
    assert statuses(conn) == {"sent": 3}
    assert len(provider.accepted) == 3


def test_slow_answer_to_the_final_dot_costs_no_copy(
    conn: Connection, database_url: str, mail: MailServer
) -> None:
    queue_instants(conn, 3)
    mail.fail("CONTENT", "slow 2.5", times=3)
    for now in (NOW, IN_AN_HOUR):
        counts_of(send(database_url, {**mail_environ(mail), **QUICK}, now), "c")
    assert statuses(conn) == {"sent": 3}
    assert len(mail.mails) == 3


@ALL
def test_page_of_a_proxy_blames_no_recipient(
    conn: Connection, database_url: str, provider: HttpProvider, name: str
) -> None:
    queue_instants(conn, 40, CHANNEL_OF[name])
    provider.rule = lambda request: PORTAL
    settings = {**environ(provider)[name], **QUICK}
    report = send(database_url, settings)
    assert report.record.status == "failed"
    assert phase_c(report)["channels_held"] == {CHANNEL_OF[name]: "unexpected_answer"}
    asked = len(provider.requests)
    assert 1 <= asked <= 4
    counts = phase_c(report)["deliveries"]
    assert (counts["retried"], counts["failed"], counts["sent"]) == (asked, 0, 0)
    assert counts["claimed"] == asked + counts["released"]
    tried = [row for row in rows(conn) if row["attempts"]]
    assert {row["failure_code"] for row in tried} == {"outcome_unknown"}
    assert (len(tried), statuses(conn)) == (asked, {"queued": 40})

    provider.rule = lambda request: None
    let_time_pass(conn)
    counts = counts_of(send(database_url, settings, IN_AN_HOUR), "c")
    assert counts["deliveries"]["sent"] == len(provider.accepted) == 40
    assert statuses(conn) == {"sent": 40}


@ALL
def test_message_behind_an_unexpected_answer_is_sent_again_once(
    conn: Connection, database_url: str, provider: HttpProvider, name: str
) -> None:
    [row] = queue_instants(conn, 1, CHANNEL_OF[name])
    provider.rule = lambda request: PORTAL
    settings = environ(provider)[name]
    for now, status in ((NOW, "queued"), (IN_AN_HOUR, "failed"), (IN_AN_HOUR, "failed")):
        send(database_url, settings, now)
        assert delivery(conn, row)["status"] == status
        let_time_pass(conn)
    assert delivery(conn, row)["failure_code"] == "outcome_unknown"
    assert delivery(conn, row)["attempts"] == len(provider.requests) == 2


def test_other_program_on_the_port_leaves_rows_as_they_were(
    conn: Connection, database_url: str, mail: MailServer
) -> None:
    queue_instants(conn, 10)
    mail.fail("CONNECT", "SSH-2.0-OpenSSH_9.6", times=100)
    report = send(database_url, mail_environ(mail))
    assert phase_c(report)["channels_held"] == {"email": "unexpected_answer"}
    assert phase_c(report)["deliveries"]["released"] == phase_c(report)["deliveries"]["claimed"]
    assert {(row["status"], row["attempts"]) for row in rows(conn)} == {("queued", 0)}


@pytest.mark.parametrize("stage", ["RCPT", "CONTENT"])
@pytest.mark.parametrize(
    "reply", ["550 5.7.1 [203.0.113.9] blocked", "554 5.7.1: listed", "550 5.7.25 no PTR"]
)
def test_block_of_our_address_blames_no_mailbox(
    conn: Connection, database_url: str, mail: MailServer, stage: str, reply: str
) -> None:
    queue_instants(conn, 8)
    mail.fail(stage, reply, times=8)
    counts = counts_of(send(database_url, mail_environ(mail)), "c")["deliveries"]
    assert (counts["retried"], counts["failed"]) == (8, 0)
    assert {row["failure_code"] for row in rows(conn)} == {"policy_refused"}
    counts = counts_of(send(database_url, mail_environ(mail), IN_AN_HOUR), "c")["deliveries"]
    assert counts["sent"] == len(mail.mails) == 8


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("550 5.7.26 unauthenticated", "sender_rejected"),
        ("554 5.2.252 SendAsDenied", "sender_rejected"),
        ("550 5.7.708 access denied", "sender_rejected"),
        ("550 5.4.5 daily limit", "quota_provider"),
    ],
)
def test_refusal_of_our_sender_after_data_holds_the_channel(
    conn: Connection, database_url: str, mail: MailServer, reply: str, code: str
) -> None:
    queue_instants(conn, 8)
    mail.fail("CONTENT", reply, times=8)
    report = send(database_url, mail_environ(mail))
    assert phase_c(report)["channels_held"] == {"email": code}
    assert {(row["status"], row["attempts"]) for row in rows(conn)} == {("queued", 0)}
    assert mail.mails == []


@pytest.mark.parametrize(
    ("error", "code"),
    [(21408, "account_limited"), (21703, "account_limited"), (30002, "account_limited")],
)
def test_what_the_account_does_not_allow_holds_the_channel(
    conn: Connection, database_url: str, provider: HttpProvider, error: int, code: str
) -> None:
    queue_instants(conn, 6, "sms")
    provider.rule = lambda request: refusal(400, own_error("twilio", 400, error))
    report = send(database_url, environ(provider)["twilio"])
    assert phase_c(report)["channels_held"] == {"sms": code}
    assert {(row["status"], row["attempts"]) for row in rows(conn)} == {("queued", 0)}


@pytest.mark.usefixtures("no_patience")
def test_full_queue_of_twilio_is_waited_for(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 1, "sms")
    provider.faults.append(refusal(429, own_error("twilio", 429, 21611)))
    counts = counts_of(send(database_url, environ(provider)["twilio"]), "c")
    assert counts["deliveries"]["released"] == 1
    assert counts["channels_closed"] == {"sms": "rate_limited"}
    assert rows(conn)[0]["failure_code"] == "rate_limited"
    let_time_pass(conn)
    counts_of(send(database_url, environ(provider)["twilio"], IN_AN_HOUR), "c")
    assert len(provider.accepted) == 1


# -- a group with a new id ---------------------------------------------------------------------


def chat_of(conn: Connection) -> str:
    found: str = query(conn, "SELECT telegram_chat_id FROM users")[0]["telegram_chat_id"]
    return found


@pytest.mark.parametrize("stored", ["-4711", " -4711 "])
def test_group_that_moved_gets_its_message_and_keeps_its_new_id(
    conn: Connection, database_url: str, provider: HttpProvider, stored: str
) -> None:
    queue_instants(conn, 1, "telegram")
    db.execute(conn, "UPDATE users SET telegram_chat_id = %s", (stored,))
    provider.supergroups["-4711"] = -1001234567890
    counts = counts_of(send(database_url, environ(provider)["telegram"]), "c")
    assert counts["deliveries"]["sent"] == 1
    assert [m.destination for m in provider.accepted] == ["-1001234567890"]
    assert chat_of(conn) == "-1001234567890"
    assert rows(conn)[0]["provider_message_id"] == "1"
    queue_again(conn)
    send(database_url, environ(provider)["telegram"], IN_AN_HOUR)
    assert (len(provider.accepted), len(provider.requests)) == (2, 3)


def queue_again(conn: Connection) -> None:
    db.execute(
        conn,
        "UPDATE user_alert_deliveries SET status = 'queued', sent_at = NULL,"
        " provider_message_id = NULL",
    )


def test_chat_that_the_user_changed_meanwhile_is_kept(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 1, "telegram")
    db.execute(conn, "UPDATE users SET telegram_chat_id = '-4711'")
    provider.supergroups["-4711"] = -1001234567890

    def change(request: object) -> None:
        if len(provider.requests) == 2:  # at the new id, before the answer
            db.execute(conn, "UPDATE users SET telegram_chat_id = '815'")

    provider.rule = change
    send(database_url, environ(provider)["telegram"])
    assert statuses(conn) == {"sent": 1}
    assert chat_of(conn) == "815"


def test_id_that_cannot_be_stored_costs_no_outcome(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 5, "telegram")
    db.execute(conn, "UPDATE users SET telegram_chat_id = '-4711'")
    db.execute(conn, "ALTER TABLE users ADD CHECK (telegram_chat_id = '-4711')")
    provider.supergroups["-4711"] = -1001234567890
    counts = counts_of(send(database_url, environ(provider)["telegram"]), "c")
    assert counts["deliveries"]["sent"] == len(provider.accepted) == 5
    assert statuses(conn) == {"sent": 5}


# -- patience has its ends ---------------------------------------------------------------------

PATIENT = {**QUICK, "ALERTS_PROVIDER_ANSWER_SECONDS": "60"}


def test_patience_does_not_hold_up_the_deadline(
    conn: Connection, database_url: str, provider: HttpProvider, mail: MailServer
) -> None:
    queue_instants(conn, 2, "telegram")
    queue_instants(conn, 2, "email")
    provider.rule = lambda request: Fault("hang")
    mail.fail("CONTENT", "hang", times=9)
    settings = {**environ(provider)["telegram"], **mail_environ(mail), **PATIENT}
    started = time.monotonic()
    report = send(database_url, settings, max_seconds=1.0)
    assert time.monotonic() - started < 4
    assert phase_c(report)["stopped_early"] == "deadline"
    assert {(row["failure_code"], row["attempts"]) for row in rows(conn)} == {
        ("outcome_unknown", 1)
    }


def test_deadline_while_the_last_answers_are_waited_for_ends_the_wait(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 1, "telegram")
    provider.rule = lambda request: Fault("hang")
    started = time.monotonic()
    send(database_url, {**environ(provider)["telegram"], **PATIENT}, max_seconds=2.0)
    assert time.monotonic() - started < 5
    assert statuses(conn) == {"queued": 1}


@pytest.mark.parametrize("through", ["telegram", "smtp"])
def test_patience_does_not_hold_up_a_signal(
    conn: Connection, database_url: str, provider: HttpProvider, mail: MailServer, through: str
) -> None:
    queue_instants(conn, 1, "telegram" if through == "telegram" else "email")
    provider.rule = lambda request: Fault("hang")
    mail.fail("CONTENT", "hang")
    of_mail = mail_environ(mail)
    settings = {**(of_mail if through == "smtp" else environ(provider)["telegram"]), **PATIENT}
    stop = Stop()

    def interrupt() -> None:
        wait_until(lambda: provider.requests or mail.commands["CONTENT"])
        stop.interrupt("SIGTERM")

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = time.monotonic()
    run_engine(
        settings_for(database_url, **settings), RunRequest(phase="c", now=NOW), Hooks(stop=stop)
    )
    assert time.monotonic() - started < 6
    thread.join(5)
    assert rows(conn)[0]["failure_code"] == "outcome_unknown"


def test_end_of_the_run_waits_for_no_longer_than_the_answer_takes(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 1, "telegram")
    provider.faults.append(Fault("slow", seconds=1.5))
    started = time.monotonic()
    counts_of(send(database_url, {**environ(provider)["telegram"], **PATIENT}), "c")
    assert time.monotonic() - started < 4
    assert statuses(conn) == {"sent": 1}
