"""Causes are told before their symptoms, and only causes in the brief view."""

from __future__ import annotations

from typing import Any

import pytest

from alerts.health.order import EXPLAINS, arranged, causes
from alerts.health.reasons import CODES


def reason(code: str, severity: str = "degraded", channel: str | None = None) -> dict[str, Any]:
    """``code`` may be followed by a colon and the cause."""
    code, _, cause = code.partition(":")
    told = {"code": code, "severity": severity, "channel": channel}
    return {**told, "cause": cause} if cause else told


def test_only_codes_that_there_are_explain_each_other() -> None:
    for code, symptoms in EXPLAINS.items():
        assert {code, *(symptom.partition(":")[0] for symptom in symptoms)} <= set(CODES)
        assert code not in symptoms


@pytest.mark.parametrize(
    ("found", "wanted", "brief"),
    [
        (
            [
                reason("queue_waiting"),
                reason("paused", "note"),
                reason("no_recent_success:paused", "failing"),
            ],
            ["paused", "no_recent_success", "queue_waiting"],
            ["paused"],
        ),
        (
            [reason("queue_waiting", channel="sms"), reason("paused", "note", "email")],
            ["queue_waiting", "paused"],
            ["queue_waiting", "paused"],
        ),
        (
            [reason("last_run_failed", "failing"), reason("misconfigured", channel="sms")],
            ["misconfigured", "last_run_failed"],
            ["misconfigured"],
        ),
        (
            [
                reason("clock_skew"),
                reason("paused", "note"),
                reason("no_recent_success:paused", "failing"),
            ],
            ["paused", "no_recent_success", "clock_skew"],
            ["paused", "clock_skew"],
        ),
    ],
)
def test_order(found: list[dict[str, Any]], wanted: list[str], brief: list[str]) -> None:
    order = arranged(found)
    assert [each["code"] for each in order] == wanted
    assert [each["code"] for each in causes(order)] == brief
