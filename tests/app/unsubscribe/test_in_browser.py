"""The pages behind the links of emails, as a person with a phone uses them."""

from __future__ import annotations

import re

import pytest
from psycopg2.extensions import connection as Connection

from tests.support.browser import Browsing, axe_problems, sideways_scroll
from tests.support.leaving import channel_pref, link_of
from tests.support.web import app_for, serving
from tests.support.world import add_channel_pref, add_user

APP = {"ALERTS_APP_BASE_URL": "https://an-app-of-a-rather-long-name.example.com"}
# For a thumb, in CSS pixels.
SMALLEST = 44


@pytest.mark.parametrize("dark", [False, True])
def test_person_leaves_and_comes_back(
    conn: Connection, database_url: str, browsing: Browsing, dark: bool
) -> None:
    """In the dark only the two pages that show every colour."""
    user, off = add_user(conn), add_user(conn)
    add_channel_pref(conn, off, "email", enabled=False)
    link = link_of(conn, user)
    browsing.tolerate("status of 404")

    with serving(app_for(database_url, **APP)) as site:
        page = browsing.page(site, dark=dark)

        def shows(title: str, *, axe: bool = False) -> None:
            assert page.inner_text("h1") == title
            assert not axe or axe_problems(page) == []
            for width in (320, 384, 1280):
                page.set_viewport_size({"width": width, "height": 800})
                assert sideways_scroll(page) == 0
            for control in page.locator("button, a").all():
                box = control.bounding_box()
                assert box
                assert box["height"] >= SMALLEST

        page.goto(link)
        shows("Unsubscribe from alert emails?", axe=True)
        page.get_by_role("button", name="Unsubscribe").click()
        page.wait_for_load_state()
        shows("You are unsubscribed", axe=True)
        row = channel_pref(conn, user)
        assert row is not None
        assert not row["enabled"]
        if dark:
            return
        page.goto(link)
        shows("You are unsubscribed")
        page.get_by_role("button", name="Get alert emails again").click()
        page.wait_for_url(re.compile("/undo$"))
        shows("You get alert emails again")
        row = channel_pref(conn, user)
        assert row is not None
        assert row["enabled"]
        page.goto(link_of(conn, off))
        shows("You get no alert emails")
        page.goto(f"{link}x")
        shows("This link does not work", axe=True)
        assert page.get_by_role("link").get_attribute("href") == APP["ALERTS_APP_BASE_URL"]
        assert page.context.cookies() == []


def test_without_scripts_and_read_from_another_page(
    conn: Connection, database_url: str, browsing: Browsing
) -> None:
    user = add_user(conn)
    with serving(app_for(database_url)) as site:
        page = browsing.page(site, javascript=False)
        page.goto(link_of(conn, user))
        page.get_by_role("button", name="Unsubscribe").click()
        page.wait_for_load_state()
        page.get_by_role("button", name="Undo").click()
        page.wait_for_url(re.compile("/undo$"))
        assert page.inner_text("h1") == "You get alert emails again"
