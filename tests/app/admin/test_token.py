"""Who may call the admin endpoints."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from tests.support.web import (
    ADMIN_ROUTES,
    CLOSED_PORT,
    MISSING,
    PREFIX,
    PUBLIC_ROUTES,
    TOKEN,
    app_for,
    error_of,
)

RUNS = f"{PREFIX}/runs"


def client_with(database_url: str, tokens: str) -> FlaskClient:
    return app_for(database_url, INTERNAL_RUNNER_TOKEN=tokens).test_client()


def on_the_wire(token: str) -> str:
    """A header value as a server hands it on: its bytes decoded as Latin-1."""
    return token.encode().decode("latin-1")


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
@pytest.mark.parametrize("tokens", ["", "  "])
def test_without_a_configured_token_every_admin_route_answers_503(
    method: str, path: str, tokens: str
) -> None:
    client = client_with(CLOSED_PORT, tokens)
    for headers in ({}, {"x-internal-token": ""}, {"x-internal-token": TOKEN}):
        response = client.open(path, method=method, headers=headers)
        assert error_of(response) == (503, "token_not_configured")
        assert "INTERNAL_RUNNER_TOKEN" in response.get_json()["error"]["message"]


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-internal-token": ""},
        {"x-internal-token": "wrong"},
        {"x-internal-token": TOKEN[:-1]},
        {"x-internal-token": TOKEN + "x"},
        {"x-internal-token": TOKEN.upper()},
        {"x-internal-token": "\xff\xfe"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"x-internal-token": "wrong", "Authorization": f"Bearer {TOKEN}"},
        {"Cookie": f"x-internal-token={TOKEN}"},
    ],
)
def test_a_missing_or_wrong_token_is_401_before_anything_else(
    method: str, path: str, headers: dict[str, str]
) -> None:
    # Nobody listens behind this app: the token is looked at before the database and the query.
    client = client_with(CLOSED_PORT, TOKEN)
    separator = "&" if "?" in path else "?"
    for target in (path, f"{path}{separator}token={TOKEN}&no_such=1"):
        response = client.open(target, method=method, headers=headers)
        assert error_of(response) == (401, "unauthorized")
        assert TOKEN not in response.get_data(as_text=True)
        assert response.headers["Cache-Control"] == "no-store"


def test_the_token_opens_every_admin_route(database_url: str) -> None:
    client = client_with(database_url, TOKEN)
    for method, path in ADMIN_ROUTES:
        response = client.open(path, method=method, headers={"X-Internal-Token": TOKEN})
        assert response.status_code == (404 if path.endswith(MISSING) else 200)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scrapers_may_send_the_token_as_bearer(database_url: str, scheme: str) -> None:
    client = client_with(database_url, TOKEN)
    response = client.get(RUNS, headers={"Authorization": f"{scheme} {TOKEN}"})
    assert response.status_code == 200


def test_while_rotating_both_tokens_of_the_pair_are_taken(database_url: str) -> None:
    client = client_with(database_url, "the-new-token , the-old-token")
    for token in ("the-new-token", "the-old-token"):
        assert client.get(RUNS, headers={"x-internal-token": token}).status_code == 200
    for token in ("the-new-token , the-old-token", "the-new-token,the-old-token", ","):
        assert client.get(RUNS, headers={"x-internal-token": token}).status_code == 401


@pytest.mark.parametrize("token", ["schlüssel-für-alle", "ключ-от-всего", "鍵-🔑-鍵"])
def test_a_token_outside_ascii_is_compared_as_bytes(database_url: str, token: str) -> None:
    client = client_with(database_url, token)
    right = {"x-internal-token": on_the_wire(token)}
    assert client.get(RUNS, headers=right).status_code == 200
    wrong = {"x-internal-token": on_the_wire(token[:-1])}
    assert client.get(RUNS, headers=wrong).status_code == 401


def test_question_marks_do_not_stand_for_other_characters(database_url: str) -> None:
    client = client_with(database_url, "???????")
    response = client.get(RUNS, headers={"x-internal-token": "ключ-от"})
    assert response.status_code == 401


def test_public_routes_need_no_token(database_url: str) -> None:
    for tokens in ("", TOKEN):
        client = client_with(database_url, tokens)
        for method, path in PUBLIC_ROUTES:
            assert client.open(path, method=method).status_code == 200


def test_reading_the_options_of_an_admin_route_needs_the_token_too() -> None:
    client = client_with(CLOSED_PORT, TOKEN)
    assert error_of(client.options(RUNS)) == (401, "unauthorized")
    assert client.head(RUNS).status_code == 401
