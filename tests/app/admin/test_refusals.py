"""What an owner is told where health cannot be asked: the token, the database, a table."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts import VERSION, db
from app import create_app
from tests.support.incident_scenes import at, forget_newest_migration
from tests.support.incidents import REFUSALS
from tests.support.ops import get, signed_in
from tests.support.pg_proxy import PgProxy
from tests.support.web import ADMIN, CLOSED_PORT, PREFIX, TOKEN, error_of
from tests.support.world import settings_for

HEALTH = f"{PREFIX}/health"
SAYS = {refusal.number: refusal for refusal in REFUSALS}
LONGEST_SECONDS = 3.0


def client_of(url: str) -> FlaskClient:
    return create_app(settings_for(url, INTERNAL_RUNNER_TOKEN=TOKEN)).test_client()


def check(client: FlaskClient, number: int, headers: dict[str, str], **values: str) -> None:
    """The sentence, as JSON and as plain text."""
    message = SAYS[number].message.format(**values)
    answer = client.get(HEALTH, headers=headers)
    assert error_of(answer)[1] == SAYS[number].code
    assert answer.get_json()["error"]["message"] == message
    text = client.get(HEALTH, headers={**headers, "Accept": "text/plain"})
    assert (text.status_code, text.mimetype) == (answer.status_code, "text/plain")
    assert text.text == f"{message}\n"


def test_a_token_of_before_the_rotation() -> None:
    check(client_of(CLOSED_PORT), 24, {"x-internal-token": "the-token-of-last-year"})


def test_without_a_token_the_header_is_named() -> None:
    message = client_of(CLOSED_PORT).get(HEALTH).get_json()["error"]["message"]
    assert "No token was sent: the header x-internal-token takes" in message


def test_a_database_that_is_down_is_told_since_when() -> None:
    client, since = client_of(CLOSED_PORT), at(datetime.now(UTC))
    check(client, 28, ADMIN, since=since)
    check(client, 28, ADMIN, since=since)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [True, False])
def test_a_database_that_hangs_is_told_within_seconds(
    database_url: str, conn: Connection, kept: bool
) -> None:
    with PgProxy(database_url) as proxy:
        client = client_of(proxy.url)
        if kept:
            assert client.get(HEALTH, headers=ADMIN).status_code == 200
        proxy.swallow = lambda wire: True
        started = time.monotonic()
        answer = client.get(HEALTH, headers=ADMIN)
        assert time.monotonic() - started < LONGEST_SECONDS
        since = at(datetime.now(UTC))
        assert answer.get_json()["error"]["message"] == SAYS[28].message.format(since=since)
        proxy.swallow = lambda wire: False
        assert client.get(HEALTH, headers=ADMIN).status_code == 200


def test_a_missing_table_is_told_by_its_migration(database_url: str, conn: Connection) -> None:
    name = forget_newest_migration(conn)
    db.execute(conn, "DROP TABLE alerts_pauses")
    check(client_of(database_url), 22, ADMIN, migration=name, version=VERSION)


@pytest.mark.slow
def test_the_page_says_so_within_seconds_too(database_url: str) -> None:
    with PgProxy(database_url) as proxy:
        client = signed_in(create_app(settings_for(proxy.url, INTERNAL_RUNNER_TOKEN=TOKEN)))
        assert get(client, "/ops").status_code == 200
        proxy.swallow = lambda wire: True
        started = time.monotonic()
        answer = get(client, "/ops")
        assert time.monotonic() - started < LONGEST_SECONDS
        assert (answer.status_code, answer.mimetype) == (503, "text/html")
