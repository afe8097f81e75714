"""Links to unsubscribe, as mail servers and providers receive them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.leaving import links
from alerts.leaving.links import Leaver
from tests.support.mailserver import MailServer
from tests.support.messages import Page
from tests.support.provider_runs import environ, mail_environ, send
from tests.support.providers import HttpProvider
from tests.support.queue_world import add_digest
from tests.support.world import add_alert, add_delivery, add_user, counts_of, value

# Longer than a header line should be: the links stay whole.
APP = "https://a-rather-long-name-of-an-application.energy-risk.example.com/with/a/path"
BASE = f"{APP}/alerts/unsubscribe/"
ONE_CLICK = "List-Unsubscribe=One-Click"


class Received:
    """One email: its headers as name and value, and its two texts."""

    def __init__(self, headers: list[tuple[str, str]], text: str, html: str) -> None:
        self.headers, self.text, self.html = headers, text, html

    def only(self, name: str) -> str:
        (found,) = [given for each, given in self.headers if each.lower() == name.lower()]
        return found


def parsed(raw: bytes) -> Received:
    message = message_from_bytes(raw, policy=default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    texts = [message.get_body((kind,)) for kind in ("plain", "html")]
    plain, html = (part.get_content() for part in texts if part is not None)
    return Received([(name, str(given)) for name, given in message.items()], plain, html)


def by_mail_server(database_url: str, tmp_path: Path, app: dict[str, str]) -> list[Received]:
    with MailServer() as server:
        counts_of(send(database_url, {**mail_environ(server), **app}), "c")
    return [parsed(mail.content) for mail in server.mails]


def by_outbox(database_url: str, tmp_path: Path, app: dict[str, str]) -> list[Received]:
    outbox = {"EMAIL_PROVIDER": "outbox", "ALERTS_OUTBOX_DIR": str(tmp_path / "outbox")}
    counts_of(send(database_url, {**outbox, **app}), "c")
    return [parsed(file.read_bytes()) for file in sorted((tmp_path / "outbox").glob("*.eml"))]


def by_api(name: str) -> Callable[[str, Path, dict[str, str]], list[Received]]:
    def collect(database_url: str, tmp_path: Path, app: dict[str, str]) -> list[Received]:
        with HttpProvider() as provider:
            counts_of(send(database_url, {**environ(provider)[name], **app}), "c")
        found = []
        for request in provider.requests:
            body = json.loads(request.body)
            assert request.body.count(b'"List-Unsubscribe"') <= 1
            texts = [body.get(key) or body[f"{key}Content"] for key in ("text", "html")]
            found.append(Received(list(body["headers"].items()), *texts))
        return found

    return collect


WAYS = {
    "smtp": by_mail_server,
    "outbox": by_outbox,
    "brevo": by_api("brevo"),
    "resend": by_api("resend"),
}


@pytest.mark.parametrize("way", WAYS)
def test_alerts_and_digests_carry_a_link_of_their_own_reader(
    conn: Connection, database_url: str, tmp_path: Path, way: str
) -> None:
    users = [add_user(conn) for _ in range(3)]
    event = add_alert(conn)
    for user in users:
        add_delivery(conn, user, event)
    add_digest(conn, users[0], [event])
    received = WAYS[way](database_url, tmp_path, {"ALERTS_APP_BASE_URL": APP})
    assert len(received) == 4
    key = bytes(value(conn, "SELECT key FROM alerts_keys WHERE purpose = 'unsubscribe'"))
    found = []
    for mail in received:
        assert mail.only("List-Unsubscribe-Post") == ONE_CLICK
        link = mail.only("List-Unsubscribe")
        assert link.startswith(f"<{BASE}") and link.endswith(">")
        assert f"To unsubscribe: {link[1:-1]}\n" in mail.text.replace("\r\n", "\n")
        assert link[1:-1] in Page(mail.html).links()
        found.append(links.read(key, link[1:-1].removeprefix(BASE)))
    assert sorted(found, key=str) == sorted(
        [Leaver(user, "email") for user in (*users, users[0])], key=str
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("app", "visible"), [({}, False), ({"ALERTS_APP_BASE_URL": "http://127.0.0.1:5000"}, True)]
)
def test_without_https_no_header_says_so(
    conn: Connection,
    database_url: str,
    tmp_path: Path,
    way: str,
    app: dict[str, str],
    visible: bool,
) -> None:
    add_delivery(conn, add_user(conn), add_alert(conn))
    (mail,) = WAYS[way](database_url, tmp_path, app)
    assert not [name for name, _ in mail.headers if name.lower().startswith("list-")]
    assert ("To unsubscribe: http://" in mail.text) == visible
    assert ("unsubscribe" in mail.html.lower()) == visible
    assert "\x1a" not in mail.text + mail.html


def test_every_attempt_has_the_same_bytes(conn: Connection, database_url: str) -> None:
    """Resend refuses the key of a request whose body has changed."""
    add_delivery(conn, add_user(conn), add_alert(conn))
    with HttpProvider() as provider:
        for _ in range(2):
            settings = {**environ(provider)["resend"], "ALERTS_APP_BASE_URL": APP}
            send(database_url, settings)
            db.execute(conn, "UPDATE user_alert_deliveries SET status = 'queued', sent_at = NULL")
    first, second = provider.requests
    assert first.body == second.body


def test_hostile_headline_is_not_signed(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    add_delivery(conn, add_user(conn), add_alert(conn, headline="a\x1ab \x1a"))
    (mail,) = by_outbox(database_url, tmp_path, {"ALERTS_APP_BASE_URL": APP})
    assert len(re.findall("email-[0-9]+-", mail.text)) == 1
    assert len(re.findall("email-[0-9]+-", mail.html)) == 1


def test_lost_key_is_made_again(conn: Connection, database_url: str, tmp_path: Path) -> None:
    db.execute(conn, "DELETE FROM alerts_keys WHERE purpose = 'unsubscribe'")
    add_delivery(conn, add_user(conn), add_alert(conn))
    (mail,) = by_outbox(database_url, tmp_path, {"ALERTS_APP_BASE_URL": APP})
    key = bytes(value(conn, "SELECT key FROM alerts_keys WHERE purpose = 'unsubscribe'"))
    assert links.read(key, mail.only("List-Unsubscribe")[1:-1].removeprefix(BASE))
