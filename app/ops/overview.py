"""What is up: the verdict and its figures, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from alerts import db, questions
from alerts.channels.names import CHANNELS, SEND_CHANNELS
from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.questions import Answer
from app.current import business_now, database
from app.ops import charts
from app.ops.asking import answer, asked, caller
from app.ops.rendering import page
from app.ops.verdict import verdict

_FAILING = "channel_failing"
WINDOWS = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}


def overview() -> str:
    """Is all well, and if not, why and which button mends it."""
    asked(())
    who = caller()

    def read(conn: db.Connection) -> tuple[Answer, list[Any]]:
        health = questions.HEALTH.ask(conn, who, fail_on=None)
        return health, questions.RUNS.ask(conn, who, limit=charts.RUNS_SHOWN)["runs"]

    health, listed = database().within(questions.HEALTH_SECONDS, read)
    interval = health["schedule"]["expected_interval_minutes"]
    blocks = charts.strip(listed, interval)
    return page(
        "overview",
        health=health,
        verdict=verdict(health),
        runs=listed,
        blocks=blocks,
        kinds={kind: sum(block.kind == kind for block in blocks) for kind in charts.KINDS},
        hours=charts.hours(health["per_hour"]),
        funnel=charts.funnel(health["funnel"]) if health["funnel"] else [],
        totals=_totals(health),
        failing={each["channel"] for each in health["reasons"] if each["code"] == _FAILING},
    )


def _totals(health: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """What was sent and what failed in 24 hours, by channel, digests included."""
    found = {}
    for name in CHANNELS:
        deliveries, digests = health["deliveries_24h"][name], health["digests_24h"].get(name, {})
        found[name] = {key: deliveries[key] + digests.get(key, 0) for key in ("sent", "failed")}
    return found


def failures() -> str:
    """What failed, by cause, channel and window."""
    asked(())
    now = business_now()
    with database().transaction() as conn:
        health = answer(conn, questions.HEALTH, fail_on=None)
    cells: dict[tuple[str, str, str], dict[str, int]] = {}
    for window, sources in health["failures"].items():
        for source, rows in sources.items():
            for row in rows:
                place = (row["failure_code"] or "", source, row["channel"])
                cells.setdefault(place, dict.fromkeys(WINDOWS, 0))[window] = row["count"]
    causes: dict[str, list[dict[str, Any]]] = {}
    for (code, source, channel), counts in sorted(cells.items(), key=lambda each: each[0]):
        causes.setdefault(code, []).append({
            "source": source, "channel": channel, "counts": counts,
            "include": _include(code), "retries": channel in SEND_CHANNELS and _retries(code),
        })  # fmt: skip
    ordered = sorted(causes.items(), key=lambda each: -sum(r["counts"]["7d"] for r in each[1]))
    total = {w: sum(r["counts"][w] for _, rows in ordered for r in rows) for w in WINDOWS}
    since = {name: (now - span).isoformat(timespec="seconds") for name, span in WINDOWS.items()}
    return page("failures", causes=ordered, total=total, since=since, health=health)


def _class(code: str) -> FailureClass | None:
    return CLASS_OF[FailureCode(code)] if code in FailureCode.__members__.values() else None


def _retries(code: str) -> bool:
    """Whether sending again can be asked for."""
    refused = code in (FailureCode.RECIPIENT_INVALID, FailureCode.PAYLOAD_INVALID)
    return refused or _class(code) in (FailureClass.TRANSIENT, FailureClass.UNKNOWN)


def _include(code: str) -> str | None:
    """What has to be included so that rows with the code are sent again."""
    kind = _class(code)
    if kind is FailureClass.UNKNOWN:
        return "unknown"
    if kind is FailureClass.TRANSIENT:
        return "exhausted"
    return "refused" if _retries(code) else None
