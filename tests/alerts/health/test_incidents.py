"""Each incident is told by its cause, in the same words wherever it is asked about."""

from __future__ import annotations

import io
import re
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from psycopg2.extensions import connection as Connection

from alerts.cli import commands
from app import create_app
from tests.support.incident_scenes import World
from tests.support.incidents import INCIDENTS, Incident
from tests.support.ops import page as get_page
from tests.support.ops import signed_in, words_of
from tests.support.web import ADMIN, PREFIX, TOKEN
from tests.support.world import settings_for


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda each: each.id)
def test_incident_is_told_in_one_sentence_everywhere(
    incident: Incident,
    conn: Connection,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ExitStack() as stack:
        world = World(conn, database_url, tmp_path, stack)
        incident.make(world)
        message = incident.message.format(**world.times)
        action = incident.action.format(**world.times)
        web = create_app(settings_for(database_url, INTERNAL_RUNNER_TOKEN=TOKEN)).test_client()

        health = web.get(f"{PREFIX}/health", headers=ADMIN).get_json()
        told = [each for each in health["reasons"] if each["code"] == incident.code]
        assert [(each["message"], each["action"]) for each in told] == [(message, action)]
        assert health["status"] == incident.status

        answer = web.get(f"{PREFIX}/health?view=brief", headers=ADMIN)
        brief = answer.get_json()
        assert brief["headline"] in (message, f"All is well. {message}")
        assert brief["reasons"][0] == told[0]
        assert len(brief["reasons"]) <= 3
        assert len(answer.data) <= 2048

        text = web.get(f"{PREFIX}/health", headers={**ADMIN, "Accept": "text/plain"}).text
        assert message in text
        assert f"-> {action}" in text

        page = words_of(get_page(signed_in(web.application), "/ops"))
        assert message in page
        assert action in page

        screen = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            environ = {"DATABASE_URL": database_url, "COLUMNS": "120", "NO_COLOR": "1"}
            assert commands.main(["health"], environ) == 0
        shown = " ".join(screen.getvalue().split())
        assert message in shown
        assert f"-> {action}" in shown
        assert not re.search(r"\w@", message + action)  # no address
