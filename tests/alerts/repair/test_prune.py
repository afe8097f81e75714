"""Pruning: what goes, what stays, that the dry run says the same, and that it disturbs nobody."""

from __future__ import annotations

import random
import threading
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.cli import commands
from alerts.health.report import get_health
from alerts.locks import lock_number
from alerts.repair import prune
from tests.support.queue_rows import Rows
from tests.support.web import add_item, add_run
from tests.support.world import NOW, add_alert, query, settings_for

FINAL = ("sent", "failed", "skipped")
CUTOFF = NOW - timedelta(days=30)


def pruned(database_url: str, *, dry_run: bool = False, keep_days: int = 30) -> dict[str, Any]:
    settings = settings_for(database_url)
    return prune.prune(settings, keep_days=keep_days, dry_run=dry_run, now=NOW, token_key_id="cli")


def fill(conn: Connection, rng: random.Random) -> None:
    deliveries, digests = Rows(conn), Rows(conn, "digests")
    for kind, rows in (("delivery", deliveries), ("digest", digests)):
        for _ in range(40):
            status = rng.choice(["queued", "sending", *FINAL, *FINAL])
            created = NOW - timedelta(days=rng.choice([0.1, 5, 29.9, 30.1, 90]))
            columns: dict[str, Any] = {"created_at": created}
            if rng.random() < 0.2:
                columns["created_at"] = CUTOFF
            if status == "sent":
                columns["sent_at"] = created
            if status == "sending":
                columns |= {"claimed_by": "run", "claimed_until": NOW}
            if kind == "delivery":
                columns["kind"] = rng.choice(["instant", "instant", "digest", "index_digest"])
            rows.add(status, **columns)
    for table, share in (("user_alert_deliveries", 0.4),):
        for row in query(conn, f"SELECT id FROM {table}"):
            if rng.random() < share:
                (digest,) = query(
                    conn, "SELECT id FROM user_alert_digests ORDER BY id OFFSET %s LIMIT 1",
                    rng.randrange(40),
                )  # fmt: skip
                db.execute(conn, "INSERT INTO user_alert_digest_items VALUES (%s, %s)",
                           (digest["id"], row["id"]))  # fmt: skip
    for days in (0.1, 29.9, 30.1, 90):
        add_alert(conn, created_at=NOW - timedelta(days=days))
        started = datetime.now(UTC) - timedelta(days=days)
        for status in ("success", "failed", "running"):
            add_item(conn, add_run(conn, status=status, started_at=started), "a", started)


def left(conn: Connection) -> dict[str, list[Any]]:
    tables = {
        "deliveries": "SELECT id FROM user_alert_deliveries",
        "digests": "SELECT id FROM user_alert_digests",
        "digest_items": "SELECT delivery_id AS id FROM user_alert_digest_items",
        "events": "SELECT id FROM alert_events",
        "runs": "SELECT id FROM alerts_engine_runs",
        "run_items": "SELECT id FROM alerts_engine_run_items",
    }
    return {name: sorted(r["id"] for r in query(conn, text)) for name, text in tables.items()}


def expected(conn: Connection) -> dict[str, list[Any]]:
    """What must be left, in plain Python over the raw rows."""
    digests = {r["id"]: r for r in query(conn, "SELECT * FROM user_alert_digests")}
    digests = {
        i: r for i, r in digests.items() if r["created_at"] >= CUTOFF or r["status"] not in FINAL
    }
    items = {
        r["delivery_id"]: r["digest_id"]
        for r in query(conn, "SELECT * FROM user_alert_digest_items")
    }
    deliveries = [
        r
        for r in query(conn, "SELECT * FROM user_alert_deliveries")
        if r["created_at"] >= CUTOFF
        or r["status"] not in FINAL
        or r["delivery_kind"] not in ("instant", "digest")
        or items.get(r["id"]) in digests
    ]
    used = {r["alert_event_id"] for r in deliveries}
    runs = [
        r
        for r in query(conn, "SELECT * FROM alerts_engine_runs")
        if r["status"] == "running" or r["started_at"] > datetime.now(UTC) - timedelta(days=30)
    ]
    names = {r["run_id"] for r in runs}
    kept = {r["id"] for r in deliveries}
    return {
        "deliveries": sorted(kept),
        "digests": sorted(digests),
        "digest_items": sorted(i for i, g in items.items() if g in digests),
        "events": sorted(
            r["id"]
            for r in query(conn, "SELECT * FROM alert_events")
            if r["created_at"] >= CUTOFF or r["id"] in used
        ),
        "runs": sorted(r["id"] for r in runs),
        "run_items": sorted(
            r["id"] for r in query(conn, "SELECT * FROM alerts_engine_run_items")
            if r["run_id"] in names
        ),
    }  # fmt: skip


