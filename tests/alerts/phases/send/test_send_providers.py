"""One run through each provider's own adapter, over real sockets, and back into the rows."""

from __future__ import annotations

import json

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.mailserver import MailServer
from tests.support.provider_runs import CHANNEL_OF, environ, mail_environ, send
from tests.support.providers import Fault, HttpProvider, own_error, refusal
from tests.support.queue_world import add_digest, delivery, queue_instants, statuses
from tests.support.world import add_alert, add_user, counts_of, query


@pytest.mark.parametrize("name", CHANNEL_OF)
def test_messages_reach_the_provider_once_and_its_ids_the_rows(
    conn: Connection, database_url: str, provider: HttpProvider, name: str
) -> None:
    queue_instants(conn, 30, CHANNEL_OF[name])
    counts_of(send(database_url, environ(provider)[name]), "c")
    assert len(provider.accepted) == 30
    assert len({message.destination for message in provider.accepted}) == 30
    assert all("Pipeline stops" in message.text for message in provider.accepted)
    assert statuses(conn) == {"sent": 30}
    ids = {row["provider_message_id"] for row in query(conn, "SELECT * FROM user_alert_deliveries")}
    assert len(ids) == 30
    assert None not in ids


def test_mails_and_digests_go_through_a_mail_server(conn: Connection, database_url: str) -> None:
    queue_instants(conn, 10)
    digest = add_digest(conn, add_user(conn), [add_alert(conn)])
    with MailServer() as server:
        counts = counts_of(send(database_url, mail_environ(server)), "c")
    assert (counts["deliveries"]["sent"], counts["digests"]["sent"]) == (10, 1)
    assert len(server.mails) == 11
    assert delivery(conn, digest, "user_alert_digests")["provider_message_id"]


@pytest.mark.parametrize("name", CHANNEL_OF)
def test_wrong_key_holds_the_channel(
    conn: Connection, database_url: str, provider: HttpProvider, name: str
) -> None:
    queue_instants(conn, 5, CHANNEL_OF[name])
    provider.rule = lambda request: refusal(401, own_error(name, 401, "unauthorized"))
    report = send(database_url, environ(provider)[name])
    assert report.record.status == "failed"
    assert report.record.counts["c"]["channels_held"] == {CHANNEL_OF[name]: "auth_failed"}
    assert statuses(conn) == {"queued": 5}


@pytest.mark.usefixtures("short_waits")
def test_retry_after_of_telegram_is_respected(
    conn: Connection, database_url: str, provider: HttpProvider
) -> None:
    queue_instants(conn, 5, "telegram")
    body = {"ok": False, "error_code": 429, "description": "x", "parameters": {"retry_after": 1}}
    provider.faults.append(Fault(status=429, body=json.dumps(body).encode()))
    report = send(database_url, {**environ(provider)["telegram"], "ALERTS_SEND_WORKERS": "1"})
    counts = counts_of(report, "c")
    assert counts["deliveries"]["retried"] == 0
    released = counts["deliveries"]["released"]
    assert 2 <= released <= 4  # the two that were claimed, or more where a claim ran ahead
    assert counts["deliveries"]["claimed"] == released + 5
    assert counts["stopped_early"] is None
    assert statuses(conn) == {"sent": 5}
    assert (report.record.duration_ms or 0) >= 1000
