"""The counts of health that an earlier migration kept, taken over by a later one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from alerts import migrations
from tests.support.migrating import connected, query

BEFORE = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008")
# Every minute of five days a row, then changes; the last are not folded, since nothing is in a
# transaction of a fixed snapshot.
FILL = """
INSERT INTO users (email) VALUES ('someone@example.com');
INSERT INTO alert_events (alert_type, severity, headline, body, cooldown_key, event_fingerprint)
SELECT 'HIGH_IMPACT_EVENT', 5, 'x', 'x', n::text, n::text FROM generate_series(1, 7200) AS n;
INSERT INTO user_alert_deliveries (user_id, alert_event_id, channel, created_at)
SELECT u.id, e.id, (ARRAY['email', 'telegram'])[1 + e.id % 2],
    '2022-03-01 00:00:30+00'::timestamptz + e.id * interval '1 minute'
FROM users AS u, alert_events AS e;
UPDATE user_alert_deliveries
SET status = 'sent', sent_at = created_at + id % 100 * interval '1 s' WHERE id % 3 = 0;
SELECT alerts_health_fold();
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE user_alert_deliveries
SET status = 'failed', failed_at = created_at, failure_code = 'network' WHERE id % 7 = 0;
COMMIT
"""
KEPT = """
SELECT source, level, bucket, channel, kind, status, failure_code, retried, wait_seconds,
    sum(amount)::bigint
FROM alerts_health_counts
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
HAVING sum(amount) <> 0
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9
"""


@pytest.fixture
def counted_before(empty_database_url: str, tmp_path: Path) -> str:
    """A database of the migrations before the blocks, with rows and their counts."""
    for path in migrations.MIGRATIONS_DIR.glob("*.sql"):
        if path.name.startswith(BEFORE):
            shutil.copy(path, tmp_path)
    migrations.migrate(empty_database_url, tmp_path)
    with connected(empty_database_url) as conn, conn.cursor() as cursor:
        for statement in FILL.split(";"):
            if statement.strip():
                cursor.execute(statement)
    return empty_database_url


def test_counts_of_before_become_what_a_recount_gives(counted_before: str) -> None:
    assert query(counted_before, "SELECT level FROM alerts_health_changes LIMIT 1")
    migrations.migrate(counted_before)
    assert not query(counted_before, "SELECT level FROM alerts_health_changes LIMIT 1")
    taken_over = query(counted_before, KEPT)
    assert {level for _, level, *_ in taken_over} == {"minute", "hour", "six_hours"}
    query(counted_before, "SELECT alerts_health_recount()")
    assert query(counted_before, KEPT) == taken_over


def test_each_level_counts_every_row(counted_before: str) -> None:
    migrations.migrate(counted_before)
    query(counted_before, "DELETE FROM user_alert_deliveries WHERE id % 5 = 0")
    query(counted_before, "SELECT alerts_health_fold()")
    rows = query(counted_before, "SELECT count(*) FROM user_alert_deliveries")[0][0]
    totals = query(
        counted_before,
        "SELECT level, sum(amount)::bigint FROM alerts_health_counts"
        " WHERE source = 'deliveries' GROUP BY level ORDER BY level",
    )
    assert totals == [("hour", rows), ("minute", rows), ("six_hours", rows)]
