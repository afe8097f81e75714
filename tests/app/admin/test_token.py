"""Who may call the admin endpoints."""

from __future__ import annotations

import os

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


# What else a token may be


READ, WRITE = "a-token-that-may-read-and-no-more", "a-token-that-may-do-everything"


@pytest.mark.parametrize(("method", "path"), ADMIN_ROUTES)
def test_the_read_token_opens_every_get_and_nothing_else(
    database_url: str, method: str, path: str
) -> None:
    app = app_for(database_url, INTERNAL_RUNNER_TOKEN=WRITE, INTERNAL_READ_TOKEN=READ)
    for headers in ({"x-internal-token": READ}, {"Authorization": f"Bearer {READ}"}):
        response = app.test_client().open(path, method=method, headers=headers)
        if method == "GET":
            assert response.status_code == (404 if path.endswith(MISSING) else 200)
        else:
            assert error_of(response) == (403, "read_only_token")


def test_the_read_token_alone_reads_too(database_url: str) -> None:
    client = app_for(database_url, INTERNAL_RUNNER_TOKEN="", INTERNAL_READ_TOKEN=READ).test_client()
    headers = {"x-internal-token": READ}
    assert client.get(RUNS, headers=headers).status_code == 200
    assert client.head(RUNS, headers=headers).status_code == 200
    assert error_of(client.post(f"{PREFIX}/resume", headers=headers)) == (403, "read_only_token")
    assert error_of(client.get(RUNS, headers={"x-internal-token": WRITE}))[0] == 401


def test_who_may_write_may_so_with_a_token_that_reads_as_well(database_url: str) -> None:
    client = app_for(
        database_url, INTERNAL_RUNNER_TOKEN=WRITE, INTERNAL_READ_TOKEN=WRITE
    ).test_client()
    assert client.post(f"{PREFIX}/resume", headers={"x-internal-token": WRITE}).status_code == 200


@pytest.mark.parametrize("length", [1, 6, 11])
def test_a_very_short_token_opens_nothing_on_a_public_host(length: int) -> None:
    token = "x" * length
    for variables in (
        {"INTERNAL_RUNNER_TOKEN": token},
        {"INTERNAL_RUNNER_TOKEN": f"{token},{token}"},
        {"INTERNAL_RUNNER_TOKEN": "", "INTERNAL_READ_TOKEN": token},
        {"INTERNAL_RUNNER_TOKEN": token, "INTERNAL_READ_TOKEN": token},
    ):
        client = app_for(CLOSED_PORT, PORT="5000", **variables).test_client()
        for method, path in ADMIN_ROUTES:
            # A wrong one gets the same answer: no guess can be told to be right.
            for sent in (token, "wrong", ""):
                response = client.open(path, method=method, headers={"x-internal-token": sent})
                assert error_of(response) == (503, "token_too_short")
        assert "token_urlsafe(32)" in response.get_json()["error"]["message"]


@pytest.mark.parametrize(("token", "port"), [("x", ""), ("x" * 11, ""), ("x" * 12, "5000")])
def test_a_short_token_still_works(database_url: str, token: str, port: str) -> None:
    client = app_for(database_url, INTERNAL_RUNNER_TOKEN=token, PORT=port).test_client()
    headers = {"x-internal-token": token}
    assert client.get(RUNS, headers=headers).status_code == 200
    health = client.get(f"{PREFIX}/health", headers=headers).get_json()
    (told,) = [each for each in health["reasons"] if each["code"] == "token_too_short"]
    assert "INTERNAL_RUNNER_TOKEN is shorter than 24 characters" in told["message"]
    assert 'python -c "import secrets; print(secrets.token_urlsafe(32))"' in told["action"]
    assert health["status"] == "degraded"


def test_a_long_token_beside_a_very_short_one_is_the_only_one_that_opens(
    database_url: str,
) -> None:
    client = app_for(
        database_url, INTERNAL_RUNNER_TOKEN=f"{WRITE},short", PORT="5000"
    ).test_client()
    assert client.get(RUNS, headers={"x-internal-token": WRITE}).status_code == 200
    assert error_of(client.get(RUNS, headers={"x-internal-token": "short"}))[0] == 401


@pytest.mark.parametrize("length", [24, 43])
def test_of_a_token_that_is_long_enough_nothing_is_told(database_url: str, length: int) -> None:
    token = "x" * length
    client = app_for(database_url, INTERNAL_RUNNER_TOKEN=token, PORT="5000").test_client()
    health = client.get(f"{PREFIX}/health", headers={"x-internal-token": token}).get_json()
    assert "token_too_short" not in [each["code"] for each in health["reasons"]]


@pytest.mark.parametrize("name", ["INTERNAL_RUNNER_TOKEN", "INTERNAL_READ_TOKEN"])
@pytest.mark.parametrize("raw", [b"schl\xfcssel-in-latin-1-bytes", b"\xff\xfe\x80" * 8])
def test_a_token_may_hold_bytes_that_no_text_has(database_url: str, name: str, raw: bytes) -> None:
    token = os.fsdecode(raw)  # as the environment gives it
    variables = {"INTERNAL_RUNNER_TOKEN": WRITE, name: token}
    client = app_for(database_url, **variables).test_client()
    headers = {"x-internal-token": raw.decode("latin-1")}
    assert client.get(RUNS, headers=headers).status_code == 200
    assert client.get(RUNS, headers={"x-internal-token": "wrong"}).status_code == 401
