"""The badge: who may see it, what it says, and that it cannot be used to load the database."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.health.badge import badge_address, badge_key
from alerts.preflight import preflight
from app import badge
from tests.support.web import CLOSED_PORT, add_run, app_for, error_of
from tests.support.world import query, settings_for

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def path(conn: Connection) -> str:
    """The badge's address without its ending."""
    return f"/badge/{badge_key(conn)}"


def kept(client: FlaskClient) -> badge.Kept:
    found: badge.Kept = client.application.extensions["alerts_badge"]
    return found


def told(client: FlaskClient, path: str) -> Any:
    response = client.get(f"{path}.json")
    assert response.status_code == 200
    return response.json


def test_the_statuses(client: FlaskClient, conn: Connection, path: str) -> None:
    kept(client).clock = iter(range(0, 10_000, 31)).__next__
    assert told(client, path) == {
        "schemaVersion": 1,
        "label": "alerts",
        "message": "degraded",
        "color": badge.COLORS["degraded"],
        "cacheSeconds": 300,
    }
    add_run(conn)
    assert told(client, path)["message"] == "ok"
    add_run(conn, status="failed")
    assert told(client, path)["message"] == "failing"
    assert ">failing</text>" in client.get(f"{path}.svg").get_data(as_text=True)


@pytest.mark.parametrize("kind", ["svg", "json"])
def test_it_may_be_kept_for_a_minute(client: FlaskClient, path: str, kind: str) -> None:
    response = client.get(f"{path}.{kind}")
    assert response.headers.getlist("Cache-Control") == ["public, max-age=60"]
    assert client.head(f"{path}.{kind}").status_code == 200


@pytest.mark.parametrize("status", badge.COLORS)
def test_the_picture_is_well_formed_and_says_its_word(status: str) -> None:
    svg = ElementTree.fromstring(badge._picture(status))  # noqa: S314  (our own)
    assert (svg.tag, svg.get("role")) == (f"{SVG}svg", "img")
    title = svg.find(f"{SVG}title")
    assert title is not None
    assert title.text == svg.get("aria-label") == f"alerts: {status}"
    texts = svg.findall(f".//{SVG}text")
    assert [text.text for text in texts] == ["alerts", status]
    left, right = svg.findall(f"{SVG}g/{SVG}rect")
    width = int(str(svg.get("width")))
    assert int(str(left.get("width"))) + int(str(right.get("width"))) == width
    assert right.get("x") == left.get("width")
    for text, box in zip(texts, (left, right), strict=True):
        start, length = int(str(text.get("x"))), int(str(text.get("textLength")))
        edge = int(box.get("x", "0"))
        assert start - edge == edge + int(str(box.get("width"))) - (start + length) == 6


@pytest.mark.parametrize("color", [*badge.COLORS.values(), "#444444"])
def test_its_white_letters_can_be_read(color: str) -> None:
    def light(channel: str) -> float:
        part = int(channel, 16) / 255
        return part / 12.92 if part <= 0.03928 else float(((part + 0.055) / 1.055) ** 2.4)

    red, green, blue = (light(color[at : at + 2]) for at in (1, 3, 5))
    assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5


@pytest.mark.parametrize("kind", ["svg", "json"])
@pytest.mark.parametrize(
    "wrong", ["", "x", "0" * 32, "%00", "%ff%fe", "schl%C3%BCssel", "a/b", "{key}0", "{half}"]
)
def test_any_other_key_finds_nothing(
    client: FlaskClient, conn: Connection, kind: str, wrong: str
) -> None:
    key = badge_key(conn) or ""
    response = client.get(f"/badge/{wrong.format(key=key, half=key[:16])}.{kind}")
    assert error_of(response) == (404, "not_found")
    assert response.headers["Cache-Control"] == "no-store"
    assert kept(client).until == 0.0  # nobody asked health


def test_the_address_does_not_tell_the_key_that_is_stored(conn: Connection, path: str) -> None:
    (row,) = query(conn, "SELECT key FROM alerts_keys WHERE purpose = 'badge'")
    stored = bytes(row["key"])
    key = path.removeprefix("/badge/")
    assert len(key) == 32
    assert key not in (stored.hex(), hashlib.sha256(stored).hexdigest()[:32])
    db.execute(conn, "UPDATE alerts_keys SET key = sha256(key) WHERE purpose = 'badge'")
    assert badge_key(conn) != key


def test_without_a_stored_key_there_is_no_badge(client: FlaskClient, conn: Connection) -> None:
    db.execute(conn, "DELETE FROM alerts_keys WHERE purpose = 'badge'")
    assert error_of(client.get("/badge/None.svg")) == (404, "not_found")
    assert error_of(client.get("/badge/.svg")) == (404, "not_found")
    assert badge_address(conn, settings_for("postgresql://unused")) is None


def test_health_is_asked_once_in_30_seconds(
    client: FlaskClient, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(badge, "get_health", lambda *_: asked.append(1) or {"status": "ok"})
    now = [1000.0]
    kept(client).clock = lambda: now[0]
    for _ in range(5):
        assert told(client, path)["message"] == "ok"
        client.get(f"{path}.svg")
    assert len(asked) == 1
    now[0] += 30
    told(client, path)
    assert len(asked) == 2


def test_a_database_that_is_down_is_unknown_not_ok(path: str, client: FlaskClient) -> None:
    assert told(client, path)["message"] == "degraded"
    down = app_for(CLOSED_PORT).test_client()
    assert error_of(down.get(f"{path}.svg")) == (503, "database_unavailable")
    kept(down).key = path.removeprefix("/badge/")  # it was read while the database answered
    answer = told(down, path)
    assert (answer["message"], answer["isError"]) == ("unknown", True)
    assert ">unknown</text>" in down.get(f"{path}.svg").get_data(as_text=True)


def test_preflight_shows_it_but_not_where_logs_may_be_public(database_url: str, path: str) -> None:
    variables = {"DATABASE_URL": database_url, "ALERTS_APP_BASE_URL": "https://alerts.example.com"}
    assert preflight(variables).badge == f"https://alerts.example.com{path}.svg"
    assert preflight({"DATABASE_URL": database_url}).badge == f"{path}.svg"
    assert preflight({**variables, "CI": "true"}).badge is None
