"""Six incidents from end to end: what happened is read on the phone, and its button leads on."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from app import create_app
from tests.support.browser import Browsing
from tests.support.incident_scenes import World
from tests.support.incidents import INCIDENTS
from tests.support.ops import session_of
from tests.support.web import TOKEN, serving
from tests.support.world import settings_for

# Of runs, of a provider, of a setting, of what somebody did, of the input.
SIX = ("3", "6", "8", "11", "22", "25")


@pytest.mark.parametrize("number", SIX)
def test_incident_is_read_at_a_glance_and_leads_on(
    browsing: Browsing, conn: Connection, database_url: str, tmp_path: Path, number: str
) -> None:
    incident = next(each for each in INCIDENTS if f"{each.number}{each.variant}" == number)
    app = create_app(settings_for(database_url, INTERNAL_RUNNER_TOKEN=TOKEN))
    with ExitStack() as stack:
        world = World(conn, database_url, tmp_path, stack)
        incident.make(world)
        page = browsing.page(stack.enter_context(serving(app)), dark=int(number) % 2 == 0)
        page.context.add_cookies([session_of(app)])
        page.goto("/ops")
        assert page.locator("h1").inner_text() == incident.message.format(**world.times)
        assert incident.action.format(**world.times) in page.locator("#verdict").inner_text()
        button = page.locator("#verdict .button").first
        box = button.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 700  # above the bar, without scrolling
        button.tap()
        page.wait_for_url(lambda url: "/ops/" in url or url.endswith("#input"))
        page.locator("h1").wait_for()
