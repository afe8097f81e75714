"""What the engine's role may not see is said, before anything is done without it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.access import NEEDS, access_of
from alerts.preflight import preflight
from tests.support.run_world import phase_statuses, whole_world
from tests.support.world import query, run


class Role:
    """A role of its own, with every right on every table, and the database's URL as this role."""

    def __init__(self, conn: Connection, database_url: str) -> None:
        self.conn = conn
        self.name = f"role_{secrets.token_hex(8)}"
        password = secrets.token_hex(8)
        self.execute(f"CREATE ROLE {self.name} LOGIN PASSWORD '{password}'")
        self.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {self.name}")
        self.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {self.name}")
        parts = urlsplit(database_url)
        place = parts.netloc.rpartition("@")[2]
        self.url = urlunsplit(parts._replace(netloc=f"{self.name}:{password}@{place}"))

    def execute(self, statement: str) -> None:
        db.execute(self.conn, statement.replace("ROLE_NAME", self.name))

    def findings(self) -> dict[str, str]:
        report = preflight({"DATABASE_URL": self.url})
        return {f.id: f"{f.message} {f.hint}" for f in (*report.errors, *report.warnings)}


@pytest.fixture
def role(conn: Connection, database_url: str) -> Iterator[Role]:
    made = Role(conn, database_url)
    yield made
    made.execute("DROP OWNED BY ROLE_NAME")
    made.execute("DROP ROLE ROLE_NAME")


def test_a_role_with_all_rights_works(conn: Connection, role: Role) -> None:
    whole_world(conn)
    report = run(role.url)
    assert (report.record.status, report.recorded) == ("success", True), report.record.error_summary
    assert not {"grants_missing", "row_security_hides", "row_security_filters"} & set(
        role.findings()
    )


@pytest.mark.parametrize(
    "table",
    ["users", "user_channel_prefs", "events", "risk_indices", "plan_settings", "alert_events"],
)
def test_tables_hidden_by_row_level_security_stop_the_run_by_name(
    conn: Connection, role: Role, table: str
) -> None:
    whole_world(conn)
    before = query(conn, "SELECT count(*) FROM user_alert_deliveries")
    role.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    report = run(role.url)
    told = f"row level security hides {table} from the role {role.name}"
    assert (report.record.status, report.record.error_summary) == ("failed", told)
    assert report.recorded
    assert report.record.items == ()
    assert query(conn, "SELECT count(*) FROM user_alert_deliveries") == before
    found = role.findings()["row_security_hides"]
    assert f"Row level security hides {table} from the role" in found
    assert f"CREATE POLICY alerts_engine ON {table} TO {role.name} USING (true);" in found


@pytest.mark.parametrize(
    ("policies", "visible"),
    [
        (["FOR SELECT TO ROLE_NAME USING (true)"], "all"),
        (["USING (true)"], "all"),  # for everybody
        (["TO ROLE_NAME USING (id > 1)", "TO ROLE_NAME USING (true)"], "all"),
        (["TO ROLE_NAME USING (id > 1)"], "some"),
        (["TO ROLE_NAME USING (true)", "AS RESTRICTIVE USING (id > 1)"], "some"),
        (["FOR INSERT TO ROLE_NAME WITH CHECK (true)"], "none"),
        (["TO pg_monitor USING (true)"], "none"),
    ],
)
def test_policies_decide_what_is_visible(
    conn: Connection, role: Role, policies: list[str], visible: str
) -> None:
    role.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    for number, policy in enumerate(policies):
        role.execute(f"CREATE POLICY p{number} ON users {policy}")
    session = db.open_session(role.url, application_name="t")
    access = access_of(session)
    session.close()
    expected = {"all": ((), ()), "some": ((), ("users",)), "none": (("users",), ())}
    assert (access.hidden, access.filtered) == expected[visible]
    found = {"all": set(), "some": {"row_security_filters"}, "none": {"row_security_hides"}}
    assert {id_ for id_ in role.findings() if id_.startswith("row_security")} == found[visible]


def test_a_role_above_row_level_security_sees_all(conn: Connection, role: Role) -> None:
    role.execute("ALTER TABLE users ENABLE ROW LEVEL SECURITY")
    role.execute("ALTER ROLE ROLE_NAME BYPASSRLS")
    assert run(role.url).record.status == "success"


@pytest.mark.parametrize("table", NEEDS)
def test_a_missing_right_is_named_with_its_grant(role: Role, table: str) -> None:
    lost = NEEDS[table][-1]
    role.execute(f"REVOKE {lost} ON {table} FROM ROLE_NAME")
    found = role.findings()["grants_missing"]
    assert f"The role {role.name} lacks {lost} on {table}. " in found
    assert f"GRANT {lost} ON {table} TO {role.name};" in found


def test_a_run_without_a_right_fails_in_its_phase_alone(conn: Connection, role: Role) -> None:
    whole_world(conn)
    role.execute("REVOKE SELECT ON risk_indices FROM ROLE_NAME")
    report = run(role.url)
    assert phase_statuses(report) == {"a": "failed", "b": "success", "d": "success", "c": "success"}
    assert "permission denied for table risk_indices" in (report.record.error_summary or "")
