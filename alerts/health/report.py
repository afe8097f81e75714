"""Delivery health: what ``GET /health`` and ``health`` answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from alerts import db
from alerts.channels.names import CHANNELS, DIGEST_CHANNELS, SEND_CHANNELS
from alerts.failures import FailureClass, FailureCode, codes_of
from alerts.health.counts import (
    DELIVERIES,
    DIGESTS,
    Cell,
    HealthCounts,
    percentile,
    read_counts,
)
from alerts.health.queue import read_queue
from alerts.health.reasons import Facts, degraded_reasons, failing_reasons
from alerts.health.windows import DAY, HOUR, WEEK
from alerts.paging import iso
from alerts.repair import pauses
from alerts.runs.record import STALE_SECONDS
from alerts.runs.schedule import schedule_health
from alerts.settings.config import Settings

STATUSES = ("queued", "sending", "sent", "failed", "skipped")
OWN_KINDS = ("instant", "digest")  # others belong to other parts of the product
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
UNKNOWN_CODES = frozenset(codes_of(FailureClass.UNKNOWN))

# The newest run, the newest finished one, the last success, all on wall time, and whether any
# run is stale. Dry runs prove nothing about delivery and are left out.
RUNS = """
SELECT
    (
        SELECT jsonb_build_object(
            'run_id', run_id, 'status', status, 'started_at', started_at,
            'finished_at', finished_at
        )
        FROM alerts_engine_runs
        WHERE NOT dry_run
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_run,
    (
        SELECT jsonb_build_object('run_id', run_id, 'status', status, 'counts', counts)
        FROM alerts_engine_runs
        WHERE NOT dry_run AND status <> 'running'
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_finished,
    (
        SELECT r.counts -> 'c'
        FROM (
            SELECT id, started_at, counts
            FROM alerts_engine_runs
            WHERE NOT dry_run AND status <> 'running'
            ORDER BY started_at DESC, id DESC
            LIMIT 20  -- a phase alone, or one that was locked, has tried no channel
        ) AS r
        WHERE r.counts #> '{c,channels_held}' IS NOT NULL
        ORDER BY r.started_at DESC, r.id DESC
        LIMIT 1
    ) AS last_sending,
    (
        SELECT extract(epoch FROM clock_timestamp() - finished_at)::double precision / 60
        FROM alerts_engine_runs
        WHERE NOT dry_run AND status = 'success'
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_success_minutes,
    (
        SELECT count(*)
        FROM alerts_engine_runs
        WHERE status = 'running'
          AND coalesce(heartbeat_at, started_at)
              < clock_timestamp() - %(stale)s * interval '1 second'
    ) AS stale_runs
"""


def get_health(conn: db.Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """The health object of the contract, true at ``now`` (business time), and more.

    The caller gives a transaction, so that all figures come from one snapshot. Ages of runs and
    claims go by wall time, everything else by ``now``.
    """
    counts = read_counts(conn, now, settings.timezone)
    queue = read_queue(conn, CHANNELS, now)
    runs = db.fetch_all(conn, RUNS, {"stale": STALE_SECONDS})[0]
    paused = [pauses.as_json(each) for each in pauses.current(conn)]
    windows = {
        (source, span): counts.window(source, span)
        for source in (DELIVERIES, DIGESTS)
        for span in (HOUR, DAY, WEEK)
    }
    own = {
        key: [cell for cell in cells if cell.kind in OWN_KINDS] for key, cells in windows.items()
    }
    day, week = own[DELIVERIES, DAY], own[DELIVERIES, WEEK]
    deliveries_24h = _by_channel(day, CHANNELS)
    waiting = {kind: _oldest(queue, kind, now) for kind in ("delivery", "digest")}
    not_configured = FailureCode.CHANNEL_NOT_CONFIGURED.value
    finished = runs["last_finished"]
    facts = Facts(
        expected_minutes=settings.expected_interval_minutes,
        last_finished_status=finished and finished["status"],
        last_success_minutes=runs["last_success_minutes"],
        stale_runs=runs["stale_runs"],
        oldest_minutes=max(minutes or 0.0 for minutes in waiting.values()),
        lapsed_claims=sum(row["lapsed_claims"] for row in queue.values()),
        not_configured=sum(
            cell.amount
            for cell in (*day, *windows[DIGESTS, DAY])
            if cell.failure_code == not_configured
        ),
        channels=deliveries_24h,
        paused=paused,
        held=(finished or {}).get("counts", {}).get("c", {}).get("channels_held", {}),
    )
    failing, degraded = failing_reasons(facts), degraded_reasons(facts)
    doubts = _in_doubt([*week, *windows[DIGESTS, WEEK]], queue)
    return {
        "generated_at": iso(now),
        "status": "failing" if failing else "degraded" if degraded else "ok",
        "reasons": [{"code": code, "message": text} for code, text in failing + degraded],
        "paused": paused,
        "deliveries_24h": deliveries_24h,
        "deliveries_7d": _by_channel(week, CHANNELS),
        "digests_24h": _by_channel(windows[DIGESTS, DAY], DIGEST_CHANNELS),
        "digests_7d": _by_channel(windows[DIGESTS, WEEK], DIGEST_CHANNELS),
        "oldest_queued_delivery_minutes": waiting["delivery"],
        "oldest_queued_digest_minutes": waiting["digest"],
        "channels": {
            name: {
                **_channel(name, counts, queue[name], runs["last_sending"] or {}, now),
                "in_doubt": doubts[name],
                "paused": any(each["channel"] in (None, name) for each in paused),
            }
            for name in CHANNELS
        },
        "breakdown": {
            "deliveries_24h": _breakdown(windows[DELIVERIES, DAY], "delivery_kind"),
            "deliveries_7d": _breakdown(windows[DELIVERIES, WEEK], "delivery_kind"),
            "digests_24h": _breakdown(windows[DIGESTS, DAY]),
            "digests_7d": _breakdown(windows[DIGESTS, WEEK]),
        },
        "failures_24h": _failures(day),
        "failures": {
            name: {source: _failures(own[source, span]) for source in (DELIVERIES, DIGESTS)}
            for name, span in (("1h", HOUR), ("24h", DAY), ("7d", WEEK))
        },
        "in_doubt": sum(sum(doubt.values()) for doubt in doubts.values()),
        "per_hour": counts.per_hour(),
        "per_day": counts.per_day(),
        "funnel": _funnel(finished),
        "last_run": _last_run(runs["last_run"]),
        "last_success_minutes": _rounded(runs["last_success_minutes"]),
        "schedule": schedule_health(conn, settings.expected_interval_minutes),
    }


def _by_channel(cells: Iterable[Cell], channels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Counts by channel with every key, zeros included; batched rows are told apart."""
    keys = ("queued", "sending", "sent", "failed", "retried", "skipped")
    with_batched = channels is CHANNELS
    found = {
        name: dict.fromkeys((*keys, "batched") if with_batched else keys, 0) for name in channels
    }
    for cell in cells:
        counts = found.get(cell.channel)
        if counts is None or cell.status not in STATUSES:
            continue
        batched = cell.failure_code == "batched_into_digest" and cell.status == "skipped"
        counts["batched" if batched and with_batched else cell.status] += cell.amount
        counts["retried"] += cell.amount if cell.retried else 0
    return found


def _breakdown(cells: Iterable[Cell], kind: str | None = None) -> list[dict[str, Any]]:
    """Counts by channel and status, and by kind where there is a name for it."""
    tally: Counter[tuple[str, ...]] = Counter()
    for cell in cells:
        tally[(cell.channel, cell.status, *([cell.kind] if kind else []))] += cell.amount
    names = ("channel", "status", *([kind] if kind else []))
    return [
        {**dict(zip(names, key, strict=True)), "count": count}
        for key, count in sorted(tally.items())
        if count
    ]


def _failures(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Failed rows by channel and code."""
    tally: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        if cell.status == "failed":
            tally[cell.channel, cell.failure_code or ""] += cell.amount
    return [
        {"channel": channel, "failure_code": code or None, "count": count}
        for (channel, code), count in sorted(tally.items())
        if count
    ]


def _channel(
    name: str, counts: HealthCounts, queue: db.Row, sending: dict[str, Any], now: datetime
) -> dict[str, Any]:
    """One channel: how the last run that sent found it, what waits, how long sending took.

    ``configured`` and ``rate_limited`` are None until a run has told.
    """
    seen = sending.get("channels", {}).get(name, {})
    return {
        "configured": seen.get("configured") if name in SEND_CHANNELS else True,
        "held": sending.get("channels_held", {}).get(name),
        "rate_limited": seen.get("rate_limited") if name in SEND_CHANNELS else False,
        "oldest_due_delivery_minutes": _minutes(queue["delivery"], now),
        "oldest_due_digest_minutes": _minutes(queue["digest"], now),
        "queued_to_sent_seconds_24h": {
            kind: {
                "count": sum(counts.waits.get((name, kind), {}).values()),
                **{
                    key: percentile(counts.waits.get((name, kind), {}), share)
                    for key, share in SHARES.items()
                },
            }
            for kind in OWN_KINDS
            if kind == "instant" or name in DIGEST_CHANNELS
        },
    }


def _in_doubt(week: list[Cell], queue: dict[str, db.Row]) -> dict[str, dict[str, int]]:
    """Rows of which nobody knows whether the message went out: claims that have lapsed, and of
    the last 7 days those that wait to be sent once more and those given up."""
    found = {
        name: {"lapsed": row["lapsed_claims"], "waiting": 0, "failed": 0}
        for name, row in queue.items()
    }
    states = {"queued": "waiting", "failed": "failed"}
    for cell in week:
        if cell.failure_code in UNKNOWN_CODES and cell.status in states and cell.channel in found:
            found[cell.channel][states[cell.status]] += cell.amount
    return found


def _funnel(finished: dict[str, Any] | None) -> dict[str, Any] | None:
    """From risk data to messages in the last finished run; a phase that did not run has None."""
    if finished is None:
        return None
    counts = finished["counts"]
    steps: dict[str, Any] = {"run_id": finished["run_id"]}
    for letter, names in (
        ("a", ("events_created",)),
        ("b", ("deliveries_considered", "deliveries_created")),
        ("d", ("digests_created",)),
    ):
        steps |= {name: counts.get(letter, {}).get(name) for name in names}
    for name in ("claimed", "sent", "failed", "retried"):
        parts = [counts.get("c", {}).get(queue, {}).get(name) for queue in (DELIVERIES, DIGESTS)]
        known = [part for part in parts if part is not None]
        steps[name] = sum(known) if known else None
    return steps


def _last_run(run: dict[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    names = ("started_at", "finished_at")
    return {**run, **{name: run[name] and iso(datetime.fromisoformat(run[name])) for name in names}}


def _oldest(queue: dict[str, db.Row], kind: str, now: datetime) -> float | None:
    return _minutes(min((row[kind] for row in queue.values() if row[kind]), default=None), now)


def _minutes(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else _rounded((now - since).total_seconds() / 60)


def _rounded(minutes: float | None) -> float | None:
    return None if minutes is None else round(minutes, 1)
