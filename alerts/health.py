"""Delivery health: what ``GET /health`` and ``--health`` answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from alerts import db
from alerts.config import Settings
from alerts.failures import FailureCode
from alerts.history import iso
from alerts.run_record import STALE_SECONDS
from alerts.schedule import schedule_health

CHANNELS = ("email", "telegram", "sms", "account")
DIGEST_CHANNELS = ("email", "telegram")
STATUSES = ("queued", "sending", "sent", "failed", "skipped")
INTERVALS_WITHOUT_SUCCESS = 3
INTERVALS_QUEUE_MAY_WAIT = 2
FAILING_SHARE = 0.05
FAILING_AT_LEAST = 5

# One pass over the window: status and kind by channel, with what else is told of the same rows.
# Kinds of other parts of the product show in the breakdown only.
DELIVERIES_WINDOW = """
SELECT
    channel,
    status,
    delivery_kind,
    count(*) AS count,
    count(*) FILTER (WHERE attempts > 1 OR (status = 'queued' AND attempts >= 1)) AS retried,
    count(*) FILTER (WHERE failure_code = 'batched_into_digest') AS batched,
    count(*) FILTER (WHERE failure_code = 'channel_not_configured') AS not_configured
FROM user_alert_deliveries
WHERE created_at > %(since)s AND created_at <= %(now)s
GROUP BY channel, status, delivery_kind
ORDER BY channel, status, delivery_kind
"""

DIGESTS_WINDOW = """
SELECT
    channel,
    status,
    count(*) AS count,
    count(*) FILTER (WHERE attempts > 1 OR (status = 'queued' AND attempts >= 1)) AS retried,
    count(*) FILTER (
        WHERE failure_code = 'channel_not_configured' AND created_at > %(day_ago)s
    ) AS not_configured
FROM user_alert_digests
WHERE created_at > %(since)s AND created_at <= %(now)s
GROUP BY channel, status
ORDER BY channel, status
"""

FAILURES = """
SELECT channel, failure_code, count(*) AS count
FROM user_alert_deliveries
WHERE created_at > %(since)s
  AND created_at <= %(now)s
  AND status = 'failed'
  AND delivery_kind IN ('instant', 'digest')
GROUP BY channel, failure_code
ORDER BY channel, failure_code
"""

# Since when the oldest due row waits, on the business clock. Rows never tried and rows whose
# retry is due are two ranges of the queue's index.
OLDEST_DUE = """
SELECT
    (
        SELECT least(
            min(created_at) FILTER (WHERE next_retry_at IS NULL),
            min(next_retry_at) FILTER (WHERE next_retry_at <= %(now)s)
        )
        FROM user_alert_deliveries
        WHERE status = 'queued'
          AND delivery_kind = 'instant'
          AND created_at <= %(now)s
          AND (next_retry_at IS NULL OR next_retry_at <= %(now)s)
    )::timestamptz AS delivery,
    (
        SELECT min(greatest(window_end, next_retry_at))
        FROM user_alert_digests
        WHERE status = 'queued'
          AND window_end <= %(now)s
          AND (next_retry_at IS NULL OR next_retry_at <= %(now)s)
    )::timestamptz AS digest,
    (
        SELECT count(*)
        FROM user_alert_deliveries
        WHERE status = 'sending'
          AND delivery_kind IN ('instant', 'digest')
          AND (claimed_until < clock_timestamp() OR claimed_until IS NULL)
    ) + (
        SELECT count(*)
        FROM user_alert_digests
        WHERE status = 'sending'
          AND (claimed_until < clock_timestamp() OR claimed_until IS NULL)
    ) AS lapsed_claims
