"""The engine's runs, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts import questions
from alerts.phases import PHASES
from alerts.runs.counts import flat
from app.current import database
from app.ops import charts
from app.ops.asking import answer, asked, row_id
from app.ops.rendering import page

PHASE_NAMES = {phase.letter: phase.name for phase in PHASES}


def runs() -> str:
    """Runs, newest first."""
    values = asked(questions.RUNS.parameters)
    with database().transaction() as conn:
        found = answer(conn, questions.RUNS, **values)
    told = [(run, sent_and_failed(run["counts"] or {})) for run in found["runs"]]
    return page("runs", runs=told, next_before=found["next_before"], filters=_filters(values))


def run(id: str) -> str:
    """One run with its phases."""
    asked(())
    with database().transaction() as conn:
        found = answer(conn, questions.RUN, id=row_id(questions.RUN, id))
    items = found["items"]
    return page(
        "run",
        run=found["run"],
        phases=list(zip(items, charts.phase_bars(found["run"], items), strict=True)),
        names=PHASE_NAMES,
        told={item["phase"]: flat(item["counts"] or {}) for item in items},
    )


def sent_and_failed(counts: Mapping[str, Any]) -> dict[str, int]:
    """What a run sent and failed to send, deliveries and digests together."""
    total = {"sent": 0, "failed": 0}
    sending = counts.get("c") or {}
    for queue in ("deliveries", "digests"):
        tally = sending.get(queue) if isinstance(sending, Mapping) else None
        for name in total:
            total[name] += tally.get(name, 0) if isinstance(tally, Mapping) else 0
    return total


def _filters(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in ("status", "phase", "triggered_by") if values[name]}
