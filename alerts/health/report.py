"""Delivery health: what ``GET /health`` and ``health`` answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from alerts import db
from alerts.channels.names import CHANNELS, DIGEST_CHANNELS, SEND_CHANNELS
from alerts.failures import FailureClass, codes_of
from alerts.health import queue
from alerts.health.channels import channel_state
from alerts.health.counts import DELIVERIES, DIGESTS, RISK, Cell, percentile
from alerts.health.facts import facts_of
from alerts.health.reading import OWN_KINDS, Reading, read
from alerts.health.runs import rounded
from alerts.health.verdict import verdict
from alerts.health.windows import DAY, HOUR, WEEK
from alerts.paging import iso
from alerts.settings.config import Settings

__all__ = ["OWN_KINDS", "STATUSES", "get_health"]

STATUSES = ("queued", "sending", "sent", "failed", "skipped")
SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
UNKNOWN_CODES = frozenset(codes_of(FailureClass.UNKNOWN))


def get_health(conn: db.Connection, settings: Settings, now: datetime) -> dict[str, Any]:
    """The health object of the contract, true at ``now`` (business time), and more.

    The caller gives a transaction, so that all figures come from one snapshot. Ages of runs and
    claims go by wall time, everything else by ``now``. How often runs are meant to start, and
    whether they do anything, is what the engine last said, not what ``settings`` say.
    """
    reading = read(conn, settings, now)
    doubts = _in_doubt(reading)
    channels = {name: _channel(name, reading, doubts[name]) for name in CHANNELS}
    return {
        "generated_at": iso(now),
        **verdict(facts_of(conn, reading, settings, channels)),
        "paused": reading.paused,
        **_totals(reading),
        **_waiting(reading),
        "channels": channels,
        "breakdown": _breakdowns(reading),
        **_failures(reading),
        "in_doubt": sum(sum(doubt.values()) for doubt in doubts.values()),
        "unsubscribed_7d": reading.unsubscribed,
        **reading.counts.charts,
        **reading.runs.section(),
        **reading.input.sections(now),
        **reading.run_figures,
        "schedule": reading.schedule,
        "engine": reading.engine.as_json(),
    }


def _totals(reading: Reading) -> dict[str, Any]:
    """What became of the last day's and the last week's rows, by channel."""
    return {
        "deliveries_24h": _by_channel(reading.own(DELIVERIES, DAY), CHANNELS),
        "deliveries_7d": _by_channel(reading.own(DELIVERIES, WEEK), CHANNELS),
        "digests_24h": _by_channel(reading.counts.windows[DIGESTS, DAY], DIGEST_CHANNELS),
        "digests_7d": _by_channel(reading.counts.windows[DIGESTS, WEEK], DIGEST_CHANNELS),
    }


def _waiting(reading: Reading) -> dict[str, float | None]:
    """How long the oldest due message of any channel has waited."""
    return {
        f"oldest_queued_{kind}_minutes": _minutes(
            min((row[kind] for row in reading.queue.values() if row[kind]), default=None),
            reading.now,
        )
        for kind in ("delivery", "digest")
    }


def _breakdowns(reading: Reading) -> dict[str, Any]:
    windows = reading.counts.windows
    return {
        "deliveries_24h": _breakdown(windows[DELIVERIES, DAY], "delivery_kind"),
        "deliveries_7d": _breakdown(windows[DELIVERIES, WEEK], "delivery_kind"),
        "digests_24h": _breakdown(windows[DIGESTS, DAY]),
        "digests_7d": _breakdown(windows[DIGESTS, WEEK]),
    }


def _failures(reading: Reading) -> dict[str, Any]:
    """Failed rows by channel and code: deliveries of the last day, and both by window."""
    return {
        "failures_24h": _failed(reading.own(DELIVERIES, DAY)),
        "failures": {
            name: {source: _failed(reading.own(source, span)) for source in (DELIVERIES, DIGESTS)}
            for name, span in (("1h", HOUR), ("24h", DAY), ("7d", WEEK))
        },
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


def _failed(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    tally: Counter[tuple[str, str]] = Counter()
    for cell in cells:
        if cell.status == "failed":
            tally[cell.channel, cell.failure_code or ""] += cell.amount
    return [
        {"channel": channel, "failure_code": code or None, "count": count}
        for (channel, code), count in sorted(tally.items())
        if count
    ]


def _channel(name: str, reading: Reading, doubts: dict[str, int]) -> dict[str, Any]:
    """One channel: how the last run that sent found it, what waits, how long sending took.

    ``configured`` and ``rate_limited`` are None until a run has told.
    """
    sending, waiting = reading.runs.last_sending, reading.queue[name]
    seen = sending.get("channels", {}).get(name, {})
    return {
        "configured": seen.get("configured") if name in SEND_CHANNELS else True,
        "held": sending.get("channels_held", {}).get(name),
        **channel_state(name, reading.states.get(name), _queued(name, reading)),
        "rate_limited": seen.get("rate_limited") if name in SEND_CHANNELS else False,
        "oldest_due_delivery_minutes": _minutes(waiting["delivery"], reading.now),
        "oldest_due_digest_minutes": _minutes(waiting["digest"], reading.now),
        "due": {source: _due(name, source, reading) for source in (DELIVERIES, DIGESTS)},
        "next_due_at": {
            source: due and iso(due)
            for source in (DELIVERIES, DIGESTS)
            for due in (reading.around.next_due.get((source, name)),)
        },
        "queued_to_sent_seconds_24h": {
            kind: _took(reading.counts.waits.get((name, kind), {}))
            for kind in OWN_KINDS
            if kind == "instant" or name in DIGEST_CHANNELS
        },
        "risk_to_phone_seconds_24h": _took(reading.counts.waits.get((name, RISK), {})),
        "in_doubt": doubts,
        "paused": any(each["channel"] in (None, name) for each in reading.paused),
    }


def _queued(name: str, reading: Reading) -> int:
    """Messages of the last seven days that are to be sent."""
    return sum(_queued_of(name, source, reading) for source in (DELIVERIES, DIGESTS))


def _queued_of(name: str, source: str, reading: Reading) -> int:
    kind = "instant" if source == DELIVERIES else "digest"
    return sum(
        cell.amount
        for cell in reading.counts.windows[source, WEEK]
        if (cell.channel, cell.kind, cell.status) == (name, kind, "queued")
    )


def _due(name: str, source: str, reading: Reading) -> int:
    """Messages that are due now; of a longer queue all that wait, also for a later time."""
    due = reading.due[source, name]
    return due if due < queue.DUE_COUNTED else max(due, _queued_of(name, source, reading))


def _took(waits: dict[int, int]) -> dict[str, int | None]:
    """How many were sent, and within how many seconds (percentiles)."""
    shares = {name: percentile(waits, share) for name, share in SHARES.items()}
    return {"count": sum(waits.values()), **shares}


def _in_doubt(reading: Reading) -> dict[str, dict[str, int]]:
    """Rows of which nobody knows whether the message went out: claims that have lapsed, and of
    the last 7 days those that wait to be sent once more and those given up."""
    found = {
        name: {"lapsed": row["lapsed_claims"], "waiting": 0, "failed": 0}
        for name, row in reading.queue.items()
    }
    states = {"queued": "waiting", "failed": "failed"}
    for cell in (*reading.own(DELIVERIES, WEEK), *reading.counts.windows[DIGESTS, WEEK]):
        if cell.failure_code in UNKNOWN_CODES and cell.status in states and cell.channel in found:
            found[cell.channel][states[cell.status]] += cell.amount
    return found


def _minutes(since: datetime | None, now: datetime) -> float | None:
    return None if since is None else rounded(max(0.0, (now - since).total_seconds() / 60))
