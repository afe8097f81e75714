"""Every page, empty and on a bad day; its errors; and hostile text that does no harm."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.failures import FailureCode
from alerts.words import BECAUSE
from app.ops import words
from tests.support.canaries import CHAT, EMAIL, PHONE
from tests.support.ops import HOSTILE, PAGES, bad_day, get, page, signed_in, words_of
from tests.support.web import CLOSED_PORT, add_run, app_for
from tests.support.world import NOW, add_alert, add_delivery, add_user

# A code belongs behind its words, never in their place.
FIELD_NAMES = re.compile(
    r"\b(failure_code|error_summary|last_error|next_retry_at|None|True|False)\b"
)


@pytest.fixture
def client(database_url: str) -> FlaskClient:
    """A browser that is signed in."""
    return signed_in(app_for(database_url))


def test_every_page_of_an_empty_database_says_so(client: FlaskClient) -> None:
    for path in PAGES:
        if "{" not in path:
            assert not FIELD_NAMES.search(words_of(page(client, path))), path
    assert "No run has been recorded" in page(client, "/ops") or "No run" in page(client, "/ops")
    assert "Nothing failed in 7 days" in page(client, "/ops/failures")
    assert "Nothing is paused" in page(client, "/ops/pause")
    assert "No message yet" in page(client, "/ops/messages")
    assert "Nothing was done by hand yet" in page(client, "/ops/audit")


def test_every_page_of_a_bad_day_shows_hostile_text_harmless(
    client: FlaskClient, conn: Connection
) -> None:
    ids = bad_day(conn)
    seen = 0
    for path in PAGES:
        text = page(client, path.format(**ids))
        assert len(text) <= 40_000, path
        assert not FIELD_NAMES.search(words_of(text)), path
        assert "<script>alert" not in text
        assert "\u202e" not in text
        seen += text.count("&lt;script&gt;alert(1)")
    assert seen >= 5  # the verdict, the run, the list of runs, the pause, the audit, the message


def test_no_page_has_an_address_or_the_text_of_a_message(
    client: FlaskClient, conn: Connection
) -> None:
    ids = bad_day(conn)
    user = add_user(conn, "pro", email=EMAIL, telegram=CHAT, phone=PHONE)
    event = add_alert(conn, headline="Zanzibar terminal halts")
    for channel in ("email", "telegram", "sms"):
        ids["delivery"] = add_delivery(conn, user, event, channel, status="sent")
        ids |= {"user": user, "event": event}
        for path in PAGES:
            text = page(client, path.format(**ids))
            for word in ("zebrafinch", CHAT, PHONE, "Zanzibar", "What happened."):
                assert word not in text, path


def test_the_overview_is_small_and_asks_for_two_files(
    client: FlaskClient, conn: Connection
) -> None:
    bad_day(conn)
    text = page(client, "/ops")
    assert len(text) < 40_000
    loaded = re.findall(r'<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)=', text)
    assert len(loaded) == 2


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/ops/nothing", 404, "not_found"),
        ("/ops/runs/unknown", 404, "run_not_found"),
        ("/ops/runs/%00", 404, "run_not_found"),
        ("/ops/messages/1", 404, "delivery_not_found"),
        ("/ops/messages/x", 404, "delivery_not_found"),
        ("/ops/digests/99999999999999999999", 404, "digest_not_found"),
        ("/ops/explain?event_id=1&user_id=1", 404, "event_not_found"),
        ("/ops/explain?event_id=1", 400, "bad_parameter"),
        ("/ops/explain?event_id=x&user_id=1", 400, "bad_parameter"),
        ("/ops/runs?status=good", 400, "bad_parameter"),
        ("/ops/runs?colour=red", 400, "bad_parameter"),
        ("/ops/runs?status=failed&status=success", 400, "bad_parameter"),
        ("/ops/messages?of=letters", 400, "bad_parameter"),
        ("/ops/retry?since_hours=0", 400, "bad_parameter"),
        ("/ops/retry?include=everything", 400, "bad_parameter"),
        ("/ops/retry?limit=999999", 400, "bad_parameter"),
        ("/ops/pause?done=x", 400, "bad_parameter"),
        ("/ops?a=<script>", 400, "bad_parameter"),
    ],
)
def test_errors_are_pages_with_the_codes_of_the_api(
    client: FlaskClient, path: str, status: int, code: str
) -> None:
    answer = get(client, path)
    assert answer.status_code == status
    assert answer.mimetype == "text/html"
    assert f"<code>{code}</code>" in answer.text
    assert "<script>alert" not in answer.text


def test_a_wrong_method_is_a_page_too(client: FlaskClient) -> None:
    answer = client.delete("/ops/runs", base_url="https://localhost")
    assert (answer.status_code, "method_not_allowed" in answer.text) == (405, True)
    assert "GET" in answer.headers["Allow"]


def test_a_database_that_is_down_is_a_page_that_says_so_and_keeps_trying() -> None:
    client = signed_in(app_for(CLOSED_PORT))
    for path in ("/ops", "/ops/runs?status=failed", "/ops/retry", "/ops/setup"):
        answer = get(client, path)
        assert answer.status_code == 503
        assert "The database does not answer" in answer.text
        assert f'http-equiv="refresh" content="10; url={path}"' in answer.text
        assert "hush-hush" not in answer.text
    assert get(app_for(CLOSED_PORT).test_client(), "/ops/login").status_code == 200


def test_a_bug_is_a_page_and_says_nothing_of_the_inside(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("app.ops.runs.sent_and_failed", broken)
    monkeypatch.setattr("app.ops.runs.answer", broken)
    answer = get(client, "/ops/runs")
    assert (answer.status_code, "internal_error" in answer.text) == (500, True)
    assert "secret detail" not in answer.text


def test_filters_stand_in_the_links_to_older_rows(client: FlaskClient, conn: Connection) -> None:
    user, event = add_user(conn, "pro"), add_alert(conn)
    for _ in range(3):
        add_delivery(conn, user, add_alert(conn), created_at=NOW)
    add_delivery(conn, user, event, "telegram", created_at=NOW)
    text = page(client, f"/ops/messages?user_id={user}&channel=email&status=&limit=2&utc=1")
    older = re.search(r'rel="next" href="([^"]+)"', text)
    assert older
    for part in (f"user_id={user}", "channel=email", "before=", "utc=1"):
        assert part in older[1]
    assert page(client, older[1].replace("&amp;", "&")).count('class="item"') == 1


def test_times_are_local_and_on_demand_utc(client: FlaskClient, conn: Connection) -> None:
    delivery = add_delivery(conn, add_user(conn), add_alert(conn), created_at=NOW)
    local, utc = (page(client, f"/ops/messages/{delivery}{q}") for q in ("", "?utc=1"))
    assert "19:00 CET" in local
    assert "18:00 UTC" in utc
    for text in (local, utc):
        assert 'datetime="2022-03-08T18:00:00+00:00"' in text


def test_every_code_has_words_and_advice() -> None:
    for code in FailureCode:
        assert code.value not in words.says(code, "email")
        assert words.helps(code).endswith(".")
    assert set(words.HELPS) == set(FailureCode) == set(BECAUSE)


def test_a_parameter_that_the_database_cannot_hold_is_refused(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert get(client, "/ops/audit?action=%00").status_code == 400
    assert HOSTILE not in caplog.text


@pytest.mark.parametrize(("runs", "told"), [(48, False), (50, True)])
def test_where_the_strip_is_not_the_whole_day_the_page_says_what_became_of_the_day(
    client: FlaskClient, conn: Connection, runs: int, told: bool
) -> None:
    newest = datetime.now(UTC)
    for number in range(runs):
        status = "failed" if number in (4, 49) else "success"
        add_run(conn, status=status, started_at=newest - number * timedelta(seconds=30))
    text = words_of(page(client, "/ops"))
    assert ("In 24 h 48 runs succeeded and 2 failed" in text) is told
    assert ("/ops/runs?status=failed" in page(client, "/ops")) is told


def test_long_ids_are_cut_in_the_middle() -> None:
    assert words.cut_middle("5b0c1c9e-1234-4d6b-8f00-aaaabbbbcccc") == "5b0c1c9e…cccc"
    assert words.cut_middle("short") == "short"


def test_the_page_tells_a_missing_migration(client: FlaskClient, conn: Connection) -> None:
    db.execute(
        conn,
        "DELETE FROM schema_migrations"
        " WHERE version = (SELECT max(version) FROM schema_migrations)",
    )
    assert "missing" in page(client, "/ops/setup")
