"""How many deliveries and digests became what, in windows that are true to the microsecond.

The database keeps counts by six hours, hour and minute (``sql/0007_health_counts.sql``). The time
looked at is cut at every edge of a window, an hour or a day into stretches. Whole blocks of six
hours of a stretch are read as such; of a block that an edge cuts the hours; of such an hour the
minutes; of a minute that a window's edge cuts the rows. At the clock's end the current hour is
taken whole, and what lies after the clock is taken away: that is nothing but in a replay. What
changed of late is not in the counts yet and is read by minute. So the price depends neither on
history nor on the volume. What a run holds at the moment is queued in the tables and counted so;
here it is told as sending.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from alerts import db
from alerts.health.windows import (
    MINUTE,
    clock_hours,
    floor,
    product_days,
    spans_of,
)

DELIVERIES, DIGESTS = "deliveries", "digests"
_WAITS = ("delivery_waits", "digest_waits")

# The counts of every stretch (numbered by its first edge), and of the last day how long what was
# sent took. Piece by piece with OFFSET 0, since only then the planner takes the index; the rows
# of cut minutes by constants, since only then it knows how few they are.
COUNTS = """
WITH piece AS (
    SELECT *
    FROM unnest(
        %(sources)s::text[], %(levels)s::text[], %(signs)s::integer[],
        %(starts)s::timestamptz[], %(ends)s::timestamptz[]
    ) AS p (source, level, sign, starts, ends)
),
kept AS (
    SELECT c.*, p.sign
    FROM piece AS p
    CROSS JOIN LATERAL (
        SELECT *
        FROM alerts_health_counts AS c
        WHERE c.source = p.source AND c.level = p.level
          AND c.bucket >= p.starts AND c.bucket < p.ends
        OFFSET 0
    ) AS c
    UNION ALL
    SELECT *, 1
    FROM alerts_health_recent
    WHERE bucket >= %(cut_0_end)s AND bucket < %(now_end)s
      AND CASE WHEN wait_seconds < 0
          THEN bucket NOT IN (%(cut_1)s, %(cut_2)s)
          ELSE bucket >= %(cut_1_end)s
      END
),
cut AS (  -- added up first: a fan-out's rows are thousands, and alike
    SELECT
        'deliveries' AS source, created_at::timestamptz AS created_at, channel,
        delivery_kind AS kind, status, failure_code, attempts, count(*) AS amount
    FROM user_alert_deliveries
    WHERE (created_at >= %(cut_0)s AND created_at < %(cut_0_end)s)
       OR (created_at >= %(cut_1)s AND created_at < %(cut_1_end)s)
       OR (created_at >= %(cut_2)s AND created_at < %(cut_2_end)s)
       OR (created_at > %(now)s AND created_at < %(now_end)s)
    GROUP BY 2, 3, 4, 5, 6, 7
    UNION ALL
    SELECT
        'digests', created_at::timestamptz, channel, 'digest', status, failure_code, attempts,
        count(*)
    FROM user_alert_digests
    WHERE (created_at >= %(cut_0)s AND created_at < %(cut_0_end)s)
       OR (created_at >= %(cut_1)s AND created_at < %(cut_1_end)s)
       OR (created_at >= %(cut_2)s AND created_at < %(cut_2_end)s)
       OR (created_at > %(now)s AND created_at < %(now_end)s)
    GROUP BY 2, 3, 5, 6, 7
),
cut_sent AS (
    SELECT
        'delivery_waits' AS source, created_at::timestamptz AS created_at, channel,
        delivery_kind AS kind, sent_at - created_at AS waited
    FROM user_alert_deliveries
    WHERE status = 'sent' AND sent_at IS NOT NULL
      AND ((created_at >= %(day_ago)s AND created_at < %(cut_1_end)s)
           OR (created_at > %(now)s AND created_at < %(now_end)s))
    UNION ALL
    SELECT
        'digest_waits', created_at::timestamptz, channel, 'digest',
        sent_at - greatest(created_at, window_end)
    FROM user_alert_digests
    WHERE status = 'sent' AND sent_at IS NOT NULL
      AND ((created_at >= %(day_ago)s AND created_at < %(cut_1_end)s)
           OR (created_at > %(now)s AND created_at < %(now_end)s))
),
leased AS (
    SELECT
        'deliveries' AS source, d.created_at::timestamptz AS created_at, d.channel,
        d.delivery_kind AS kind, d.failure_code, d.attempts
    FROM alerts_leased AS l
    JOIN user_alert_deliveries AS d ON d.id = l.id
    WHERE l.source = 'deliveries' AND d.status = 'queued'
    UNION ALL
    SELECT
        'digests', g.created_at::timestamptz, g.channel, 'digest', g.failure_code, g.attempts
    FROM alerts_leased AS l
    JOIN user_alert_digests AS g ON g.id = l.id
    WHERE l.source = 'digests' AND g.status = 'queued'
),
counted AS (
    SELECT
        source,
        CASE WHEN wait_seconds < 0 THEN width_bucket(bucket, %(edges)s) ELSE 0 END AS stretch,
        channel, kind, status, failure_code, retried, wait_seconds,
        (sign * amount)::integer AS amount  -- the sum of integers is much the cheaper one
    FROM kept
    UNION ALL
    SELECT
        source, width_bucket(created_at, %(edges)s), channel, kind, status,
        coalesce(failure_code, ''), alerts_health_retried(status, attempts::integer), -1,
        (CASE WHEN created_at > %(now)s THEN -1 ELSE 1 END * amount)::integer
    FROM cut
    UNION ALL
    SELECT
        l.source, width_bucket(l.created_at, %(edges)s), l.channel, l.kind, told.status,
        coalesce(l.failure_code, ''), alerts_health_retried(told.status, l.attempts::integer), -1,
        told.amount
    FROM leased AS l
    CROSS JOIN (VALUES ('queued', -1), ('sending', 1)) AS told (status, amount)
    WHERE l.created_at <= %(now)s
    UNION ALL
    SELECT
        source, 0, channel, kind, '', '', FALSE, alerts_health_wait_seconds(waited),
        CASE WHEN created_at > %(now)s THEN -1 ELSE 1 END
    FROM cut_sent
)
SELECT
    source, stretch - 1 AS stretch, channel, kind, status, nullif(failure_code, '') AS failure_code,
    retried, wait_seconds, sum(amount) AS amount
