"""No secret and no person in any output, whatever goes wrong with providers and mail servers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.leaks import (
    BODY,
    CHAT,
    EMAIL,
    HEADLINE,
    MAIL_PASSWORD,
    PHONE,
    SECRETS,
    assert_tables_clean,
    canary_world,
    encodings,
    watched,
)
from tests.support.mailserver import MailServer
from tests.support.providers import Fault, HttpProvider, Request
from tests.support.queue_world import let_time_pass
from tests.support.world import NOW, query

ALL = encodings((*SECRETS, EMAIL, PHONE, CHAT, HEADLINE, BODY))


def echo(status: int, how: str = "answer") -> Any:
    """A rule that answers with all that the request said, wherever an answer may hold text."""

    def rule(request: Request) -> Fault:
        said = f"{request.path} {json.dumps(request.headers)} {request.body.decode()} {ALL}"
        personal = _destination(request)
        body = {
            "message": f"{said} {unquote_plus(said)}",
            "description": said,
            "code": personal,
            "name": personal,
            "id": personal,
            "sid": personal,
            "messageId": personal,
            "result": {"message_id": personal, "text": said},
            "parameters": {"retry_after": personal},
            "error": {"message": said},
        }
        headers = {"Retry-After": personal, "Location": f"/{personal}", "X-Echo": personal}
        return Fault(how, status, headers, json.dumps(body).encode())

    return rule


def _destination(request: Request) -> str:
    if "sendMessage" in request.path:
        return CHAT
    if "Messages.json" in request.path:
        return PHONE.removeprefix("+")
    key = request.headers.get("api-key") or request.headers["authorization"].split()[-1]
    return key if request.connection % 2 else f"1.{EMAIL}"


@pytest.mark.parametrize("email_provider", ["brevo", "resend"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 422, 429, 503])
def test_answers_that_echo_the_request(
    conn: Connection, database_url: str, tmp_path: Path, email_provider: str, status: int
) -> None:
    canary_world(conn)
    with HttpProvider() as provider:
        provider.rule = echo(status)
        done = run_with(provider, database_url, tmp_path, email_provider)
        assert len(provider.requests) >= 3, done.stderr
    assert_tables_clean(conn)


@pytest.mark.parametrize("how", ["close", "hang", "drip_body", "unread", "refused"])
def test_calls_without_answer(
    conn: Connection, database_url: str, tmp_path: Path, how: str
) -> None:
    canary_world(conn)
    with HttpProvider() as provider:
        provider.rule = lambda request: Fault(how)
        provider.unread = how == "unread"
        if how == "refused":
            provider.url = "http://127.0.0.1:9"
        run_with(provider, database_url, tmp_path, "brevo")
        assert provider.connections or how == "refused"
    assert_tables_clean(conn)


def run_with(provider: HttpProvider, database_url: str, folder: Path, email: str) -> Any:
    names = ("BREVO", "RESEND", "TELEGRAM", "TWILIO")
    bases = {f"{name}_API_BASE": provider.url for name in names}
    return watched(database_url, folder).all_phases(
        EMAIL_PROVIDER=email,
        ALERTS_PROVIDER_TIMEOUT_SECONDS="1",
        ALERTS_PROVIDER_ANSWER_SECONDS="1",
        **bases,
    )


STAGES = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT")


@pytest.mark.parametrize(
    ("code", "stages"),
    [
        ("451 4.3.0", STAGES),
        ("550 5.1.1", ("RCPT", "DATA", "CONTENT")),
        ("553 5.7.1", ("MAIL",)),
        ("554 5.3.0", ("CONNECT",)),
        ("421 4.3.2", ("EHLO", "MAIL", "RCPT")),
        ("close", ("MAIL", "CONTENT")),
    ],
)
def test_mail_replies_that_echo(
    conn: Connection, database_url: str, tmp_path: Path, code: str, stages: tuple[str, ...]
) -> None:
    canary_world(conn, emails=len(stages) + 1)
    said = f"<1.{EMAIL}> {HEADLINE} {BODY} {quote(EMAIL)} "
    said += base64.b64encode(f"1.{EMAIL}".encode()).decode()
    with MailServer() as server:
        for stage in stages:
            server.fail(stage, code if code == "close" else f"{code} {said}")
        for run in range(len(stages)):  # some close the channel: then one message probes it
            (folder := tmp_path / str(run)).mkdir()
            watched(database_url, folder)(
                *("--phase", "all", "--now", NOW.isoformat(), "--log-json", "--max-seconds", "20"),
                EMAIL_PROVIDER="smtp",
                SMTP_URL=f"smtp://127.0.0.1:{server.port}",
                ALERTS_SEND_WORKERS="1",
                ALERTS_PROVIDER_TIMEOUT_SECONDS="2",
            )
            let_time_pass(conn)
        assert all(server.commands[stage] for stage in stages)
    assert_tables_clean(conn)
    assert query(conn, "SELECT 1 FROM user_alert_deliveries WHERE last_error IS NOT NULL") or (
        stages in (("MAIL",), ("CONNECT",))  # these hold the channel
    )


@pytest.mark.parametrize("reply", ["", "535 5.7.8", "454 4.7.0", "530 5.7.0"])
def test_refused_mail_login_that_echoes(
    conn: Connection, database_url: str, tmp_path: Path, reply: str
) -> None:
    canary_world(conn)
    password = quote(MAIL_PASSWORD, safe="")
    login = base64.b64encode(f"\0{EMAIL}\0{MAIL_PASSWORD}".encode()).decode()
    with MailServer(login=True) as server:
        if reply:
            server.fail("AUTH", f"{reply} {login} {encodings((MAIL_PASSWORD, EMAIL))}", times=9)
        done = watched(database_url, tmp_path).all_phases(
            EMAIL_PROVIDER="smtp", SMTP_URL=f"smtp://{EMAIL}:{password}@127.0.0.1:{server.port}"
        )
        assert server.commands["AUTH"]
    assert "SMTP" in done.stderr
    assert_tables_clean(conn)
