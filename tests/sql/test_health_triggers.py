"""The triggers of health count whoever writes and however his session is set up."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db, migrations
from tests.support.health_counts import (
    fill,
    kept,
    other_role,
    recounted,
    stale,
    statements,
)
from tests.support.world import query, value

ROW_RIGHTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON user_alert_deliveries, user_alert_digests TO {role};
GRANT SELECT ON users, alert_events TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}
"""
BOTH = "user_alert_deliveries, user_alert_digests, user_alert_digest_items"


@pytest.fixture
def filled(conn: Connection) -> Connection:
    fill(conn)
    return conn


def write_all(writer: Connection, owner: Connection) -> None:
    """Every kind of write, each counted; the tables are named in full."""
    for text in statements("public."):
        assert db.execute(writer, text) > 0, text
        assert kept(owner) == recounted(owner), text
    assert not stale(owner)


def test_a_role_with_rights_on_the_rows_alone_writes_and_is_counted(
    filled: Connection, database_url: str
) -> None:
    with other_role(filled, database_url, ROW_RIGHTS) as writer:
        write_all(writer, filled)
        for forbidden in (
            "SELECT FROM alerts_health_counts",
            "INSERT INTO alerts_health_changes SELECT",
            "DELETE FROM alerts_health_stale",
        ):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                db.execute(writer, forbidden)


def test_a_role_that_may_truncate_is_counted(filled: Connection, database_url: str) -> None:
    for text in statements():
        db.execute(filled, text)
    with other_role(filled, database_url, f"GRANT TRUNCATE ON {BOTH} TO {{role}}") as writer:
        db.execute(writer, f"TRUNCATE {BOTH}")
    assert not kept(filled)
    assert not stale(filled)


def test_nobody_else_may_use_the_triggers_functions(filled: Connection, database_url: str) -> None:
    """On a table of his own they would count rows that he makes up."""
    functions = [
        row["name"]
        for row in query(filled, "SELECT oid::regproc::text AS name FROM pg_proc WHERE prosecdef")
    ]
    assert len(functions) == 6
    with other_role(filled, database_url, "GRANT CREATE ON SCHEMA public TO {role}") as stranger:
        db.execute(stranger, "CREATE TABLE mine (id bigint)")
        for name in functions:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                db.execute(
                    stranger,
                    "CREATE TRIGGER t AFTER INSERT ON mine REFERENCING NEW TABLE AS added"
                    f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()",
                )


@pytest.mark.parametrize(
    "settings",
    [
        {"search_path": ""},
        {"search_path": "pg_catalog"},
        {"search_path": "nowhere, pg_temp"},
        {"TimeZone": "Pacific/Kiritimati", "DateStyle": "German, DMY"},
        {"TimeZone": "America/St_Johns", "DateStyle": "SQL, DMY", "IntervalStyle": "sql_standard"},
        {"row_security": "off"},
        {"array_nulls": "off", "quote_all_identifiers": "on", "transform_null_equals": "on"},
        {"lock_timeout": "1ms", "statement_timeout": "30s"},
        {"default_transaction_isolation": "repeatable read"},
        {"default_transaction_isolation": "serializable"},
        {"plan_cache_mode": "force_generic_plan", "jit": "off"},
    ],
    ids=lambda settings: ", ".join(f"{name}={text}" for name, text in settings.items()),
)
def test_no_setting_of_the_writers_session_matters(
    filled: Connection, database_url: str, settings: dict[str, str]
) -> None:
    writer = psycopg2.connect(database_url)
    writer.autocommit = True
    for name, text in settings.items():
        db.execute(writer, "SELECT set_config(%s, %s, FALSE)", (name, text))
    write_all(writer, filled)
    writer.close()


def test_a_role_that_row_security_lets_see_some_rows_is_counted(
    filled: Connection, database_url: str
) -> None:
    db.execute(
        filled,
        "ALTER TABLE user_alert_deliveries ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY partly ON user_alert_deliveries USING (id % 4 <> 3)"
        " WITH CHECK (TRUE)",
    )
    with other_role(filled, database_url, ROW_RIGHTS) as writer:
        write_all(writer, filled)
        # Who does not see all rows must not rebuild from those that he sees.
        db.execute(filled, "GRANT SELECT ON alerts_health_counts, alerts_health_changes TO PUBLIC")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="row-level security"):
            db.execute(writer, "SELECT alerts_health_differences()")


# Objects that others plant where the functions might find them first

