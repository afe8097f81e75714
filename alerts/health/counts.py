"""How many deliveries and digests became what: in the last hour, day and week, and in the charts.

The database keeps counts by minute, ten minutes, hour and six hours
(``sql/0007_health_counts.sql``). Windows and charts begin and end with a minute. These marks cut
the time into stretches, each is read by the largest whole buckets that it holds
(:mod:`alerts.health.windows`), and whatever health tells is a sum of stretches. What changed of
late is not in the counts yet and is read as it was noted. So the price depends neither on history
nor on volume.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from alerts.health.windows import (
    DAY,
    HOUR,
    MINUTE,
    WEEK,
    Piece,
    clock_hours,
    floor,
    pieces,
    product_days,
)

DELIVERIES, DIGESTS = "deliveries", "digests"
SPANS = {"last_hour": HOUR, "last_day": DAY, "last_week": WEEK}
# How long what was sent took, by the kept source: from queued (by the kind of message), and from
# the risk data. A delivery of another kind is no message of its own.
RISK = "risk"
_WAITS = {"delivery_waits": "instant", "digest_waits": "digest", "risk_waits": RISK}

# What was created in each stretch, alike rows together; ``since`` is the start of the stretch.
# Piece by piece with OFFSET 0, since only then the planner takes the index; the sum of integers is
# much the cheaper one. What a run holds is queued in the tables, and told as sending.
STRETCHES = """
found AS (
    SELECT c.*
    FROM unnest(
        %(sources)s::text[], %(levels)s::text[], %(starts)s::timestamptz[],
        %(ends)s::timestamptz[]
    ) AS p (source, level, starts, ends)
    CROSS JOIN LATERAL (
        SELECT *
        FROM alerts_health_counts AS c
        WHERE c.source = p.source AND c.level = p.level
          AND c.bucket >= p.starts AND c.bucket < p.ends
        OFFSET 0
    ) AS c
    UNION ALL
    SELECT * FROM alerts_health_recent WHERE bucket >= %(start)s AND bucket < %(end)s
    UNION ALL
    SELECT
        h.source, 'row', h.created_at, h.channel, h.kind, told.status, coalesce(h.failure_code, ''),
        alerts_health_retried(told.status, h.attempts::integer), -1, told.amount
    FROM held AS h
    CROSS JOIN (VALUES ('queued', -1), ('sending', 1)) AS told (status, amount)
    WHERE h.created_at >= %(start)s AND h.created_at < %(end)s
),
stretches AS MATERIALIZED (
    SELECT
        source, (%(marks)s::timestamptz[])[width_bucket(bucket, %(marks)s::timestamptz[])] AS since,
        channel, kind, status, failure_code, retried, wait_seconds, sum(amount::integer) AS amount
    FROM found
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
)
"""

# What became of the rows of each window; of what was sent also in how many seconds.
CELLS = """
SELECT
    source, channel, kind, status, nullif(failure_code, '') AS failure_code, retried, wait_seconds,
    coalesce(sum(amount) FILTER (WHERE since >= %(last_hour)s), 0)::bigint AS last_hour,
    coalesce(sum(amount) FILTER (WHERE since >= %(last_day)s), 0)::bigint AS last_day,
    coalesce(sum(amount) FILTER (WHERE since >= %(last_week)s), 0)::bigint AS last_week
FROM stretches
GROUP BY source, channel, kind, status, stretches.failure_code, retried, wait_seconds
"""

# The engine's own rows between each two edges of a chart, and what became of them by now.
POINTS = """
SELECT
    chart.name AS chart, s.source, width_bucket(s.since, chart.edges) - 1 AS place,
    sum(s.amount)::bigint AS created,
    coalesce(sum(s.amount) FILTER (WHERE s.status = 'sent'), 0)::bigint AS sent,
    coalesce(sum(s.amount) FILTER (WHERE s.status = 'failed'), 0)::bigint AS failed
