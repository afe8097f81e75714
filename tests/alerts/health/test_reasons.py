"""What health advises to do, as sentences from facts alone."""

from __future__ import annotations

from typing import Any

import pytest

from alerts.health.reasons import Facts, degraded_reasons, failing_reasons


def pause(channel: str | None) -> dict[str, Any]:
    return {"channel": channel, "paused_at": "2026-01-16T08:00:00+00:00", "reason": "moving"}


def facts(*paused: dict[str, Any]) -> Facts:
    """An engine that was last seen three hours ago, with a message that waits since."""
    return Facts(
        expected_minutes=10,
        last_finished_status="skipped",
        last_success_minutes=180.0,
        stale_runs=0,
        oldest_minutes=170.0,
        lapsed_claims=0,
        not_configured=0,
        channels={},
        paused=list(paused),
        held={},
        counts_stale_since=None,
        queue_differs=False,
    )


@pytest.mark.parametrize(
    ("paused", "advice"),
    [
        ([], "see if the scheduler still starts runs."),
        (["email"], "see if the scheduler still starts runs."),
        ([None], "the engine is paused, resume it."),
        ([None, "email"], "the engine is paused, resume it."),
    ],
)
def test_without_success_the_advice_is_the_scheduler_unless_the_engine_is_paused(
    paused: list[str | None], advice: str
) -> None:
    ((code, text),) = failing_reasons(facts(*map(pause, paused)))
    assert code == "no_recent_success"
    assert text == f"The last success was 180 minutes ago; {advice}"


@pytest.mark.parametrize(
    ("paused", "advice"),
    [
        ([], "see phase c."),
        (["email"], "resume what is paused."),
        ([None], "resume what is paused."),
    ],
)
def test_a_waiting_message_points_at_the_pause(paused: list[str | None], advice: str) -> None:
    reasons = dict(degraded_reasons(facts(*map(pause, paused))))
    assert reasons["queue_waiting"] == f"A due message has waited for 170 minutes; {advice}"
    assert ("paused" in reasons) == bool(paused)
