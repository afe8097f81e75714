"""The pages in a real browser: a phone, in light and dark, by touch, with and without scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from psycopg2.extensions import connection as Connection

from alerts.settings.env import Secret
from tests.support.browser import Browsing, axe_problems, sideways_scroll
from tests.support.ops import PAGES, bad_day, session_of
from tests.support.web import CLOSED_PORT, TOKEN, app_for, serving
from tests.support.world import NOW, add_alert, add_delivery, add_user, value

WIDTHS = (360, 384, 390, 412, 1280)
NOT_SIGNED_IN = "status of 401"


@pytest.fixture
def app(database_url: str) -> Flask:
    return app_for(database_url)


@pytest.fixture
def url(app: Flask) -> Iterator[str]:
    with serving(app) as address:
        yield address


def sign_in(page: Any) -> None:
    page.goto("/ops")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").tap()
    page.wait_for_selector("#verdict")


@pytest.fixture
def phone(browsing: Browsing, app: Flask, url: str) -> Any:
    """The overview, of someone who has signed in."""
    page = browsing.page(url, dark=True)
    page.context.add_cookies([session_of(app)])
    page.clock.install()
    page.goto("/ops")
    return page


def test_signing_in_without_scripts(browsing: Browsing, url: str) -> None:
    browsing.tolerate(NOT_SIGNED_IN)
    page = browsing.page(url, javascript=False)
    page.goto("/ops/runs")
    page.get_by_label("Token").fill("not-the-token")
    page.get_by_role("button", name="Sign in").tap()
    page.get_by_text("none of the tokens").wait_for()
    page.goto("/ops/runs")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").tap()
    page.wait_for_url("**/ops/runs")
    page.get_by_role("heading", name="Runs").wait_for()
    page.get_by_role("button", name="Sign out").tap()
    page.wait_for_url("**/ops/login")
    page.goto("/ops/runs")
    page.get_by_label("Token").wait_for()


@pytest.mark.parametrize("javascript", [True, False])
def test_pausing_and_resuming(
    browsing: Browsing, url: str, conn: Connection, javascript: bool
) -> None:
    browsing.tolerate(NOT_SIGNED_IN)
    page = browsing.page(url, javascript=javascript)
    sign_in(page)
    page.goto("/ops/pause")
    page.get_by_label("Email alone").tap()
    page.get_by_label("Why").fill("<b>wrong</b> headline")
    page.get_by_role("button", name="Pause").tap()
    page.wait_for_url("**/ops/pause?done=*")
    page.get_by_text("<b>wrong</b> headline").first.wait_for()
    page.get_by_role("link", name="Now").tap()
    page.wait_for_url("**/ops")
    page.get_by_role("button", name="Resume Email").tap()
    page.wait_for_url("**/ops/pause?done=*")
    page.get_by_role("heading", name="Nothing is paused").wait_for()
    assert value(conn, "SELECT count(*) FROM alerts_pauses") == 0


@pytest.mark.parametrize("javascript", [True, False])
def test_sending_again_what_the_preview_shows(
    browsing: Browsing, url: str, conn: Connection, javascript: bool
) -> None:
    def fail(count: int) -> None:
        for _ in range(count):
            add_delivery(conn, add_user(conn), add_alert(conn), status="failed", failed_at=NOW)

    browsing.tolerate(NOT_SIGNED_IN)
    fail(3)
    page = browsing.page(url, dark=True, javascript=javascript)
    sign_in(page)
    page.goto("/ops/failures")
    page.get_by_role("link", name="Preview sending again").tap()
    page.wait_for_url("**/ops/retry?*")
    assert page.locator(".big").inner_text() == "3"
    fail(2)
    page.get_by_role("button", name="Send 3 again").tap()
    page.get_by_text("The number has changed meanwhile").wait_for()
    assert value(conn, "SELECT count(*) FROM alerts_send_queue") == 0
    page.get_by_role("button", name="Send 5 again").tap()
    page.wait_for_url("**/ops/retry?*done=*")
    page.get_by_text("5 deliveries put back into the queue").wait_for()
    assert value(conn, "SELECT count(*) FROM alerts_send_queue") == 5


def test_figures_are_fetched_again_and_what_is_open_stays_open(
    phone: Any, conn: Connection
) -> None:
    from playwright.sync_api import expect

    add_delivery(conn, add_user(conn), add_alert(conn), status="sent")
    figure = phone.locator("#channels dd").nth(1)
    assert figure.inner_text() == "0"
    phone.clock.run_for(31_000)
    expect(figure).to_have_text("1")
    add_delivery(conn, add_user(conn), add_alert(conn), status="sent")
    phone.get_by_text("As a table").last.tap()
    phone.clock.run_for(31_000)
    assert "Paused since" in phone.locator("[data-fresh]").inner_text()
    assert figure.inner_text() == "1"
    phone.get_by_role("button", name="Refresh").tap()
    expect(figure).to_have_text("2")
    assert phone.locator("details[open]").count() == 1
    assert phone.locator("details[open] table").is_visible()


def test_figures_stay_when_they_cannot_be_fetched_and_nobody_asks_for_ever(
    browsing: Browsing, phone: Any, app: Flask
) -> None:
    browsing.tolerate("status of 503")
    good = app.extensions["alerts_database"]
    app.extensions["alerts_database"] = app_for(CLOSED_PORT).extensions["alerts_database"]
    phone.clock.run_for(31_000)
    phone.get_by_text(re.compile(r"Not refreshed since \d\d:\d\d")).wait_for()
    assert phone.locator("#verdict").is_visible()
    app.extensions["alerts_database"] = good
    phone.get_by_role("button", name="Try now").tap()
    phone.get_by_text(re.compile(r"As of \d\d:\d\d")).wait_for()
    phone.clock.fast_forward(16 * 60_000)
    phone.clock.run_for(31_000)
    phone.get_by_role("button", name="Tap to go on").wait_for()
    phone.get_by_role("button", name="Tap to go on").tap()
    phone.get_by_text(re.compile(r"As of \d\d:\d\d")).wait_for()


def test_a_session_that_rotation_has_ended_is_asked_to_sign_in(
    browsing: Browsing, phone: Any, app: Flask
) -> None:
    browsing.tolerate(NOT_SIGNED_IN)
    ours = app.extensions["alerts_settings"]
    changed = replace(ours, internal_tokens=(Secret("a-new-token-that-is-long-enough"),))
    app.extensions["alerts_settings"] = changed
    phone.clock.run_for(31_000)
    phone.get_by_label("Token").wait_for()
    assert phone.url.endswith("/ops")


def test_another_site_can_link_here_and_send_nothing(
    browsing: Browsing, phone: Any, url: str, conn: Connection
) -> None:
    browsing.tolerate("status of 403")
    phone.goto(
        f"data:text/html,<a href='{url}/ops/audit'>look</a>"
        f"<form method=post action='{url}/ops/pause'><input name=channel value=''>"
        "<input name=action value=pause><input name=reason value=evil><button>win</button></form>"
    )
    phone.get_by_role("link", name="look").click()
    phone.get_by_role("heading", name="Who did what").wait_for()
    phone.go_back()
    phone.get_by_role("button", name="win").click()
    phone.get_by_text("Another site sent this request").wait_for()
    assert value(conn, "SELECT count(*) FROM alerts_pauses") == 0


def test_no_page_scrolls_sideways_and_targets_are_large(phone: Any, conn: Connection) -> None:
    ids = bad_day(conn)
    for path in PAGES:
        phone.goto(path.format(**ids))
        for width in WIDTHS:
            phone.set_viewport_size({"width": width, "height": 800})
            assert sideways_scroll(phone) == 0, (path, width)
        phone.set_viewport_size({"width": 384, "height": 800})
        small = phone.evaluate(SMALL_TARGETS)
        assert small == [], path


# What is to be tapped and lower than 44 CSS pixels; links within a line of text may be.
SMALL_TARGETS = """
[...document.querySelectorAll("button, summary, select, input:not([type=hidden]):not(.hidden), "
  + ".bar a, .more a, .button, .title > a:not(.cover), td a, .foot a")]
  .filter((each) => each.offsetParent && each.closest(".tick") === null)
  .map((each) => [each.outerHTML.slice(0, 80), each.getBoundingClientRect().height])
  .filter(([_, height]) => height < 43.5)
"""


def test_axe_finds_nothing_in_any_page(browsing: Browsing, phone: Any, conn: Connection) -> None:
    browsing.tolerate("status of 404")
    ids = bad_day(conn)
    for number, path in enumerate((*AXE_PAGES, "/ops/nothing")):
        phone.emulate_media(color_scheme="dark" if number % 2 else "light")
        phone.goto(path.format(**ids))
        phone.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
        assert axe_problems(phone) == [], path
    phone.emulate_media(color_scheme="dark")
    phone.goto("/ops")
    assert axe_problems(phone) == []


# One of each kind of page.
AXE_PAGES = [
    path
    for path in PAGES
    if path
    not in ("/ops/messages?of=digests", "/ops/explain", "/ops/retry", "/ops/digests/{digest}")
]


def test_axe_finds_nothing_where_one_signs_in(browsing: Browsing, url: str) -> None:
    page = browsing.page(url)
    page.goto("/ops/login")
    assert axe_problems(page) == []