@pytest.mark.parametrize("batch", [3, 5000])
@pytest.mark.parametrize("seed", range(4))
def test_the_dry_run_the_recount_and_the_real_call_agree(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch, seed: int, batch: int
) -> None:
    monkeypatch.setattr(prune, "BATCH", batch)
    fill(conn, random.Random(seed))
    before, must_stay = left(conn), expected(conn)
    settings = settings_for(database_url)
    health = {k: v for k, v in get_health(conn, settings, NOW).items() if "minutes" not in k}
    dry = pruned(database_url, dry_run=True)
    assert left(conn) == before
    assert query(conn, "SELECT FROM alerts_admin_actions") == []
    real = pruned(database_url)
    assert left(conn) == must_stay
    assert real["removed"] == dry["removed"]
    gone = {name: len(before[name]) - len(must_stay[name]) for name in before}
    assert real["removed"] == gone
    assert real["kept_open"] == dry["kept_open"]
    assert real["kept_open"]["deliveries"] > 0
    after = get_health(conn, settings, NOW)
    assert {k: after[k] for k in health} == health
    (action,) = query(conn, "SELECT * FROM alerts_admin_actions")
    assert (action["id"], action["action"]) == (real["action_id"], "prune")
    assert action["result"] == real["removed"]
    assert pruned(database_url)["removed"] == dict.fromkeys(gone, 0)


def test_a_locked_row_is_left_for_the_next_time(database_url: str, conn: Connection) -> None:
    rows = Rows(conn)
    ids = [rows.add("sent", sent_at=NOW, created_at=NOW - timedelta(days=40)) for _ in range(3)]
    other = psycopg2.connect(database_url)
    other.cursor().execute("SELECT FROM user_alert_deliveries WHERE id = %s FOR UPDATE", ids[:1])
    assert pruned(database_url)["removed"]["deliveries"] == 2
    other.close()
    assert pruned(database_url)["removed"]["deliveries"] == 1


def test_a_writer_waits_for_no_more_than_a_batch(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two batches nothing is locked: a writer gets its turn while the prune goes on."""
    monkeypatch.setattr(prune, "BATCH", 1)
    rows = Rows(conn)
    for _ in range(30):
        rows.add("sent", sent_at=NOW, created_at=NOW - timedelta(days=40))
    writer, paused, go_on = psycopg2.connect(database_url), threading.Event(), threading.Event()
    tell = prune._Prune._tell

    def tell_and_wait(self: Any) -> None:
        tell(self)
        if self.batches == 10:
            paused.set()
            go_on.wait(20)

    monkeypatch.setattr(prune._Prune, "_tell", tell_and_wait)
    thread = threading.Thread(target=pruned, args=(database_url,))
    thread.start()
    assert paused.wait(20)
    cursor = writer.cursor()  # while the tenth batch is still open: other rows are free
    cursor.execute("SET lock_timeout = '1s'")
    cursor.execute("UPDATE user_alert_deliveries SET attempts = 2 WHERE id = (SELECT max(id)"
                   " FROM user_alert_deliveries)")  # fmt: skip
    assert cursor.rowcount == 1
    writer.commit()
    go_on.set()
    thread.join(60)
    assert left(conn)["deliveries"] == []


def test_one_right_after_another_is_not_refused(
    database_url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the server takes to hear that the first one's connection is closed."""
    opened: list[Connection] = []

    def closed_later(own: Connection) -> AbstractContextManager[Connection]:
        opened.append(own)
        return nullcontext(own)

    monkeypatch.setattr(prune, "closing", closed_later)
    for _ in range(2):
        pruned(database_url, dry_run=True)
    for own in opened:
        own.close()


def test_a_second_one_is_refused(database_url: str, conn: Connection) -> None:
    db.execute(conn, "SELECT pg_advisory_lock(%s)", (lock_number("alerts_v2_prune"),))
    with pytest.raises(prune.PruneRefused, match="under way"):
        pruned(database_url)
    environ = {"DATABASE_URL": database_url}
    assert commands.main(["prune", "--keep-days", "30"], environ) == 1


@pytest.mark.parametrize("arguments", [[], ["--keep-days", "7"], ["--keep-days", "4000"]])
def test_the_days_to_keep_are_asked_for(database_url: str, arguments: list[str]) -> None:
    assert commands.main(["prune", *arguments], {"DATABASE_URL": database_url}) == 2


def test_the_command_prunes(
    database_url: str, conn: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    Rows(conn).add("sent", sent_at=NOW, created_at=NOW - timedelta(days=40))
    environ = {"DATABASE_URL": database_url, "ALERTS_CLOCK": NOW.isoformat()}
    assert commands.main(["prune", "--keep-days", "30"], environ) == 0
    assert "deliveries" in capsys.readouterr().out
    assert left(conn)["deliveries"] == []