TYPES = (
    "text", "varchar", "bpchar", "name", "smallint", "integer", "bigint", "numeric", "real",
    "double precision", "boolean", "date", "timestamp", "timestamptz", "interval", "oid",
)  # fmt: skip
OPERATORS = ("=", "<>", "<", ">", "<=", ">=", "+", "-", "*", "/", "^", "||")
FUNCTIONS = (
    "ceil", "clock_timestamp", "count", "current_setting", "date_bin", "date_part",
    "hashtextextended", "isfinite", "ln", "pg_try_advisory_xact_lock", "random", "sum",
)  # fmt: skip
# What a deployment's columns may be where ours are of the first type.
OTHER_TYPES = {"text": "varchar", "timestamptz": "timestamp", "integer": "bigint"}
# A number drawn from a sequence stays drawn, whoever catches the error.
SPRUNG = "SELECT is_called FROM public.trap"


def traps(owner: Connection) -> Iterator[str]:
    """Operators and functions for all the types that none has yet in the schema; whoever runs
    one springs the trap."""
    yield "CREATE SEQUENCE public.trap"
    body = (
        "RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.nextval('public.trap');"
        " RAISE EXCEPTION 'trapped'; END $$"
    )
    for number, (left, right) in enumerate(itertools.product(TYPES, TYPES)):
        name = f"public.trap_{number}"
        yield f"CREATE FUNCTION {name} ({left}, {right}) {body}"
        for operator in OPERATORS:
            yield (
                f"CREATE OPERATOR public.{operator} (LEFTARG = {left}, RIGHTARG = {right},"
                f" FUNCTION = {name})"
            )
    for function in FUNCTIONS:
        for arguments in ("", *TYPES, "text, integer", "varchar, integer", "text, varchar",
                          "text, interval", "varchar, interval", "interval, timestamp, timestamptz",
                          "VARIADIC anyarray", "anyelement", "anyelement, integer"):  # fmt: skip
            yield f"CREATE FUNCTION public.{function} ({arguments}) {body}"
    for row in query(
        owner,
        "SELECT proname AS name, proargtypes::regtype[]::text[] AS types FROM pg_proc"
        " WHERE proname LIKE 'alerts\\_health%' AND pronargs > 0",
    ):
        types = [name.replace("timestamp with time zone", "timestamptz") for name in row["types"]]
        for changed in range(1, 2 ** len(types)):
            arguments = ", ".join(
                OTHER_TYPES.get(each, each) if changed >> place & 1 else each
                for place, each in enumerate(types)
            )
            yield f"CREATE FUNCTION public.{row['name']} ({arguments}) {body}"


def plant(stranger: Connection, owner: Connection) -> int:
    planted = 0
    for text in traps(owner):
        try:
            db.execute(stranger, text)
            planted += 1
        except (psycopg2.errors.DuplicateFunction, psycopg2.errors.InsufficientPrivilege):
            pass  # there already: ours, which a stranger cannot replace
    return planted


@pytest.mark.parametrize("columns", ["as ours", "of other types"])
def test_what_others_plant_in_the_schema_is_never_run(
    filled: Connection, database_url: str, columns: str
) -> None:
    if columns == "of other types":
        for table in ("user_alert_deliveries", "user_alert_digests"):
            for name in ("channel", "failure_code"):
                db.execute(filled, f"ALTER TABLE {table} ALTER COLUMN {name} TYPE varchar(40)")
            for name in ("created_at", "sent_at"):
                db.execute(filled, f"ALTER TABLE {table} ALTER COLUMN {name} TYPE timestamp")
            db.execute(filled, f"ALTER TABLE {table} ALTER COLUMN attempts TYPE bigint")
    with other_role(filled, database_url, "GRANT CREATE ON SCHEMA public TO {role}") as stranger:
        assert plant(stranger, filled) > 3000
        writer = psycopg2.connect(database_url)
        writer.autocommit = True
        db.execute(writer, "SET search_path = pg_catalog")  # the statements spring no trap
        for text in (*statements("public."), "SELECT public.alerts_health_fold()"):
            db.execute(writer, text)
        assert not value(writer, SPRUNG)
        with pytest.raises(psycopg2.Error, match="trapped"):
            db.execute(filled, "SELECT 'x'::varchar = 'x'::varchar")
        assert value(writer, SPRUNG)
        writer.close()
    assert not stale(filled)
    assert kept(filled) == recounted(filled)


