"""What reaches the pages: our own forms, and nothing that another site has sent."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient

from app.ops.guard import AGAIN, LARGEST_FORM
from tests.support.ops import csrf, get, page, post, sign_in, signed_in
from tests.support.web import CLOSED_PORT, TOKEN, app_for

POLICY = {
    "default-src": "'none'", "style-src": "'self'", "script-src": "'self'", "img-src": "'self'",
    "connect-src": "'self'", "form-action": "'self'", "base-uri": "'none'",
    "frame-ancestors": "'none'",
}  # fmt: skip


@pytest.fixture
def client(database_url: str) -> FlaskClient:
    """A browser that is signed in."""
    return signed_in(app_for(database_url))


@pytest.mark.parametrize("value", ["", "0" * 64, "not hexadecimal", "ü"])
def test_a_form_without_its_own_value_does_nothing(client: FlaskClient, value: str) -> None:
    for path in ("/ops/pause", "/ops/retry", "/ops/sign-out"):
        data = {"csrf": value, "action": "pause", "channel": "", "reason": "not ours"}
        answer = post(client, path, data)
        assert (answer.status_code, "form_expired" in answer.text) == (403, True)
    assert "Nothing is paused" in page(client, "/ops/pause")


def test_the_value_of_another_session_does_nothing(database_url: str, client: FlaskClient) -> None:
    other = csrf(signed_in(app_for(database_url)))
    assert other != csrf(client)
    data = {"csrf": other, "action": "pause", "reason": "not ours"}
    assert post(client, "/ops/pause", data).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 303),
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, 303),
        ({"Origin": "https://localhost"}, 303),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "Same-Origin"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "https://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_write_is_taken_from_our_own_pages_only(
    client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    data = {"csrf": csrf(client), "action": "pause", "reason": "test"}
    answer = post(client, "/ops/pause", data, **headers)
    assert answer.status_code == status
    assert ("cross_site" in answer.text) == (status == 403)
    assert sign_in(app_for(CLOSED_PORT).test_client()).status_code == 303
    login = app_for(CLOSED_PORT).test_client()
    assert post(login, "/ops/login", {"token": TOKEN}, **headers).status_code == status


def test_a_link_from_another_site_is_answered_by_a_page_that_loads_itself_once() -> None:
    client = app_for(CLOSED_PORT).test_client()
    first = get(client, "/ops/runs", **{"Sec-Fetch-Site": "cross-site"})
    assert first.status_code == 200
    assert '<meta http-equiv="refresh" content="0">' in first.text
    assert "SameSite=Lax" in first.headers["Set-Cookie"]
    again = get(client, "/ops/runs", **{"Sec-Fetch-Site": "cross-site"})
    assert again.status_code == 401, "once only, else it would go on for ever"
    assert client.get_cookie(AGAIN) is not None


def test_a_browser_that_sends_the_cookie_needs_no_second_load(client: FlaskClient) -> None:
    for site in ("cross-site", "same-site", "same-origin", "none"):
        answer = get(client, "/ops", **{"Sec-Fetch-Site": site})
        assert (answer.status_code, 'http-equiv="refresh"' in answer.text) == (200, False)


@pytest.mark.parametrize("mode", ["cors", "no-cors", "websocket"])
def test_another_site_reads_and_embeds_nothing(mode: str) -> None:
    client = app_for(CLOSED_PORT).test_client()
    answer = get(client, "/ops", **{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": mode})
    assert answer.status_code == 403


def test_headers_of_pages_errors_and_files(client: FlaskClient) -> None:
    text = page(client, "/ops")
    files = re.findall(r'(?:href|src)="(/ops/static/[^"]+)"', text)
    assert len(files) == 3
    stranger = app_for(CLOSED_PORT).test_client()
    answers = [get(client, path) for path in ("/ops", "/ops/nothing", "/ops/runs?a=b", *files)]
    answers += [get(stranger, "/ops"), get(stranger, "/ops/login"), sign_in(stranger)]
    answers += [post(stranger, "/ops/pause", {}), client.put("/ops", base_url="https://a")]
    for answer in answers:
        policy = dict(
            each.split(" ", 1) for each in answer.headers["Content-Security-Policy"].split("; ")
        )
        assert policy == POLICY
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        is_file = (answer.request.path or "").startswith("/ops/static/")
        caching = "public, max-age=31536000, immutable" if is_file else "no-store"
        assert answer.headers["Cache-Control"] == caching


@pytest.mark.parametrize(
    "name", ["ops.css", "ops-000000000000.css", "..%2Fsession.py", "session-1.py", "ops", "-.", ""]
)
def test_files_are_served_under_the_address_of_their_content_only(name: str) -> None:
    assert get(app_for(CLOSED_PORT).test_client(), f"/ops/static/{name}").status_code == 404


def test_nothing_inline_stands_in_any_page_that_the_policy_would_refuse(
    client: FlaskClient,
) -> None:
    for path in ("/ops", "/ops/pause", "/ops/retry", "/ops/setup", "/ops/login"):
        text = get(client, path).text
        assert not re.search(r"\sstyle=|\son[a-z]+=|<style|javascript:|<script>", text), path


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        ({"Content-Type": "multipart/form-data; boundary=a"}, 415, "unsupported_media_type"),
        ({"Content-Length": str(LARGEST_FORM + 1)}, 413, "request_entity_too_large"),
        ({"Content-Length": "99999999999"}, 413, "request_entity_too_large"),
        ({"Transfer-Encoding": "chunked"}, 411, "length_required"),
    ],
)
def test_only_small_forms_are_read(
    client: FlaskClient, headers: dict[str, str], status: int, code: str
) -> None:
    for path in ("/ops/login", "/ops/pause"):
        plain = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        length = plain.pop("Content-Length", "3")
        answer = client.post(
            path, data=b"a=b", headers=plain, base_url="https://localhost",
            environ_overrides={"CONTENT_LENGTH": length},
        )  # fmt: skip
        assert (answer.status_code, code in answer.text) == (status, True)


def test_people_are_sent_to_the_pages_and_programs_get_the_error_of_the_api() -> None:
    client = app_for(CLOSED_PORT).test_client()
    browser = client.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (browser.status_code, browser.location) == (303, "/ops")
    for accept in ("*/*", "application/json", ""):
        answer = client.get("/", headers={"Accept": accept})
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "not_found")
