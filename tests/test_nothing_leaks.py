"""No secret and no person in any output, whatever goes wrong with providers and mail servers."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.canaries import (
    BODY,
    CHAT,
    EMAIL,
    HEADLINE,
    MAIL_PASSWORD,
    OWNER_CHAT,
    OWNER_EMAIL,
    PHONE,
    PING_PATH,
    SECRETS,
    encodings,
)
from tests.support.leaks import assert_tables_clean, canary_world, watched
from tests.support.mailserver import MailServer
from tests.support.providers import Fault, HttpProvider, Request
from tests.support.queue_world import let_time_pass
from tests.support.world import NOW, query

ALL = encodings((*SECRETS, EMAIL, PHONE, CHAT, HEADLINE, BODY))


def echo(status: int, *, taken: bool = True) -> Any:
    """A rule that answers with all that the request said, wherever an answer may hold text;
    ``taken``: with the ids of a message that was taken, whatever the status."""

    def rule(request: Request) -> Fault:
        said = f"{request.path} {json.dumps(request.headers)} {request.body.decode()} {ALL}"
        personal = _destination(request)
        body: dict[str, Any] = {
            "message": f"{said} {unquote_plus(said)}",
            "description": said,
            "code": personal,
            "name": personal,
            "parameters": {"retry_after": personal},
            "error": {"message": said},
        }
        if taken:
            body |= {"id": personal, "sid": personal, "messageId": personal}
            body |= {"result": {"message_id": personal, "text": said}}
        else:
            body |= {"ok": False, "error_code": status, "status": status}
        headers = {"Retry-After": personal, "Location": f"/{personal}", "X-Echo": personal}
        return Fault("answer", status, headers, json.dumps(body).encode())

    return rule


def _destination(request: Request) -> str:
    if "sendMessage" in request.path:
        return CHAT
    if "Messages.json" in request.path:
        return PHONE.removeprefix("+")
    key = (
        request.headers.get("api-key")
        or request.headers.get("authorization", PING_PATH).split()[-1]
    )
    return key if request.connection % 2 else f"1.{EMAIL}"


@pytest.mark.parametrize("email_provider", ["brevo", "resend"])
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 422, 429, 503])
def test_answers_that_echo_the_request(
    conn: Connection, database_url: str, tmp_path: Path, email_provider: str, status: int
) -> None:
    canary_world(conn)
    with HttpProvider() as provider:
        provider.rule = echo(status, taken=status < 400 or email_provider == "resend")
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
    return watched(database_url, folder).all_phases(**provided(provider, email))


def provided(provider: HttpProvider, email: str = "brevo") -> dict[str, str]:
    """What leads every provider and the outside monitor to this server."""
    names = ("BREVO", "RESEND", "TELEGRAM", "TWILIO")
    return {
        **{f"{name}_API_BASE": provider.url for name in names},
        "EMAIL_PROVIDER": email,
        "ALERTS_PING_URL": f"{provider.url}/{PING_PATH}",
        "ALERTS_PROVIDER_TIMEOUT_SECONDS": "1",
        "ALERTS_PROVIDER_ANSWER_SECONDS": "1",
    }


@pytest.mark.parametrize("status", [302, 401, 429, 503])
def test_answers_that_echo_what_the_owner_and_the_monitor_are_told(
    conn: Connection, database_url: str, tmp_path: Path, status: int
) -> None:
    canary_world(conn)
    watch = watched(database_url, tmp_path)
    with HttpProvider() as provider:
        provider.rule = echo(status, taken=False)
        for _ in range(2):  # the second run finds the trouble again, and tells it
            watch.all_phases(**provided(provider))
            let_time_pass(conn)
        for channel in ("email", "telegram"):
            done = watch("test-message", channel, module="alerts", **provided(provider))
            assert done.returncode == 1, done.stderr
        said = "".join(f"{each.path} {each.body.decode()}\n" for each in provider.requests)
    assert all(canary in said for canary in (OWNER_EMAIL, OWNER_CHAT, PING_PATH)), said
    assert "the owner could not be told" in "".join(watch.said)
    assert query(conn, "SELECT 1 FROM alerts_notices WHERE tried_at IS NOT NULL")
    assert query(conn, "SELECT 1 FROM alerts_test_messages WHERE failure_code IS NOT NULL")
    assert_tables_clean(conn)


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
                ALERTS_OWNER_EMAIL="",  # a notice would use up a fault
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