def test_temporary_tables_of_the_writer_are_not_taken_for_ours(
    filled: Connection, database_url: str
) -> None:
    with other_role(filled, database_url, ROW_RIGHTS) as writer:
        for table in ("alerts_health_changes", "alerts_health_counts", "alerts_health_stale"):
            db.execute(writer, f"CREATE TEMPORARY TABLE {table} (amount integer)")
        for name in ("added", "removed"):
            db.execute(writer, f"CREATE TEMPORARY TABLE {name} (LIKE user_alert_deliveries)")
        write_all(writer, filled)
        assert value(writer, "SELECT count(*) FROM pg_temp.alerts_health_changes") == 0


# Isolation


def test_serializable_writers_do_not_fail_each_other(filled: Connection, database_url: str) -> None:
    """They write in two transactions at once, also when neither can be counted."""
    for break_it in ("SELECT", "ALTER TABLE alerts_health_changes RENAME TO away"):
        db.execute(filled, break_it)
        writers = [psycopg2.connect(database_url) for _ in range(2)]
        for number, writer in enumerate(writers):
            writer.set_session(isolation_level="SERIALIZABLE")
            db.execute(
                writer,
                "INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)"
                " SELECT u.id, e.id, %s, now() FROM users AS u, alert_events AS e",
                (("email", "sms")[number],),
            )
        for writer in writers:
            writer.commit()
            writer.close()
        assert stale(filled) == (break_it != "SELECT")
        db.execute(filled, "DELETE FROM user_alert_deliveries")


def test_what_writers_of_a_fixed_snapshot_leave_is_folded_by_the_next_other_one(
    filled: Connection, database_url: str
) -> None:
    name = value(filled, "SELECT current_database()")
    db.execute(filled, f'ALTER DATABASE "{name}" SET default_transaction_isolation = serializable')
    writer = psycopg2.connect(database_url)
    writer.autocommit = True
    for text in statements():
        db.execute(writer, text)
    db.execute(writer, "SELECT alerts_health_fold()")
    assert value(filled, "SELECT count(*) FROM alerts_health_changes") > 0
    assert value(filled, "SELECT count(*) FROM alerts_health_differences()") == 0
    # So many changes that folding is certain.
    add_minutes(filled, 1001)
    assert value(filled, "SELECT count(*) FROM alerts_health_changes") == 0
    assert kept(filled) == recounted(filled)
    writer.close()


def add_minutes(conn: Connection, minutes: int) -> None:
    """A statement that appends so many changes: another part's deliveries, one a minute."""
    db.execute(
        conn,
        "INSERT INTO user_alert_deliveries (user_id, channel, delivery_kind, created_at)"
        " SELECT u.id, 'sms', 'index_digest', now() - n * interval '1 minute'"
        " FROM users AS u, generate_series(1, %s) AS n",
        (minutes,),
    )


def test_a_snapshot_older_than_a_fold_still_truncates(
    filled: Connection, database_url: str
) -> None:
    """What it cannot remove from the counts it notes."""
    for text in statements():
        db.execute(filled, text)
    writer = psycopg2.connect(database_url)
    writer.set_session(isolation_level="REPEATABLE READ")
    db.execute(writer, "SELECT")
    db.execute(filled, "SELECT alerts_health_fold()")
    db.execute(writer, f"TRUNCATE {BOTH}")
    writer.commit()
    writer.close()
    assert value(filled, "SELECT count(*) FROM user_alert_deliveries") == 0
    assert stale(filled) == (kept(filled) != recounted(filled))


# What cannot be counted

