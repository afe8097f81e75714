"""Delivery health as Prometheus gauges, from the answer of ``get_health`` alone.

Gauges only: pruning lowers counts, and ``rate()`` would take that for a restart. What nobody knows
yet has no series; what is known to be nothing is 0. Labels are ours throughout: channels, codes,
statuses, phases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily

from alerts import VERSION
from alerts.channels.names import CHANNELS, DIGEST_CHANNELS, SEND_CHANNELS
from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.health.reasons import CODES

PREFIX = "alerts_engine_"
HEALTH_STATUSES = ("ok", "degraded", "failing")
_UNITS = ("seconds",)
_SOURCES = {"deliveries": "delivery", "digests": "digest"}  # and how one of them is called
_CAN_FAIL = tuple(code for code in FailureCode if CLASS_OF[code] is not FailureClass.POLICY)
_PERCENTILES = {"p50": "50", "p95": "95", "p99": "99"}

Samples = Iterable[tuple[tuple[str, ...], float | None]]


def gauges(health: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    """Every gauge but the duration of the scrape."""
    yield from _verdict(health)
    yield from _runs(health)
    yield from _schedule(health["schedule"])
    yield from _queues(health["channels"])
    yield from _outcomes(health)
    yield from _channels(health)
    yield from _input(health)


def gauge(
    name: str, words: str, samples: Samples, labels: tuple[str, ...] = ()
) -> GaugeMetricFamily:
    """One gauge; a sample without a value is left out."""
    unit = next((unit for unit in _UNITS if name.endswith(f"_{unit}")), "")
    family = GaugeMetricFamily(PREFIX + name, words, labels=labels, unit=unit)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, float(value))
    return family


def _one(name: str, words: str, value: float | None) -> GaugeMetricFamily:
    return gauge(name, words, [((), value)])


def _verdict(health: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    engine = health["engine"]
    yield gauge(
        "build_info",
        "The version that answers, and the commit that the engine last ran with.",
        [((VERSION, engine["git_sha"] or ""), 1)],
        ("version", "git_sha"),
    )
    yield gauge(
        "health_status",
        "1 for the current status of health, 0 for the others.",
        [((status,), status == health["status"]) for status in HEALTH_STATUSES],
        ("status",),
    )
    present = {reason["code"] for reason in health["reasons"]}
    yield gauge(
        "health_reason",
        "1 where health gives this reason.",
        [((code,), code in present) for code in sorted({*CODES, *present})],
        ("reason",),
    )
    yield _one(
        "allowlist_active",
        "1 while only the users of an allowlist get messages.",
        engine["allowlist_users"] is not None if engine["since"] else None,
    )


def _runs(health: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    last, finished = health["last_run"], health["last_finished_run"]
    yield _one(
        "last_run_timestamp_seconds",
        "When the last run started; dry runs are left out.",
        _timestamp(last and last["started_at"]),
    )
    yield _one(
        "last_success_timestamp_seconds",
        "When the last successful run finished.",
        _timestamp(health["last_success_at"]),
    )
    yield _one(
        "last_run_success",
        "1 if the last finished run succeeded.",
        finished and finished["status"] == "success",
    )
    yield _one(
        "last_run_duration_seconds",
        "How long the last finished run took.",
        _seconds(finished and finished["duration_ms"]),
    )
    phases = finished["phases"] if finished else {}
    yield gauge(
        "last_run_phase_duration_seconds",
        "How long each phase of the last finished run took.",
        [((letter,), _seconds(ms)) for letter, ms in sorted(phases.items())],
        ("phase",),
    )
    day = dict(health["runs_24h"])
    lost = day.pop("lost")
    yield gauge(
        "runs_last_24h",
        "Runs started in the last 24 hours, by what became of them.",
        [((status,), count) for status, count in day.items()],
        ("status",),
    )
    yield _one("runs_lost_last_24h", "Of those, the ones that died without a word.", lost)


def _schedule(schedule: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    started = schedule["last_scheduled_at"] is not None
    yield _one(
        "schedule_interval_seconds",
        "How often a run is expected.",
        schedule["expected_interval_minutes"] * 60,
    )
    yield _one(
        "schedule_last_run_late_seconds",
        "How late the last scheduled run started.",
        schedule["last_late_seconds"],
    )
    yield _one(
        "schedule_missed_slots_last_24h",
        "Slots of the schedule in which no run started; only where a schedule starts runs.",
        schedule["missed_slots_24h"] if started else None,
    )


def _queues(channels: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    labels = ("source", "channel")
    pairs = [(source, name) for source in _SOURCES for name in _channels_of(source)]
    yield gauge(
        "queue_oldest_due_age_seconds",
        "For how long the oldest due message has waited; 0 when none waits.",
        [
            ((source, name), 60 * (channels[name][f"oldest_due_{_SOURCES[source]}_minutes"] or 0))
            for source, name in pairs
        ],
        labels,
    )
    yield gauge(
        "queue_due",
        "Messages that are due; of more than 1,000 those with a later time count as well.",
        [((source, name), channels[name]["due"][source]) for source, name in pairs],
        labels,
    )
    yield gauge(
        "in_doubt",
        "Messages of which nobody knows whether they went out.",
        [((name,), sum(channels[name]["in_doubt"].values())) for name in CHANNELS],
        ("channel",),
    )
    took = {name: channels[name]["queued_to_sent_seconds_24h"]["instant"] for name in CHANNELS}
    yield _percentiles(
        "send_wait_seconds",
        "Within how many seconds so many percent of the last day's alerts were sent.",
        took,
    )
    yield _percentiles(
        "risk_to_phone_seconds",
        "The same since the risk data came in.",
        {name: channels[name]["risk_to_phone_seconds_24h"] for name in CHANNELS},
    )


def _percentiles(
    name: str, words: str, took: Mapping[str, Mapping[str, float | None]]
) -> GaugeMetricFamily:
    return gauge(
        name,
        words,
        [
            ((channel, percent), figures[key])
            for channel, figures in took.items()
            for key, percent in _PERCENTILES.items()
        ],
        ("channel", "percentile"),
    )


def _outcomes(health: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    for name, words, key in (
        ("deliveries_last_24h", "Deliveries created in the last 24 hours", "deliveries_24h"),
        ("digests_last_7d", "Digests created in the last 7 days", "digests_7d"),
    ):
        yield gauge(
            name,
            f"{words}, by what became of them.",
            [
                ((channel, status), count)
                for channel, counts in health[key].items()
                for status, count in counts.items()
                if status != "retried"  # overlaps the others: a sum would be wrong
            ],
            ("channel", "status"),
        )
    yield gauge(
        "failures_last_1h",
        "Messages created in the last hour that failed.",
        _failures(health["failures"]["1h"]),
        ("source", "channel", "code"),
    )


def _failures(failures: Mapping[str, Any]) -> Samples:
    found = {
        (source, name, code.value): 0
        for source in _SOURCES
        for name in _channels_of(source)
        if name in SEND_CHANNELS
        for code in _CAN_FAIL
    }
    for source, rows in failures.items():
        for row in rows:
            place = source, row["channel"], row["failure_code"] or "unknown"
            found[place] = found.get(place, 0) + row["count"]
    return found.items()


def _channels(health: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    channels = health["channels"]
    yield gauge(
        "channel_configured",
        "1 if the last run that sent had a provider for the channel.",
        [((name,), channels[name]["configured"]) for name in CHANNELS],
        ("channel",),
    )
    yield gauge(
        "channel_closed",
        "1, with the code, while nothing is sent on the channel because of it; else 0.",
        [
            ((name, code), bool(code))
            for name in SEND_CHANNELS
            for code in [_closed_for(name, health)]
        ],
        ("channel", "code"),
    )
    yield gauge(
        "paused",
        "1 while somebody has paused the channel or the whole engine.",
        [((name,), channels[name]["paused"]) for name in CHANNELS],
        ("channel",),
    )


def _closed_for(name: str, health: Mapping[str, Any]) -> str:
    """Why the channel is closed, as a code; empty while it is open or off deliberately."""
    channel = health["channels"][name]
    if channel["state"] in ("closed", "held"):
        return str(channel["code"])
    blamed = name in health["engine"]["channels_misconfigured"]
    return FailureCode.MISCONFIGURED.value if blamed else ""


def _input(health: Mapping[str, Any]) -> Iterator[GaugeMetricFamily]:
    yield gauge(
        "input_age_seconds",
        "How old the newest row is that the engine has to read.",
        [((source,), each["age_seconds"]) for source, each in health["input"].items()],
        ("source",),
    )


def _channels_of(source: str) -> tuple[str, ...]:
    return DIGEST_CHANNELS if source == "digests" else CHANNELS


def _timestamp(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
