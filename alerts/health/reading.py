"""What health reads: every question in one round trip, and the answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from alerts import db
from alerts.channels.names import CHANNELS
from alerts.db.together import Together, with_times
from alerts.health import counts, queue
from alerts.health.around import AROUND, Around
from alerts.health.channels import STATE_TIMES, STATES
from alerts.health.counts import DELIVERIES, DIGESTS, Cell, HealthCounts
from alerts.health.input import INPUT, Input
from alerts.health.run_figures import RUN_FIGURES, run_figures
from alerts.health.runs import RECENT_RUNS, RUNS, SCHEDULED_STARTS, Runs, runs_of
from alerts.health.unsubscribed import UNSUBSCRIBED
from alerts.locks import holders
from alerts.repair import pauses
from alerts.runs import engine_state
from alerts.runs.engine_state import EngineState
from alerts.runs.record import STALE_SECONDS
from alerts.runs.schedule import SCHEDULE, schedule_health
from alerts.settings.config import Settings

OWN_KINDS = ("instant", "digest")  # others belong to other parts of the product
# One run that finds a phase under way is nothing; the next one would find it done. Of several hosts
# that start together all but one find it so: counted for each of ALERTS_SENDERS.
LOCKED_OUT_AT_LEAST = 2

# Everything health asks, in one round trip. The parameters are those of read().
QUESTIONS = Together(
    queue.HELD,
    counts.STRETCHES,
    cells=counts.CELLS,
    points=counts.POINTS,
    stale=counts.STALE_SINCE,
    queue=queue.OLDEST_DUE,
    due=queue.DUE,
    members=queue.MEMBERS,
    runs=RUNS,
    run_figures=RUN_FIGURES,
    schedule=SCHEDULE,
    states=STATES,
    paused=pauses.CURRENT,
    engine=engine_state.HISTORY,
    around=AROUND,
    input=INPUT,
    unsubscribed=UNSUBSCRIBED,
)


@dataclass(frozen=True)
class Reading:
    """What was found at ``now``; all sections are drawn from it."""

    now: datetime
    counts: HealthCounts
    counts_stale_since: datetime | None  # wall time; from then on the figures may be wrong
    queue: dict[str, db.Row]  # by channel
    due: dict[tuple[str, str], int]  # by source and channel
    queue_differs: bool
    schedule: dict[str, Any]
    runs: Runs
    run_figures: dict[str, Any]
    paused: list[dict[str, Any]]
    states: dict[str, db.Row]  # of channels, by name
    engine: EngineState
    changes: list[EngineState]  # the last ones of what it runs with, the newest first
    around: Around
    input: Input
    lock_holders: dict[str, list[db.Row]]  # by letter of a phase that runs were locked out of
    unsubscribed: int  # in the last seven days

    def own(self, source: str, span: timedelta) -> list[Cell]:
        """A window's rows that belong to the engine."""
        return [cell for cell in self.counts.windows[source, span] if cell.kind in OWN_KINDS]

    def messages(self, span: timedelta) -> list[Cell]:
        """A window's messages: what goes into a digest is counted with that."""
        instant = [cell for cell in self.own(DELIVERIES, span) if cell.kind == "instant"]
        return [*instant, *self.counts.windows[DIGESTS, span]]


def read(conn: db.Connection, settings: Settings, now: datetime) -> Reading:
    """All of it at ``now`` (business time). Raises ``psycopg2.Error``."""
    asked = counts.parameters(now, settings.timezone) | {
        "now": now,
        "channels": list(CHANNELS),
        "queue_read": queue.QUEUE_READ,
        "due_counted": queue.DUE_COUNTED,
        "stale": STALE_SECONDS,
        "recent_runs": RECENT_RUNS,
        "scheduled_starts": SCHEDULED_STARTS,
        "interval_minutes": settings.expected_interval_minutes,
    }
    told = QUESTIONS.fetch(conn, asked)
    runs = runs_of(told["runs"][0])
    changes = engine_state.states_in(
        [with_times(row, "first_at", "last_at") for row in told["engine"]], settings
    )
    engine = changes[0]
    return Reading(
        now=now,
        counts=counts.counts_of(asked, told["cells"], told["points"]),
        counts_stale_since=with_times(told["stale"][0], "since")["since"],
        queue={row["channel"]: with_times(row, "delivery", "digest") for row in told["queue"]},
        due={(row["source"], row["channel"]): row["amount"] for row in told["due"]},
        queue_differs=queue.queue_differs(**told["members"][0]),
        runs=runs,
        run_figures=run_figures(told["run_figures"][0]),
        schedule=schedule_health(told["schedule"], engine.interval_minutes),
        paused=[
            pauses.as_json(pauses.Pause(**with_times(row, "paused_at"))) for row in told["paused"]
        ],
        states={row["channel"]: with_times(row, *STATE_TIMES) for row in told["states"]},
        engine=engine,
        changes=changes,
        around=Around.of(told["around"][0]),
        input=Input.of(told["input"][0]),
        lock_holders={
            each.phase.letter: holders(conn, each.phase.lock_keys(engine.senders))
            for each in runs.locked_out()
            if each.runs >= LOCKED_OUT_AT_LEAST * engine.senders
        },
        unsubscribed=told["unsubscribed"][0]["amount"],
    )
