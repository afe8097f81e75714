"""The pages behind the links of emails: what they say, and what they change."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection
from werkzeug.test import TestResponse

from alerts import db
from alerts.leaving import links
from tests.support.leaving import audit, channel_pref, link_of
from tests.support.messages import VOID_TAGS, Page
from tests.support.web import CLOSED_PORT, Admin, app_for
from tests.support.world import (
    NOW,
    add_alert,
    add_channel_pref,
    add_delivery,
    add_pref,
    add_user,
    all_channels,
    counts_of,
    query,
    run,
)

VOID_TAGS |= {"link"}
OFF = {"enabled": False, "digest_only": False, "unsubscribed_at": NOW}


def title_of(response: TestResponse) -> str:
    assert response.mimetype == "text/html"
    found = re.search("<h1>(.*)</h1>", response.text)
    assert found
    Page(response.text)  # well-formed
    return found[1]


def form_of(response: TestResponse) -> str | None:
    """Where the page's one button posts to."""
    found = re.findall('<form method="post" action="(.*)">', response.text)
    assert len(found) <= 1
    return found[0] if found else None


@pytest.fixture
def user(conn: Connection) -> int:
    return add_user(conn, "pro")


@pytest.fixture
def link(conn: Connection, user: int) -> str:
    return link_of(conn, user)


# A person with a browser