"""

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
        SELECT status
        FROM alerts_engine_runs
        WHERE NOT dry_run AND status <> 'running'
        ORDER BY started_at DESC, id DESC
        LIMIT 1
    ) AS last_finished_status,
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
    """The health object of the contract, true at ``now`` (business time).

    The caller gives a transaction, so that all figures come from one snapshot. Ages of runs and
    claims go by wall time, everything else by ``now``.
    """
    day_ago, week_ago = now - timedelta(hours=24), now - timedelta(days=7)
    day = db.fetch_all(conn, DELIVERIES_WINDOW, {"since": day_ago, "now": now})
    week = db.fetch_all(conn, DELIVERIES_WINDOW, {"since": week_ago, "now": now})
    digests = db.fetch_all(
        conn, DIGESTS_WINDOW, {"since": week_ago, "day_ago": day_ago, "now": now}
    )
    failures = db.fetch_all(conn, FAILURES, {"since": day_ago, "now": now})
    queue = db.fetch_all(conn, OLDEST_DUE, {"now": now})[0]
    runs = db.fetch_all(conn, RUNS, {"stale": STALE_SECONDS})[0]
    own = [row for row in day if row["delivery_kind"] in ("instant", "digest")]
    channels = _by_channel(own, CHANNELS)
    delivery_minutes = _minutes(queue["delivery"], now)
    digest_minutes = _minutes(queue["digest"], now)
    facts = _Facts(
        expected_minutes=settings.expected_interval_minutes,
        last_finished_status=runs["last_finished_status"],
        last_success_minutes=runs["last_success_minutes"],
        stale_runs=runs["stale_runs"],
        oldest_minutes=max(delivery_minutes or 0.0, digest_minutes or 0.0),
        lapsed_claims=queue["lapsed_claims"],
        not_configured=sum(row["not_configured"] for row in (*own, *digests)),
        channels=channels,
    )
    failing, degraded = _failing_reasons(facts), _degraded_reasons(facts)
    status = "failing" if failing else "degraded" if degraded else "ok"
    return {
        "generated_at": iso(now),
        "status": status,
        "reasons": [{"code": code, "message": text} for code, text in failing + degraded],
        "deliveries_24h": channels,
        "digests_7d": _by_channel(digests, DIGEST_CHANNELS),
        "oldest_queued_delivery_minutes": delivery_minutes,
        "oldest_queued_digest_minutes": digest_minutes,
        "breakdown": {
            "deliveries_24h": [_breakdown(row) for row in day],
            "deliveries_7d": [_breakdown(row) for row in week],
            "digests_7d": [_breakdown(row) for row in digests],
        },
        "failures_24h": failures,
        "last_run": _last_run(runs["last_run"]),
        "last_success_minutes": _rounded(runs["last_success_minutes"]),
        "schedule": schedule_health(conn, settings.expected_interval_minutes),
    }


@dataclass(frozen=True)
class _Facts:
    expected_minutes: int
    last_finished_status: str | None
    last_success_minutes: float | None
    stale_runs: int
    oldest_minutes: float
    lapsed_claims: int
    not_configured: int
    channels: dict[str, dict[str, int]]


def _failing_reasons(facts: _Facts) -> list[tuple[str, str]]:
    reasons: list[tuple[str, str]] = []
    if facts.last_finished_status is None:
        return reasons  # never_run
    limit = INTERVALS_WITHOUT_SUCCESS * facts.expected_minutes
    if facts.last_success_minutes is None:
        reasons.append(("no_recent_success", "No run has succeeded yet; look at the last runs."))
    elif facts.last_success_minutes > limit:
        ago = round(facts.last_success_minutes)
        text = f"The last success was {ago} minutes ago; see if the scheduler still starts runs."
        reasons.append(("no_recent_success", text))
    if facts.last_finished_status == "failed":
        text = "The last finished run failed; its error_summary says why."
        reasons.append(("last_run_failed", text))
    return reasons


def _degraded_reasons(facts: _Facts) -> list[tuple[str, str]]:
    reasons: list[tuple[str, str]] = []
    if facts.last_finished_status is None:
        reasons.append(("never_run", "No run has finished yet; start one."))
    if facts.oldest_minutes > INTERVALS_QUEUE_MAY_WAIT * facts.expected_minutes:
        text = f"A due message has waited for {round(facts.oldest_minutes)} minutes; see phase c."
        reasons.append(("queue_waiting", text))
    if facts.stale_runs:
        text = f"{facts.stale_runs} run(s) stopped without a word; the next run closes them."
        reasons.append(("run_stale", text))
    if facts.lapsed_claims:
        text = f"{facts.lapsed_claims} claimed message(s) lost their sender; the next run rescues."
        reasons.append(("sending_stuck", text))
    if facts.not_configured:
        text = (
            f"{facts.not_configured} message(s) were skipped for want of a provider; run the "
            "preflight, then retry with include=not_configured."
        )
        reasons.append((FailureCode.CHANNEL_NOT_CONFIGURED.value, text))
    for channel, counts in facts.channels.items():
        failed, tried = counts["failed"], counts["failed"] + counts["sent"]
        if failed >= FAILING_AT_LEAST and failed > FAILING_SHARE * tried:
            text = f"{failed} of {tried} on {channel} failed in 24 h; see failures_24h."
            reasons.append(("channel_failing", text))
    return reasons


def _by_channel(rows: list[db.Row], channels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    """Counts by channel with every key, zeros included; batched rows are told apart."""
    keys = ("queued", "sending", "sent", "failed", "retried", "skipped")
    with_batched = channels is CHANNELS
    found = {
        name: dict.fromkeys((*keys, "batched") if with_batched else keys, 0) for name in channels
    }
    for row in rows:
        counts = found.get(row["channel"])
        if counts is None or row["status"] not in STATUSES:
            continue
        batched = row.get("batched", 0) if row["status"] == "skipped" else 0
        counts[row["status"]] += row["count"] - batched
        counts["retried"] += row["retried"]
        if with_batched:
            counts["batched"] += batched
    return found


def _breakdown(row: db.Row) -> dict[str, Any]:
    names = ("channel", "status", "delivery_kind", "count")
    return {name: row[name] for name in names if name in row}


def _last_run(run: dict[str, Any] | None) -> dict[str, Any] | None:
    if run is None:
        return None
    times = {name: run[name] and iso(datetime.fromisoformat(run[name])) for name in _RUN_TIMES}
    return {**run, **times}


_RUN_TIMES = ("started_at", "finished_at")


def _minutes(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else _rounded((now - since).total_seconds() / 60)


def _rounded(minutes: float | None) -> float | None:
    return None if minutes is None else round(minutes, 1)
