"""Nothing depends on what role, database and server have set: a whole run is the same."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from contextlib import closing
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from alerts import db
from tests.support.databases import TestServer
from tests.support.run_world import whole_world
from tests.support.web import ADMIN, PREFIX, app_for
from tests.support.world import RememberingChannel, add_alert, all_channels, query, run

# What people were found to have set, and what else could change a meaning or end a session. (Not
# what changes plans: rows may then be made in another order, which nobody promised.)
DEFAULTS = {
    "idle_session_timeout": ["300ms"],
    "idle_in_transaction_session_timeout": ["300ms"],
    "transaction_timeout": ["300ms"],
    "statement_timeout": ["300ms"],
    "lock_timeout": ["20ms"],
    "default_transaction_isolation": ["repeatable read", "serializable", "read uncommitted"],
    "default_transaction_deferrable": ["on"],
    "row_security": ["off"],
    "search_path": ["pg_catalog", "nowhere", "information_schema, pg_catalog"],
    "DateStyle": ["German", "SQL, DMY", "Postgres, MDY", "ISO, DMY"],
    "IntervalStyle": ["sql_standard", "iso_8601", "postgres_verbose"],
    "TimeZone": ["Asia/Tokyo", "America/Havana", "Pacific/Chatham"],
    "array_nulls": ["off"],
    "standard_conforming_strings": ["off"],
    "transform_null_equals": ["on"],
    "bytea_output": ["escape"],
    "extra_float_digits": ["-15"],
    "client_encoding": ["LATIN1", "SQL_ASCII"],
    "lc_messages": ["C", "POSIX"],
    "work_mem": ["64kB"],
    "plan_cache_mode": ["force_generic_plan"],
    "client_min_messages": ["error", "debug1"],
    "synchronous_commit": ["off"],
    "quote_all_identifiers": ["on"],
}
SINCE = {"transaction_timeout": 170_000}
# The same for two runs of the same world: numbers of rows are, times of the wall clock are not.
# (next_retry_at has jitter, and with it when the next one is due).
WALL = re.compile(
    r"^(claimed_|heartbeat_|started_at|finished_at|duration|phases|run_id|next_retry_at|next_due_at"
    r"|last_success)"
)
PATHS = ("/deliveries?limit=200", "/digests?limit=200", "/health", "/explain?event_id=1&user_id=1")


class SlowChannel(RememberingChannel):
    """Takes so long that a session which may not idle would have ended."""

    def send(self, message: Any) -> str | None:
        if not self.sent:
            time.sleep(0.7)
        return super().send(message)


def outcome(server: TestServer, defaults: dict[str, str], level: str) -> dict[str, Any]:
    """All that a run leaves, and what the web app says of it, where these defaults are set."""
    name = server.create(migrated=True)
    url = server.url(name)
    try:
        with closing(db.connect(url, application_name="test")) as conn:
            whole_world(conn)
            add_alert(conn, headline="O'Neil \\ «grün» 🌍")
            owner = f"ROLE {conn.info.user} IN DATABASE" if level == "role" else "DATABASE"
            for setting, value in defaults.items():
                if conn.info.server_version >= SINCE.get(setting, 0):
                    values = value if setting == "search_path" else f"'{value}'"
                    db.execute(conn, f"ALTER {owner} {name} SET {setting} = {values}")
            channels = all_channels(email=SlowChannel())
            report = run(url, channels=channels, environ={"ALERTS_SEND_WORKERS": "1"})
            return {
                "run": (report.record.status, report.record.error_summary, report.recorded),
                "counts": report.record.counts,
                "sent": sorted(text_of(m) for c in channels.values() for m in c.sent),
                **{table: rows_of(conn, table) for table in TABLES},
                "web": answers(url),
            }
    finally:
        server.drop(name)


TABLES = {
    "alert_events": "event_fingerprint",
    "user_alert_deliveries": "id",
    "user_alert_digests": "id",
    "user_alert_digest_items": "delivery_id",
    "alerts_engine_run_items": "phase",
}


def text_of(message: Any) -> str:
    """All of it but the random end of its key."""
    return re.sub(r"-[0-9a-f]{16}\b", "", str(dataclasses.astuple(message)))


def rows_of(conn: Any, table: str) -> list[dict[str, Any]]:
    drawn = ("event_fingerprint", "cooldown_key")  # some of the world's are random
    rows = query(conn, f"SELECT * FROM {table} ORDER BY {TABLES[table]}")
    kept = [{k: v for k, v in row.items() if not WALL.match(k) and k not in drawn} for row in rows]
    return sorted(kept, key=str)


def answers(url: str) -> dict[str, Any]:
    client = app_for(url).test_client()
    found = {path: client.get(PREFIX + path, headers=ADMIN) for path in PATHS}
    found["events"] = client.get("/alerts/events/latest")
    requeued = client.post(f"{PREFIX}/retry_failed?kind=deliveries", headers=ADMIN)
    return {
        path: (answer.status_code, without_wall(answer.get_json()))
        for path, answer in {**found, "retry": requeued}.items()
    }


def without_wall(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_wall(v) for k, v in value.items() if not WALL.match(k)}
    if isinstance(value, list):
        return [without_wall(each) for each in value]
    return value


@pytest.fixture(scope="module")
def plain(test_server: TestServer) -> str:
    return comparable(outcome(test_server, {}, "database"))


def comparable(found: dict[str, Any]) -> str:
    text = json.dumps(found, default=str, sort_keys=True, indent=1)
    return re.sub(r'"20(?!22)\d\d-[^"]*"', '"wall time"', text)


some_defaults = st.fixed_dictionaries(
    {}, optional={name: st.sampled_from(values) for name, values in DEFAULTS.items()}
)


def test_the_run_to_compare_with_does_its_work(plain: str) -> None:
    found = json.loads(plain)
    assert found["run"] == ["success", None, True]
    assert found["sent"]


@pytest.mark.slow
@settings(max_examples=6, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(defaults=some_defaults, level=st.sampled_from(["database", "role"]))
def test_a_run_is_the_same_whatever_the_defaults(
    test_server: TestServer, plain: str, defaults: dict[str, str], level: str
) -> None:
    assert comparable(outcome(test_server, defaults, level)) == plain


@pytest.mark.slow
@pytest.mark.parametrize("choice", [0, -1])
def test_a_run_is_the_same_with_all_of_them_at_once(
    test_server: TestServer, plain: str, choice: int
) -> None:
    defaults = {name: values[choice] for name, values in DEFAULTS.items()}
    assert comparable(outcome(test_server, defaults, "database")) == plain