BREAKS = {
    "missing": "ALTER TABLE alerts_health_changes RENAME TO away",
    "of another form": "ALTER TABLE alerts_health_changes ADD COLUMN more text NOT NULL",
    "refusing": "ALTER TABLE alerts_health_changes ADD CHECK (amount > 1000000)",
    "full": """
        CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON alerts_health_changes
        FOR EACH ROW EXECUTE FUNCTION full_disk()
    """,
    "without its function": "ALTER FUNCTION alerts_health_cell RENAME TO gone",
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_change_that_cannot_be_counted_is_written_and_noted_once(
    filled: Connection, database_url: str, kind: str
) -> None:
    db.execute(filled, BREAKS[kind])
    writer = psycopg2.connect(database_url)
    writer.autocommit = True
    for text in statements():
        assert db.execute(writer, text) > 0, text
    writer.close()
    noted = query(filled, "SELECT * FROM alerts_health_stale")
    assert len(noted) == 1
    assert len(noted[0]["error_code"]) == 5
    assert value(filled, "SELECT count(*) FROM user_alert_deliveries") > 0


def test_a_truncate_that_cannot_be_counted_is_noted(filled: Connection) -> None:
    for text in statements():
        db.execute(filled, text)
    db.execute(filled, BREAKS["missing"])
    db.execute(filled, f"TRUNCATE {BOTH}")
    assert value(filled, "SELECT count(*) FROM user_alert_deliveries") == 0
    assert stale(filled)


def test_a_table_that_stays_locked_is_not_waited_for(filled: Connection, database_url: str) -> None:
    holder = psycopg2.connect(database_url)
    db.execute(holder, "LOCK TABLE alerts_health_changes IN ACCESS EXCLUSIVE MODE")
    db.execute(filled, statements()[0])
    assert stale(filled)
    holder.rollback()
    holder.close()
    assert value(filled, "SELECT alerts_health_rebuild()") > 0
    assert kept(filled) == recounted(filled)
    assert not stale(filled)


def test_a_table_that_is_locked_for_a_moment_is_waited_for(
    filled: Connection, database_url: str
) -> None:
    holder = psycopg2.connect(database_url)
    db.execute(holder, "LOCK TABLE alerts_health_changes IN ACCESS EXCLUSIVE MODE")
    writing = threading.Thread(target=db.execute, args=(filled, statements()[0]))
    writing.start()
    waiting = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted AND database ="
    waiting += " (SELECT oid FROM pg_database WHERE datname = current_database())"
    while not value(holder, waiting):
        pass
    holder.rollback()
    holder.close()
    writing.join()
    assert not stale(filled)
    assert kept(filled) == recounted(filled)


def test_where_not_even_the_note_can_be_written_there_is_a_warning(filled: Connection) -> None:
    db.execute(filled, BREAKS["missing"])
    db.execute(filled, "DROP TABLE alerts_health_stale")
    filled.notices.clear()
    assert db.execute(filled, statements()[0]) > 0
    (notice,) = filled.notices
    assert notice.startswith("WARNING:  health could not count a change (42P01) nor note that")
    assert "python -m alerts rebuild" in notice


def test_a_write_that_is_rolled_back_leaves_no_note(filled: Connection) -> None:
    db.execute(filled, BREAKS["full"])
    db.execute(filled, f"BEGIN; {statements()[0]}")
    assert stale(filled)
    db.execute(filled, "ROLLBACK")
    assert not stale(filled)


def test_a_fold_that_fails_loses_nothing(filled: Connection) -> None:
    db.execute(filled, "ALTER TABLE alerts_health_counts RENAME TO away")
    for text in statements():
        db.execute(filled, text)
    add_minutes(filled, 1001)
    assert value(filled, "SELECT count(*) FROM alerts_health_changes") > 1000
    db.execute(filled, "ALTER TABLE away RENAME TO alerts_health_counts")
    assert not stale(filled)
    assert kept(filled) == recounted(filled)


# In a schema of another name

ELSEWHERE = ("energy", "Alerts & more", "user", 'it\'s "quoted"')


@pytest.mark.parametrize("schema", ELSEWHERE)
def test_everything_works_in_the_schema_that_the_deployment_uses(
    empty_database_url: str, schema: str
) -> None:
    quoted = '"{}"'.format(schema.replace('"', '""'))
    owner = psycopg2.connect(empty_database_url)
    owner.autocommit = True
    name = value(owner, "SELECT current_database()")
    db.execute(owner, f"CREATE SCHEMA {quoted}")
    db.execute(owner, f'ALTER DATABASE "{name}" SET search_path = {quoted}, public')
    owner.close()
    migrations.migrate(empty_database_url)
    owner = psycopg2.connect(empty_database_url)
    owner.autocommit = True
    tables = query(owner, "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname"
                          " NOT IN ('pg_catalog', 'information_schema')")  # fmt: skip
    assert [row["schemaname"] for row in tables] == [schema]
    fill(owner)
    writer = psycopg2.connect(empty_database_url)
    writer.autocommit = True
    db.execute(writer, "SET search_path = ''")
    for text in statements(f"{quoted}."):
        db.execute(writer, text)
        assert kept(owner) == recounted(owner), text
    db.execute(writer, f"TRUNCATE {quoted}.user_alert_deliveries CASCADE")
    assert kept(owner) == recounted(owner)
    assert value(owner, "SELECT alerts_health_rebuild()") == 0
    assert not stale(owner)
    writer.close()
    owner.close()
    assert migrations.status_of(empty_database_url).ok
