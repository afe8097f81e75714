"""What a phase reports is checked before it is stored: never an exception, never a lost row."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection

from alerts import phases
from alerts.channels.base import Message
from alerts.failures import DeliveryError, FailureCode
from alerts.health.report import CHANNELS
from alerts.phases import PhaseContext
from alerts.runs.counts import COUNTS
from tests.support.queue_world import delivery, queue_instants
from tests.support.run_world import run_row, whole_world
from tests.support.world import NOW, RememberingChannel, all_channels, run


def reporting(monkeypatch: pytest.MonkeyPatch, counts: dict[str, object]) -> None:
    """Phase A does nothing and reports these counts."""

    def pretend(context: PhaseContext) -> dict[str, object]:
        return counts

    changed = tuple(
        replace(phase, run=pretend) if phase.letter == "a" else phase for phase in phases.PHASES
    )
    monkeypatch.setattr(phases, "PHASES", changed)


def test_unsafe_count_is_replaced_with_a_warning_and_the_run_is_recorded(
    conn: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    unsafe = {"events_created": Decimal("2"), "when": NOW, "who": "user@example.com"}
    reporting(monkeypatch, unsafe)
    with caplog.at_level(logging.WARNING):
        report = run(database_url, "a")
    assert (report.record.status, report.recorded) == ("success", True)
    stored = run_row(conn, report)["counts"]["a"]
    assert stored["events_created"] == 2
    assert (stored["when"], stored["who"]) == ("unsafe_value", "unsafe_value")
    assert "no integers, booleans or codes" in caplog.text
    assert "user@example.com" not in caplog.text


def test_counts_that_do_not_add_up_carry_a_warning(
    conn: Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reporting(monkeypatch, {"events_created": 3, "high_impact_events": 1})
    report = run(database_url, "a")
    assert run_row(conn, report)["counts"]["a"]["warning"] == "counts_do_not_add_up"


def test_counts_of_a_whole_run_add_up(conn: Connection, database_url: str) -> None:
    whole_world(conn)
    for item in run(database_url).record.items:
        assert "warning" not in item.counts


def names_in(counts: Mapping[str, Any]) -> set[str]:
    """Every name of counts, without those of channels."""
    found: set[str] = set()
    for name, value in counts.items():
        if name not in CHANNELS:
            found.add(name)
        if isinstance(value, Mapping) and name != "channels_held":
            found |= names_in(value)
    return found


def test_every_count_of_a_run_stands_in_the_table(conn: Connection, database_url: str) -> None:
    whole_world(conn)
    known = {count.name for count in COUNTS}
    for item in run(database_url).record.items:
        assert names_in(item.counts) <= known
        assert item.counts


def test_last_error_is_redacted_whatever_an_adapter_says(
    conn: Connection, database_url: str
) -> None:
    (row_id,) = queue_instants(conn, 1)

    def refuse(message: Message) -> str | None:
        raise DeliveryError(FailureCode.PAYLOAD_INVALID, f"{message.destination} refused")

    run(database_url, "c", channels=all_channels(email=RememberingChannel(refuse)))
    assert delivery(conn, row_id)["last_error"] == "payload_invalid: [redacted] refused"