FROM counted
GROUP BY source, stretch, channel, kind, status, failure_code, retried, wait_seconds
HAVING sum(amount) <> 0
"""

# Since when a trigger could not count a change.
STALE_SINCE = "SELECT min(since) AS since FROM alerts_health_stale"


class Cell(NamedTuple):
    """So many rows, alike in all that health tells apart; ``at`` is the start of their stretch."""

    at: datetime
    channel: str
    kind: str
    status: str
    failure_code: str | None
    retried: bool
    amount: int


@dataclass(frozen=True)
class HealthCounts:
    """What was created in the last seven days, by source (deliveries, digests)."""

    now: datetime
    zone: ZoneInfo
    cells: dict[str, list[Cell]]
    waits: dict[tuple[str, str], dict[int, int]]  # by channel and kind: rows by seconds, last day
    stale_since: datetime | None  # wall time; from then on the figures may be wrong

    def window(self, source: str, span: timedelta) -> list[Cell]:
        """The rows created in the last ``span`` (an hour, a day or a week), its older edge out.

        The stretches of the window are added up, one cell for all rows that are alike.
        """
        since = self.now - span
        amounts: defaultdict[tuple[str, str, str, str | None, bool], int] = defaultdict(int)
        for at, channel, kind, status, code, retried, amount in self.cells[source]:
            if at > since:
                amounts[channel, kind, status, code, retried] += amount
        return [Cell(since, *alike, amount) for alike, amount in amounts.items()]

    def per_hour(self) -> list[db.Row]:
        """The 24 clock hours (UTC) up to the current one, oldest first."""
        return self._points(clock_hours(self.now))

    def per_day(self) -> list[db.Row]:
        """The 7 product days up to today, oldest first."""
        return self._points(product_days(self.now, self.zone))

    def _points(self, edges: list[datetime]) -> list[db.Row]:
        """``{"starts", "deliveries": {"created", "sent", "failed"}, "digests": ...}`` a stretch
        between two edges: what was created in it, and of that sent and failed by now."""
        points: list[db.Row] = [{"starts": edge.isoformat()} for edge in edges[:-1]]
        for source, cells in self.cells.items():
            for point in points:
                point[source] = {"created": 0, "sent": 0, "failed": 0}
            for at, _, kind, status, _, _, amount in cells:
                place = bisect_right(edges, at) - 1
                if not 0 <= place < len(points) or kind not in ("instant", "digest"):
                    continue
                counts = points[place][source]
                counts["created"] += amount
                if status in ("sent", "failed"):
                    counts[status] += amount
        return points


def read_counts(conn: db.Connection, now: datetime, zone: ZoneInfo) -> HealthCounts:
    """All figures in one statement, true at ``now``; days are those of ``zone``."""
    now = now.astimezone(UTC)
    since, edges, shared, day = spans_of(now, zone)
    pieces = [(source, *p) for source in (DELIVERIES, DIGESTS) for p in shared]
    pieces += [(source, *p) for source in _WAITS for p in day]
    names = ("sources", "levels", "starts", "ends", "signs")
    parameters: dict[str, object] = {
        name: list(values) for name, values in zip(names, zip(*pieces, strict=True), strict=True)
    }
    for number, edge in enumerate(since):
        minute = floor(edge, MINUTE)
        parameters |= {f"cut_{number}": minute, f"cut_{number}_end": minute + MINUTE}
    parameters |= {"edges": edges, "day_ago": since[1], "now": now}
    parameters["now_end"] = floor(now, MINUTE) + MINUTE
    stale_since = db.fetch_all(conn, STALE_SINCE)[0]["since"]
    cells: dict[str, list[Cell]] = {DELIVERIES: [], DIGESTS: []}
    found = HealthCounts(now, zone, cells, defaultdict(dict), stale_since)
    with conn.cursor() as cursor:  # no dictionaries: it is hundreds of rows
        cursor.execute(COUNTS, parameters)
        for source, stretch, channel, kind, status, code, retried, waited, amount in cursor:
            if waited >= 0:
                message = "digest" if source == "digest_waits" else "instant"
                if kind == message:  # a delivery of another kind is no message of its own
                    found.waits[channel, message][waited] = amount
            elif stretch >= 0:
                cell = Cell(edges[stretch], channel, kind, status, code, retried, amount)
                found.cells[source].append(cell)
    return found


def percentile(amounts: dict[int, int], share: float) -> int | None:
    """The smallest value that at least ``share`` of all do not exceed (the nearest rank)."""
    wanted, seen = share * sum(amounts.values()), 0
    for value in sorted(amounts):
        seen += amounts[value]
        if seen >= wanted:
            return value
    return None