def test_person_follows_the_link_leaves_and_undoes_it(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    page = client.get(link)
    assert (page.status_code, title_of(page)) == (200, "Unsubscribe from alert emails?")
    assert form_of(page) == link
    assert channel_pref(conn, user) is None

    page = client.post(link)
    assert (page.status_code, title_of(page)) == (200, "You are unsubscribed")
    assert channel_pref(conn, user) == OFF
    undo = form_of(page)
    assert undo == f"{link}/undo"

    page = client.get(link)
    assert title_of(page) == "You are unsubscribed"
    assert "have been off since 8 March 2022, 19:00 CET." in page.text
    assert form_of(page) == undo

    assert title_of(client.get(undo)) == "You are unsubscribed"  # the page loaded again
    page = client.post(undo)
    assert (page.status_code, title_of(page)) == (200, "You get alert emails again")
    assert channel_pref(conn, user) == {**OFF, "enabled": True, "unsubscribed_at": None}
    assert title_of(client.get(link)) == "Unsubscribe from alert emails?"


def test_looking_changes_nothing(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    client.post(link)
    before = (channel_pref(conn, user), audit(conn))
    for method in ("GET", "HEAD", "OPTIONS"):
        for path in (link, f"{link}/undo", f"{link}?utm_source=mail"):
            assert client.open(path, method=method).status_code == 200
    assert (channel_pref(conn, user), audit(conn)) == before


def test_no_answer_sets_a_cookie_or_may_be_kept(client: FlaskClient, link: str) -> None:
    for response in (client.get(link), client.post(link), client.post(f"{link}/undo")):
        assert "Set-Cookie" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"


def test_page_loads_nothing_and_tells_nobody_its_address(client: FlaskClient, link: str) -> None:
    for response in (client.get(link), client.post(link), client.get(f"{link}x")):
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert "noindex" in response.headers["X-Robots-Tag"]
        tags = Page(response.text).tags
        assert not [tag for tag, _ in tags if tag in ("script", "img", "iframe")]
        assert not [a["src"] for _, a in tags if "src" in a]
        assert len(response.data) < 8_000


def test_page_links_to_the_app_where_it_cannot_help(database_url: str) -> None:
    client = app_for(database_url, ALERTS_APP_BASE_URL="https://app.example.com").test_client()
    assert "https://app.example.com" in Page(client.get(f"{links.PATH}x").text).links()


# A mail provider's server (RFC 8058)

BODY = "List-Unsubscribe=One-Click"
MULTIPART = (
    '--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'
)


REQUESTS: list[dict[str, Any]] = [
    {"data": BODY, "content_type": "application/x-www-form-urlencoded"},
    {"data": MULTIPART, "content_type": "multipart/form-data; boundary=b"},
    {"data": "", "content_type": ""},
    {"data": "x" * 100_000, "content_type": "text/plain"},
    {"data": BODY, "headers": {"Origin": "https://mail.example.com", "Cookie": "a=b"}},
    {"data": BODY, "headers": {"Sec-Fetch-Site": "cross-site", "Accept": "*/*"}},
]


def test_mail_provider_posts_and_the_channel_is_off(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    for request in REQUESTS:
        for _ in range(2):
            assert client.post(link, **request).status_code == 200
        assert channel_pref(conn, user) == OFF
        client.post(f"{link}/undo")


def test_again_and_again_is_the_same_and_is_audited_once(
    client: FlaskClient, database_url: str, conn: Connection, user: int, link: str
) -> None:
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    later = app_for(database_url, ALERTS_CLOCK=tomorrow).test_client()
    for each in (client, client, later):
        assert title_of(each.post(link)) == "You are unsubscribed"
    assert channel_pref(conn, user) == OFF
    for each in (client, later):
        each.post(f"{link}/undo")
    parameters = {"user_id": user, "channel": "email"}
    assert audit(conn) == [
        {
            "action": action,
            "token_key_id": "link",
            "parameters": parameters,
            "result": {"enabled": enabled},
        }
        for action, enabled in (("unsubscribe", False), ("resubscribe", True))
    ]


# What was there before


def test_undo_brings_back_digests_only(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    add_channel_pref(conn, user, "email", digest_only=True)
    client.post(link)
    assert channel_pref(conn, user) == {**OFF, "digest_only": True}
    client.post(f"{link}/undo")
    row = {"enabled": True, "digest_only": True, "unsubscribed_at": None}
    assert channel_pref(conn, user) == row


def test_undo_does_not_switch_on_what_was_switched_off_in_the_app(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    add_channel_pref(conn, user, "email", enabled=False)
    for page in (client.get(link), client.post(link), client.post(f"{link}/undo")):
        assert (page.status_code, title_of(page)) == (200, "You get no alert emails")
        assert form_of(page) is None
    assert channel_pref(conn, user) == {**OFF, "unsubscribed_at": None}
    assert audit(conn) == []


@pytest.mark.parametrize(
    "in_the_app",
    [
        "UPDATE user_channel_prefs SET enabled = TRUE",
        "INSERT INTO user_channel_prefs (user_id, channel) SELECT user_id, channel"
        " FROM user_channel_prefs ON CONFLICT (user_id, channel) DO UPDATE SET enabled = TRUE",
        "WITH gone AS (DELETE FROM user_channel_prefs RETURNING *) SELECT 1",
    ],
)
def test_switching_it_on_in_the_app_ends_the_unsubscription(
    client: FlaskClient, admin: Admin, conn: Connection, user: int, link: str, in_the_app: str
) -> None:
    client.post(link)
    db.execute(conn, in_the_app)
    assert title_of(client.get(link)) == "Unsubscribe from alert emails?"
    assert admin.ok("/health")["unsubscribed_7d"] == 0
    db.execute(conn, "DELETE FROM user_channel_prefs")
    add_channel_pref(conn, user, "email", enabled=False)
    client.post(f"{link}/undo")
    row = channel_pref(conn, user)
    assert row is not None
    assert not row["enabled"]


def test_other_channels_and_other_users_stay(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    other = add_user(conn)
    add_channel_pref(conn, other, "email", digest_only=True)
    client.post(link)
    assert len(query(conn, "SELECT * FROM user_channel_prefs")) == 2
    row = {"enabled": True, "digest_only": True, "unsubscribed_at": None}
    assert channel_pref(conn, other) == row


# What cannot be


def test_user_who_is_gone_gets_a_calm_page(client: FlaskClient, conn: Connection) -> None:
    link = link_of(conn, 4711)
    for page in (client.get(link), client.post(link), client.post(f"{link}/undo")):
        assert (page.status_code, title_of(page)) == (200, "You get no alert emails")
        assert form_of(page) is None
    assert query(conn, "SELECT * FROM user_channel_prefs") == []
    assert audit(conn) == []


WRONG = {
    "nothing": "",
    "garbage": "nonsense",
    "cut": "email-7-0123",
    "other user": "email-8-" + 32 * "0",
    "other channel": "sms-7-" + 32 * "0",
    "enormous id": "email-" + 19 * "9" + "-" + 32 * "0",
    "slash": "email-7/x",
    "not ascii": "é%00%ff",
    "very long": 3_000 * "a",
}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_wrong_link_is_a_friendly_404(client: FlaskClient, method: str) -> None:
    for name, wrong in WRONG.items():
        response = client.open(links.PATH + wrong, method=method)
        assert response.status_code == 404, name
        if method != "HEAD":
            assert title_of(response) == "This link does not work"
            assert wrong == "" or wrong not in response.text


def test_wrong_undo_is_a_friendly_404(client: FlaskClient, link: str) -> None:
    for path in (f"{link}0/undo", f"{links.PATH}x/undo", f"{link}/undo/undo"):
        page = client.post(path)
        assert (page.status_code, title_of(page)) == (404, "This link does not work")


def test_key_of_another_database_opens_nothing(client: FlaskClient, conn: Connection) -> None:
    link = link_of(conn, add_user(conn))
    db.execute(conn, "UPDATE alerts_keys SET key = sha256('x') WHERE purpose = 'unsubscribe'")
    assert client.post(link).status_code == 404
    db.execute(conn, "DELETE FROM alerts_keys")
    assert client.post(link).status_code == 404
    assert query(conn, "SELECT * FROM user_channel_prefs") == []


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_database_that_is_down_is_a_page_that_says_so(method: str) -> None:
    client = app_for(CLOSED_PORT).test_client()
    response = client.open(f"{links.PATH}email-7-{32 * '0'}", method=method)
    assert (response.status_code, title_of(response)) == (503, "This does not work right now")
    assert response.headers["Retry-After"]
    assert "hush" not in response.text


def test_database_that_goes_down_after_the_key_was_read(
    client: FlaskClient, conn: Connection, link: str
) -> None:
    assert client.get(link).status_code == 200
    db.execute(conn, "ALTER TABLE user_channel_prefs RENAME TO elsewhere")
    response = client.post(link)
    assert (response.status_code, title_of(response)) == (503, "This does not work right now")


def test_what_fails_to_be_audited_is_not_done(
    client: FlaskClient, conn: Connection, user: int, link: str
) -> None:
    db.execute(conn, "ALTER TABLE alerts_admin_actions ADD CHECK (action <> 'unsubscribe')")
    assert client.post(link).status_code == 503
    assert channel_pref(conn, user) is None


# What comes of it


def test_fanout_digests_and_sending_obey(
    client: FlaskClient, conn: Connection, database_url: str, user: int, link: str
) -> None:
    add_pref(conn, user)
    stays = add_user(conn, "pro")
    add_pref(conn, stays)
    early = add_alert(conn, created_at=NOW - timedelta(days=1))
    db.execute(conn, "UPDATE alert_events SET fanout_completed_at = created_at")
    add_alert(conn)
    for each in (user, stays):
        add_delivery(conn, each, early)
        add_delivery(conn, each, early, kind="digest", created_at=NOW - timedelta(days=1))
    client.post(link)
    channels = all_channels()
    report = run(database_url, channels=channels)
    assert counts_of(report, "b")["deliveries_skipped_prefs"] >= 1
    to = {message.destination for message in channels["email"].sent}
    assert to == {f"{stays}.user@example.com"}
    assert len(channels["email"].sent) == 3  # the old alert, the new one and the digest
    rows = query(
        conn,
        "SELECT status, failure_code FROM user_alert_deliveries"
        " WHERE user_id = %s AND channel = 'email' AND delivery_kind = 'instant'"
        " UNION ALL SELECT status, failure_code FROM user_alert_digests WHERE user_id = %s",
        user,
        user,
    )
    assert rows == 2 * [{"status": "skipped", "failure_code": "channel_disabled"}]


def test_health_counts_those_of_the_last_seven_days(
    client: FlaskClient, admin: Admin, conn: Connection, link: str
) -> None:
    assert admin.ok("/health")["unsubscribed_7d"] == 0
    client.post(link)
    for days in (6.9, 7.1, -0.1):
        other = add_user(conn)
        add_channel_pref(conn, other, "email", enabled=False)
        db.execute(
            conn,
            "UPDATE user_channel_prefs SET unsubscribed_at = %s WHERE user_id = %s",
            (NOW - timedelta(days=days), other),
        )
    assert admin.ok("/health")["unsubscribed_7d"] == 2
    client.post(f"{link}/undo")
    assert admin.ok("/health")["unsubscribed_7d"] == 1


def test_nothing_that_is_kept_or_answered_holds_the_address(
    client: FlaskClient, admin: Admin, conn: Connection, user: int, link: str
) -> None:
    pages = [client.get(link), client.post(link), client.post(f"{link}/undo")]
    kept = str(query(conn, "SELECT * FROM alerts_admin_actions"))
    for text in (kept, str(admin.ok("/actions")), *(page.text for page in pages)):
        assert "example.com" not in text
        assert "user@" not in text


def test_one_who_is_being_locked_is_waited_for(
    client: FlaskClient, database_url: str, conn: Connection, user: int, link: str
) -> None:
    other = psycopg2.connect(database_url)
    with other.cursor() as cursor:
        cursor.execute("DELETE FROM users WHERE id = %s", (user,))
    response = client.post(link)  # as long as a lock is waited for
    assert response.status_code == 503
    other.commit()
    other.close()
    assert title_of(client.post(link)) == "You get no alert emails"
