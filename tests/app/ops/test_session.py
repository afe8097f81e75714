"""Signing in: a cookie under a key of the token's own, which opens the pages and nothing else."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from itsdangerous import timed

from app.ops.session import COOKIE, LASTS_SECONDS
from app.wrong_tokens import FREE, WrongTokens
from tests.support.ops import READ_TOKEN, cookie, csrf, get, page, post, sign_in, signed_in
from tests.support.web import ADMIN, CLOSED_PORT, PREFIX, TOKEN, app_for

OTHER = "another-token-that-is-long-enough"


def test_the_cookie_is_bound_to_the_host_and_hidden_from_scripts_and_other_sites() -> None:
    answer = sign_in(app_for(CLOSED_PORT).test_client(), wanted="/ops/runs?status=failed")
    assert (answer.status_code, answer.location) == (303, "/ops/runs?status=failed")
    value, *attributes = answer.headers["Set-Cookie"].split("; ")
    assert value.startswith(f"{COOKIE}=")
    assert COOKIE.startswith("__Host-")
    wanted = {"Secure", "HttpOnly", "Path=/", "SameSite=Strict", f"Max-Age={LASTS_SECONDS}"}
    assert wanted <= set(attributes)
    assert not any(each.startswith("Domain") for each in attributes)
    assert TOKEN not in value


@pytest.mark.parametrize(
    "wanted",
    ["https://evil.example/ops", "//evil.example/ops", "/\\evil.example", "/opsx", "ops", "",
     "javascript:alert(1)", "/internal/alerts/engine/runs", "/ops/\r\nSet-Cookie: a=b",
     "https:/ops", "/ops@evil.example"],
)  # fmt: skip
def test_signing_in_leads_to_our_own_pages_only(wanted: str) -> None:
    answer = sign_in(app_for(CLOSED_PORT).test_client(), wanted=wanted)
    assert (answer.status_code, answer.location) == (303, "/ops")


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "schlüssel", "\udcff"])
def test_a_wrong_token_gets_the_form_again_and_no_cookie(token: str) -> None:
    client = app_for(CLOSED_PORT).test_client()
    answer = client.post(
        "/ops/login", data={"token": token.encode("utf-8", "surrogateescape")}, base_url="https://a"
    )
    assert answer.status_code == 401
    text = answer.get_data(as_text=True)
    assert "none of the tokens" in text
    assert "Set-Cookie" not in answer.headers
    assert not token or token.encode("utf-8", "replace").decode() not in text


def test_a_token_that_is_not_ascii_signs_in() -> None:
    token = "schlüssel-der-lang-genug-ist"
    client = app_for(CLOSED_PORT, INTERNAL_RUNNER_TOKEN=token).test_client()
    assert sign_in(client, token).status_code == 303


def test_without_a_session_every_page_asks_to_sign_in_and_then_goes_on_there() -> None:
    client = app_for(CLOSED_PORT).test_client()
    for path in ("/ops", "/ops/runs?status=failed", "/ops/setup", "/ops/retry?kind=digests"):
        answer = get(client, path)
        assert answer.status_code == 401
        assert f'name="wanted" value="{path.replace("&", "&amp;")}"' in answer.text
    assert get(client, "/ops/login").status_code == 200


def test_a_session_ends_after_a_day(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(app_for(database_url))
    now, passed = time.time(), 0.0
    monkeypatch.setattr(timed.time, "time", lambda: now + passed)
    passed = LASTS_SECONDS - 5.0
    assert get(client, "/ops").status_code == 200
    passed = LASTS_SECONDS + 5.0
    assert get(client, "/ops").status_code == 401


@pytest.mark.parametrize(
    ("after", "status"),
    [
        (TOKEN, 200),
        (f"{OTHER},{TOKEN}", 200),  # while rotating both open
        (OTHER, 401),
    ],
)
def test_replacing_the_token_ends_its_sessions(database_url: str, after: str, status: int) -> None:
    value = cookie(signed_in(app_for(database_url)))
    client = app_for(database_url, INTERNAL_RUNNER_TOKEN=after).test_client()
    client.set_cookie(COOKIE, value or "", secure=True)
    assert get(client, "/ops").status_code == status


def test_the_session_works_with_every_process_of_the_app(database_url: str) -> None:
    value = cookie(signed_in(app_for(database_url)))
    for _ in range(3):
        client = app_for(database_url).test_client()
        client.set_cookie(COOKIE, value or "", secure=True)
        assert get(client, "/ops").status_code == 200


@pytest.mark.parametrize("change", ["", "x", ".", "cut", "none"])
def test_a_cookie_that_is_not_ours_opens_nothing(change: str) -> None:
    app = app_for(CLOSED_PORT)
    value = cookie(signed_in(app)) or ""
    made_up = {"cut": value[:-2], "none": "", "": value.swapcase()}.get(change, change + value)
    client = app.test_client()
    client.set_cookie(COOKIE, made_up, secure=True)
    assert get(client, "/ops").status_code == 401


def test_a_token_that_is_only_to_read_from_now_on_has_to_sign_in_anew(database_url: str) -> None:
    value = cookie(signed_in(app_for(database_url)))
    app = app_for(database_url, INTERNAL_RUNNER_TOKEN=OTHER, INTERNAL_READ_TOKEN=TOKEN)
    client = app.test_client()
    client.set_cookie(COOKIE, value or "", secure=True)
    assert get(client, "/ops").status_code == 401


def test_a_read_only_token_gets_pages_without_buttons(database_url: str, conn: Any) -> None:
    app = app_for(database_url, INTERNAL_READ_TOKEN=READ_TOKEN)
    client = signed_in(app, READ_TOKEN)
    for path in ("/ops", "/ops/pause", "/ops/retry", "/ops/setup"):
        text = page(client, path)
        assert "Read-only" in text
        forms = text.count('method="post"')
        assert forms == 1, path  # signing out
    for path in ("/ops/pause", "/ops/retry"):
        answer = post(client, path, {"csrf": csrf(client), "action": "pause", "reason": "x"})
        assert answer.status_code == 403
        assert "read_only_token" in answer.text
    assert post(client, "/ops/sign-out", {"csrf": csrf(client)}).status_code == 303


def test_signing_out_forgets_the_cookie(database_url: str) -> None:
    client = signed_in(app_for(database_url))
    answer = post(client, "/ops/sign-out", {"csrf": csrf(client)})
    assert (answer.status_code, answer.location) == (303, "/ops/login")
    assert cookie(client) is None
    assert get(client, "/ops").status_code == 401


def test_the_api_never_takes_the_cookie_and_pages_never_take_the_header(database_url: str) -> None:
    app = app_for(database_url)
    assert get(signed_in(app), f"{PREFIX}/runs").status_code == 401
    client = app.test_client()
    assert get(client, "/ops", **ADMIN).status_code == 401
    assert get(client, "/ops", Authorization=f"Bearer {TOKEN}").status_code == 401


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"INTERNAL_RUNNER_TOKEN": ""}, "token_not_configured"),
        ({"INTERNAL_RUNNER_TOKEN": "short", "PORT": "80"}, "token_too_short"),
    ],
)
def test_without_a_usable_token_nobody_signs_in(environ: dict[str, str], code: str) -> None:
    client = app_for(CLOSED_PORT, **environ).test_client()
    for answer in (get(client, "/ops"), get(client, "/ops/login"), sign_in(client, "short")):
        assert answer.status_code == 503
        assert code in answer.text


def test_guessing_is_slowed_down_by_the_same_count_as_the_api() -> None:
    app, waits = app_for(CLOSED_PORT), []
    app.extensions["alerts_wrong_tokens"] = WrongTokens(waits.append)
    client = app.test_client()
    for _ in range(FREE):
        sign_in(client, "guess")
    assert waits == []
    client.get(f"{PREFIX}/runs", headers={"x-internal-token": "guess"})
    assert sign_in(client, "guess").status_code == 401
    assert waits == [0.1, 0.2]
    sign_in(client, "")  # nothing was guessed
    assert sign_in(client).status_code == 303
    assert len(waits) == 2


def test_no_token_shows_in_any_answer_address_or_log(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = app_for(database_url, INTERNAL_READ_TOKEN=READ_TOKEN)
    client = app.test_client()
    with caplog.at_level(logging.DEBUG):
        answers = [sign_in(client), sign_in(client, f"{TOKEN}-wrong"), get(client, "/ops/setup")]
        answers += [get(client, "/ops/audit"), post(client, "/ops/pause", {"csrf": TOKEN})]
    for answer in answers:
        shown = answer.text + str(answer.headers)
        assert TOKEN not in shown
        assert READ_TOKEN not in shown
    assert TOKEN not in caplog.text
