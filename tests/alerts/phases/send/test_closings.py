"""Closed channels over several runs, through real adapters and sockets."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode
from alerts.phases.send import gates, sender
from alerts.repair import pauses
from tests.support.mailserver import MailServer
from tests.support.phases import phase_context
from tests.support.provider_runs import environ, mail_environ, send
from tests.support.providers import HttpProvider, Request, own_error, refusal
from tests.support.queue_world import (
    add_digest,
    delivery,
    let_time_pass,
    queue_instants,
    row_of,
    statuses,
)
from tests.support.world import (
    NOW,
    RememberingChannel,
    add_alert,
    add_user,
    all_channels,
    counts_of,
    query,
    run,
    value,
)

pytestmark = pytest.mark.usefixtures("no_patience")
C = FailureCode
# Or some more are under way before what results say in a row is seen.
ONE_BY_ONE = {"ALERTS_RECORD_BATCH": "1"}
# As if the time of their backoff had come.
LATER_RETRIES = "UPDATE user_alert_deliveries SET next_retry_at = %s WHERE next_retry_at > %s"


def state(conn: Connection, channel: str = "email") -> dict[str, Any]:
    text = "SELECT * FROM alerts_channel_state WHERE channel = %s"
    return query(conn, text, channel)[0]


def attempts(conn: Connection) -> int:
    return int(value(conn, "SELECT sum(attempts) FROM user_alert_deliveries"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# -- what was found by running -----------------------------------------------------------------


def test_a_wish_to_wait_an_hour_costs_one_call_and_not_one_a_run(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 40, "telegram")
    body = {**own_error("telegram", 429), "parameters": {"retry_after": 3600}}
    provider.rule = lambda request: refusal(429, body)
    workers = {"ALERTS_SEND_WORKERS": "1"}
    for minutes in range(0, 60, 10):
        now = NOW + timedelta(minutes=minutes)
        counts = counts_of(
            send(database_url, {**environ(provider)["telegram"], **workers}, now), "c"
        )
        assert counts["channels_closed"] == {"telegram": "rate_limited"}
    assert len(provider.requests) == 1
    assert attempts(conn) == 0
    let_time_pass(conn)
    send(database_url, {**environ(provider)["telegram"], **workers})
    assert len(provider.requests) == 2
    provider.rule = lambda request: None
    let_time_pass(conn)
    counts_of(send(database_url, {**environ(provider)["telegram"], **workers}), "c")
    assert statuses(conn) == {"sent": 40}


def test_a_mail_server_that_is_away_for_two_hours_loses_nothing(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 30)
    port = free_port()
    nobody = {**mail_environ(MailServer()), "SMTP_URL": f"smtp://127.0.0.1:{port}"}
    for minutes in range(0, 120, 10):
        report = send(database_url, nobody, NOW + timedelta(minutes=minutes))
        assert counts_of(report, "c")["channels_closed"] == {"email": "network"}
        let_time_pass(conn)
    assert (statuses(conn), attempts(conn)) == ({"queued": 30}, 0)
    assert state(conn)["failures"] == 12
    with MailServer() as mail:
        counts_of(send(database_url, mail_environ(mail), NOW + timedelta(hours=2)), "c")
        assert len(mail.mails) == 30
    assert statuses(conn) == {"sent": 30}
    assert (state(conn)["failures"], state(conn)["closed_since"]) == (0, None)


def test_forty_logins_are_refused_once(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 40)
    provider.rule = lambda request: refusal(401, own_error("resend", 401, "invalid_api_key"))
    settings = {**environ(provider)["resend"], "ALERTS_SEND_WORKERS": "1"}
    for runs in range(1, 4):
        report = send(database_url, settings)
        assert report.record.status == "failed"
        assert report.record.counts["c"]["channels_held"] == {"email": "auth_failed"}
        assert len(provider.requests) == runs
        let_time_pass(conn)
    assert (statuses(conn), attempts(conn)) == ({"queued": 40}, 0)


def test_a_channel_that_is_held_stays_held_until_its_time_has_come(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 5)
    provider.rule = lambda request: refusal(401, own_error("resend", 401, "invalid_api_key"))
    settings = {**environ(provider)["resend"], "ALERTS_SEND_WORKERS": "1"}
    for _ in range(3):
        report = send(database_url, settings)
        assert report.record.counts["c"]["channels_held"] == {"email": "auth_failed"}
        assert report.record.status == "failed"
    assert len(provider.requests) == 1


def test_a_probe_that_is_answered_wrongly_sends_a_row_at_most_twice(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 3, "telegram")
    seen: list[bytes] = []

    def proxy(request: Request) -> Any:
        seen.append(request.body)
        return refusal(200, "a captive portal")

    provider.rule = proxy
    settings = {**environ(provider)["telegram"], "ALERTS_SEND_WORKERS": "1"}
    for runs in range(12):
        report = send(database_url, settings, NOW + timedelta(hours=runs))
        assert report.record.status == ("failed" if runs < 6 else report.record.status)
        let_time_pass(conn)
    chats = [json.loads(body)["chat_id"] for body in seen]
    assert {chat: chats.count(chat) for chat in chats} == dict.fromkeys(chats, 2)
    assert len(set(chats)) == 3


def test_a_missing_secret_stops_its_channel_and_waits_for_it(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 5, "sms")
    queue_instants(conn, 5, "telegram")
    both = {**environ(provider)["twilio"], **environ(provider)["telegram"]}
    report = send(database_url, {**both, "TWILIO_AUTH_TOKEN": ""})
    assert report.record.status == "failed"
    assert report.record.counts["c"]["channels_held"] == {"sms": "misconfigured"}
    assert statuses(conn) == {"queued": 5, "sent": 5}
    assert state(conn, "sms")["code"] == "misconfigured"
    counts = counts_of(send(database_url, both), "c")
    assert counts["channels_held"] == counts["channels_closed"] == {}
    assert statuses(conn) == {"sent": 10}
    assert state(conn, "sms")["closed_since"] is None


def test_a_channel_that_has_sent_waits_for_its_lost_settings_and_a_new_one_skips(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 1, "telegram")
    counts_of(send(database_url, environ(provider)["telegram"]), "c")
    late = queue_instants(conn, 2, "telegram")
    sms = queue_instants(conn, 2, "sms")
    report = send(database_url, {})
    assert report.record.counts["c"]["channels_held"] == {"telegram": "misconfigured"}
    assert {delivery(conn, row)["status"] for row in late} == {"queued"}
    assert {delivery(conn, row)["failure_code"] for row in sms} == {"channel_not_configured"}
    counts = counts_of(send(database_url, {"ALERTS_CHANNELS_OFF": "telegram"}), "c")
    assert counts["channels_held"] == {}
    assert {delivery(conn, row)["failure_code"] for row in late} == {"channel_not_configured"}
    assert state(conn, "telegram")["switched_off"]


# -- opening -----------------------------------------------------------------------------------


def test_a_renewed_key_opens_at_once(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 5)
    provider.rule = lambda request: refusal(401, own_error("resend", 401, "invalid_api_key"))
    old = {**environ(provider)["resend"], "RESEND_API_KEY": "re_old_key_of_this_test"}
    assert send(database_url, old).record.status == "failed"
    provider.rule = lambda request: None
    counts = counts_of(send(database_url, environ(provider)["resend"]), "c")
    assert (counts["channels_held"], statuses(conn)) == ({}, {"sent": 5})


@pytest.mark.parametrize("channel", ["telegram", None])
def test_resume_opens_at_once(
    conn: Connection, database_url: str, provider: HttpProvider, channel: str | None
) -> None:
    queue_instants(conn, 5, "telegram")
    provider.faults.append(refusal(429, own_error("telegram", 429)))
    settings = {**environ(provider)["telegram"], "ALERTS_SEND_WORKERS": "1"}
    send(database_url, settings)
    answer = pauses.resume(conn, channel, None, now=NOW, token_key_id="cli", scrub=str)
    assert answer["opened"] == ["telegram"]
    counts_of(send(database_url, settings), "c")
    assert statuses(conn) == {"sent": 5}
    again = pauses.resume(conn, channel, None, now=NOW, token_key_id="cli", scrub=str)
    assert "opened" not in again


def test_resume_of_one_channel_opens_no_other(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 1, "telegram")
    provider.faults.append(refusal(429, own_error("telegram", 429)))
    send(database_url, environ(provider)["telegram"])
    answer = pauses.resume(conn, "email", None, now=NOW, token_key_id="cli", scrub=str)
    assert "opened" not in answer
    assert state(conn, "telegram")["closed_since"] is not None


@pytest.mark.parametrize(
    ("code", "opens"),
    [
        (C.RECIPIENT_INVALID, True),
        (C.PAYLOAD_INVALID, True),
        (C.PROVIDER_UNAVAILABLE, False),
        (C.OUTCOME_UNKNOWN, False),
        (C.TIMEOUT_CONNECT, False),
    ],
)
def test_what_a_probe_is_answered_with(
    conn: Connection, database_url: str, code: FailureCode, opens: bool
) -> None:
    queue_instants(conn, 9)
    mail(database_url, always(C.NETWORK), workers=1)
    let_time_pass(conn)
    calls: list[int] = []

    def first(message: Message) -> None:
        calls.append(row_of(message))
        if len(calls) == 1:
            raise DeliveryError(code, "as the test wants")

    mail(database_url, first)
    assert len(calls) == (9 if opens else 1)
    assert (state(conn)["closed_since"] is None) is opens
    assert state(conn)["failures"] == (0 if opens else 2)


# -- who waits, and who pays -------------------------------------------------------------------


def always(code: FailureCode, **more: Any) -> Callable[[Message], None]:
    def answer(message: Message) -> None:
        raise DeliveryError(code, "as the test wants", **more)

    return answer


def mail(
    database_url: str, answer: Callable[[Message], None], *, workers: int = 8, **environ: str
) -> dict[str, Any]:
    channels = all_channels(email=RememberingChannel(answer))
    settings = {"ALERTS_SEND_WORKERS": str(workers), **environ}
    report = run(database_url, "c", channels=channels, environ=settings)
    counts: dict[str, Any] = report.record.counts["c"]
    return counts


@pytest.mark.parametrize(
    "code", [C.NETWORK, C.TIMEOUT_CONNECT, C.RATE_LIMITED, C.AUTH_FAILED, C.UNEXPECTED_ANSWER]
)
def test_one_dead_row_keeps_nobody_waiting_and_ends_itself(
    conn: Connection, database_url: str, code: FailureCode
) -> None:
    rows = queue_instants(conn, 30)
    digest = add_digest(conn, add_user(conn), [add_alert(conn)])
    calls: list[int] = []

    def answer(message: Message) -> None:
        calls.append(row_of(message))
        if message.key.startswith(f"deliveries-{rows[0]}-"):
            raise DeliveryError(code, "as the test wants")

    runs = 0
    while delivery(conn, rows[0])["status"] == "queued":
        mail(database_url, answer, workers=1)
        let_time_pass(conn)
        db.execute(conn, LATER_RETRIES, (NOW, NOW))
        runs += 1
        assert runs < 20
        queue_instants(conn, 1)  # one that lives, for the next run
        if runs == 3:
            assert statuses(conn) == {"sent": 29 + 2, "queued": 2, "skipped": 1}
            assert delivery(conn, digest, "user_alert_digests")["status"] == "sent"
    assert delivery(conn, rows[0])["failure_code"] == code.value
    assert delivery(conn, rows[0])["attempts"] <= 5


def test_nobody_pays_for_a_provider_that_comes_and_goes(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 40)
    for _ in range(6):
        mail(database_url, always(C.NETWORK))
        let_time_pass(conn)
    assert (statuses(conn), attempts(conn)) == ({"queued": 40}, 0)


def test_a_busy_provider_closes_and_one_domain_does_not(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 30)
    counts = mail(database_url, always(C.PROVIDER_UNAVAILABLE), workers=1, **ONE_BY_ONE)
    assert counts["channels_closed"] == {}  # all at example.com
    assert counts["deliveries"]["retried"] == 30
    db.execute(conn, "UPDATE users SET email = id || '@d' || id || '.example'")
    db.execute(conn, "UPDATE user_alert_deliveries SET next_retry_at = NULL")
    counts = mail(database_url, always(C.PROVIDER_UNAVAILABLE), workers=1, **ONE_BY_ONE)
    assert counts["channels_closed"] == {"email": "provider_unavailable"}
    assert counts["deliveries"]["retried"] == 5


def test_ten_refused_users_hold_for_the_run_and_the_next_tries_ten_others(
    conn: Connection, database_url: str
) -> None:
    queue_instants(conn, 25)
    for failed in (10, 20):
        counts = mail(database_url, always(C.RECIPIENT_INVALID), workers=1, **ONE_BY_ONE)
        assert counts["channels_held"] == {"email": "refusals_in_a_row"}
        assert statuses(conn) == {"failed": failed, "queued": 25 - failed}
    counts = mail(database_url, lambda message: None)
    assert counts["channels_held"] == {}
    assert statuses(conn) == {"failed": 20, "sent": 5}


def test_a_run_waits_for_no_channel_that_an_earlier_one_has_closed(
    conn: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue_instants(conn, 3)
    mail(database_url, always(C.NETWORK), workers=1)
    monkeypatch.setattr(gates, "SAT_OUT_SECONDS", 30.0)
    report = run(database_url, "c", channels=all_channels())
    assert report.record.counts["c"]["channels_closed"] == {"email": "network"}
    assert (report.record.duration_ms or 0) < 20_000
    assert statuses(conn) == {"queued": 3}


@pytest.mark.parametrize("senders", [2, 4])
def test_of_several_senders_one_calls_a_closed_channel(
    conn: Connection, database_url: str, senders: int
) -> None:
    queue_instants(conn, 40)
    mail(database_url, always(C.NETWORK), workers=1)
    calls: list[int] = []

    def refuse(message: Message) -> None:
        calls.append(row_of(message))
        raise DeliveryError(C.NETWORK, "as the test wants")

    channels = all_channels(email=RememberingChannel(refuse))

    def one(_: int) -> None:
        with closing(psycopg2.connect(database_url)) as own:
            own.autocommit = True
            sender.run(
                phase_context(own, database_url, run_id=str(uuid.uuid4()), channels=channels)
            )

    for runs in range(1, 4):
        let_time_pass(conn)
        with ThreadPoolExecutor(senders) as pool:
            list(pool.map(one, range(senders)))
        assert len(calls) == runs
    assert (statuses(conn), attempts(conn)) == ({"queued": 40}, 0)


# -- dry runs ----------------------------------------------------------------------------------


def test_a_dry_run_sees_the_states_and_touches_none(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 10)
    queue_instants(conn, 10, "telegram")
    mail(database_url, always(C.NETWORK), workers=1)
    queue_instants(conn, 10, "telegram")
    for _ in range(2):
        before = query(conn, "SELECT * FROM alerts_channel_state ORDER BY channel")
        settings = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": "/nowhere"}
        db.execute(conn, "UPDATE alerts_channel_state SET settings_hash = 'another'")
        before = query(conn, "SELECT * FROM alerts_channel_state ORDER BY channel")
        report = run(database_url, "c", dry_run=True, environ=settings)
        counts = report.record.counts["c"]
        assert counts["deliveries"]["sent"] == 20  # its settings are others: it would open
        assert query(conn, "SELECT * FROM alerts_channel_state ORDER BY channel") == before
        let_time_pass(conn)
