"""Times at the ends of what is taken work everywhere; those beyond are refused everywhere."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from alerts import runner
from alerts.cli import commands
from alerts.readers import TIME
from alerts.repair.prune import MOST_DAYS
from alerts.settings.config import ConfigError, Settings
from tests.support.run_world import Runner
from tests.support.web import Admin, app_for
from tests.support.world import add_alert, add_delivery, add_pref, add_source_event, add_user

ENDS = [
    "1970-01-01T00:00:00Z", "1970-01-01T00:00:00+14:00", "2999-12-31T23:59:59.999999Z",
    "2999-12-31T23:59:59-12:00",
]  # fmt: skip
BEYOND = [
    "0001-01-01T00:00:00+01:00", "0001-01-01", "1969-12-31T23:59:59.999999Z", "3000-01-01",
    "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999999-23:59", "٢٠٢٢-٠٣-٠٨",
    "2022-03-08T24:00:01", "2022-03-08T00:00:00+24:01",
]  # fmt: skip
ZONES = ["Pacific/Kiritimati", "Etc/GMT+12", "Europe/Amsterdam", "Africa/Monrovia"]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ENDS)
def test_a_run_and_every_answer_at_an_end_of_time(
    conn: Connection, database_url: str, tmp_path: Path, text: str, zone: str
) -> None:
    now = TIME.read(text)
    user = add_user(conn, "pro")
    add_pref(conn, user)
    add_source_event(conn, inserted_at=now - timedelta(minutes=5))
    event = add_alert(conn, created_at=now - timedelta(hours=1))
    add_delivery(conn, user, event, "telegram", created_at=now - timedelta(hours=1))
    engine = Runner(database_url, tmp_path)
    environ = {"ALERTS_TIMEZONE": zone, "ALERTS_DIGEST_PERIOD": "hourly"}
    code, lines = engine.json_lines("--phase", "all", "--since-hours", "87600", "--now", text,
                                    **environ)  # fmt: skip
    assert (code, lines[-1]["status"]) == (0, "success")
    admin = Admin(app_for(database_url, ALERTS_CLOCK=text, **environ).test_client())
    for path in ("/health", "/runs", "/deliveries", "/digests", "/actions"):
        admin.ok(path)
    admin.ok("/deliveries", since=text)
    admin.ok("/explain", event_id=event, user_id=user)
    for hours in (1, 168):
        assert admin.post("/retry_failed", kind="deliveries", since_hours=hours)[0] == 200
    done = engine.command("prune", "--keep-days", str(MOST_DAYS), "--dry-run", ALERTS_CLOCK=text)
    assert done.returncode == 0


@pytest.mark.parametrize("text", BEYOND)
def test_what_lies_beyond_is_refused_by_name(
    database_url: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"DATABASE_URL": database_url}
    assert runner.main(["--phase", "a", "--now", text], environ) == 2
    assert "--now takes an ISO time" in capsys.readouterr().err
    assert commands.main(["deliveries", "--since", text], environ) == 2
    assert "--since takes an ISO time" in capsys.readouterr().err
    with pytest.raises(ConfigError, match=r"^ALERTS_CLOCK got .*; it takes an ISO time"):
        Settings.from_env({"ALERTS_CLOCK": text})


NUMBERS = st.integers(-2, 10_001)


@given(
    st.builds(
        "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:00{}".format,
        NUMBERS, st.integers(0, 13), st.integers(0, 32), st.integers(0, 25), st.integers(0, 61),
        st.sampled_from(["", "Z", "+00:00", "-23:59", "+23:59", "+14:00", "-12:00", "+24:00"]),
    )
    | st.text(st.characters(exclude_categories=()))
)  # fmt: skip
def test_a_time_that_is_taken_stands_any_arithmetic(text: str) -> None:
    try:
        found = TIME.read(text)
    except ValueError:
        return
    decade = timedelta(days=3660)
    assert found - decade < found < found + decade
    assert isinstance(found, datetime)
    assert found.utcoffset() == timedelta(0)