FROM stretches AS s
CROSS JOIN (
    VALUES ('per_hour', %(per_hour)s::timestamptz[]), ('per_day', %(per_day)s::timestamptz[])
) AS chart (name, edges)
WHERE s.wait_seconds < 0 AND s.kind IN ('instant', 'digest')
GROUP BY 1, 2, 3
"""

# When a trigger first failed to count a change.
STALE_SINCE = "SELECT min(since) AS since FROM alerts_health_stale"


class Cell(NamedTuple):
    """A number of rows that are alike in everything health distinguishes."""

    channel: str
    kind: str
    status: str
    failure_code: str | None
    retried: bool
    amount: int


@dataclass(frozen=True)
class HealthCounts:
    """What was created recently, by source (deliveries, digests)."""

    windows: dict[tuple[str, timedelta], list[Cell]]  # by source and span
    # By channel and kind, or RISK: rows by seconds, last day.
    waits: dict[tuple[str, str], dict[int, int]]
    charts: dict[str, list[dict[str, Any]]]  # per_hour and per_day: a point a stretch, oldest first


def parameters(now: datetime, zone: ZoneInfo) -> dict[str, Any]:
    """What the statements take at ``now``; days are those of ``zone``."""
    minute = floor(now.astimezone(UTC), MINUTE)
    windows = {name: minute - span for name, span in SPANS.items()}
    charts = {"per_hour": clock_hours(minute), "per_day": product_days(minute, zone)}
    marks = {*windows.values(), *charts["per_hour"], *charts["per_day"]}
    end = minute + MINUTE  # what is later lies after the clock
    edges = [*sorted(mark for mark in marks if mark < end), end]
    read = _read(pieces(edges), (DELIVERIES, DIGESTS))
    read += _read(pieces([windows["last_day"], end]), _WAITS)
    sources, levels, starts, ends = map(list, zip(*read, strict=True))
    return {
        **windows, **charts, "marks": edges[:-1], "start": edges[0], "end": end,
        "sources": sources, "levels": levels, "starts": starts, "ends": ends,
    }  # fmt: skip


def _read(of_each: list[Piece], sources: Iterable[str]) -> list[tuple[object, ...]]:
    return [(source, *piece) for source in sources for piece in of_each]


def counts_of(
    asked: Mapping[str, Any], cells: Iterable[dict[str, Any]], points: Iterable[dict[str, Any]]
) -> HealthCounts:
    """The rows of :data:`CELLS` and :data:`POINTS` for these parameters, in order."""
    found = HealthCounts(
        windows={(each, span): [] for each in (DELIVERIES, DIGESTS) for span in SPANS.values()},
        waits=defaultdict(dict),
        charts={name: _empty_chart(asked[name]) for name in ("per_hour", "per_day")},
    )
    for row in cells:
        source, channel, kind = row["source"], row["channel"], row["kind"]
        if source in _WAITS:
            message = "digest" if source == "digest_waits" else "instant"
            if kind == message and row["last_day"]:
                found.waits[channel, _WAITS[source]][row["wait_seconds"]] = row["last_day"]
            continue
        for name, span in SPANS.items():
            if row[name]:
                cell = Cell(channel, kind, row["status"], row["failure_code"], row["retried"],
                            row[name])  # fmt: skip
                found.windows[source, span].append(cell)
    for row in points:
        chart = found.charts[row["chart"]]
        if 0 <= row["place"] < len(chart):
            chart[row["place"]][row["source"]] = {
                name: row[name] for name in ("created", "sent", "failed")
            }
    return found


def _empty_chart(edges: list[datetime]) -> list[dict[str, Any]]:
    nothing = {"created": 0, "sent": 0, "failed": 0}
    return [
        {"starts": edge.isoformat(), DELIVERIES: nothing, DIGESTS: nothing} for edge in edges[:-1]
    ]


def percentile(amounts: Mapping[int, int], share: float) -> int | None:
    """The smallest value that at least ``share`` of all do not exceed (the nearest rank)."""
    wanted, seen = share * sum(amounts.values()), 0
    for value in sorted(amounts):
        seen += amounts[value]
        if seen >= wanted:
            return value
    return None
