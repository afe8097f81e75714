"""The runbook shows what the product says."""

from __future__ import annotations

import re

from scripts.dev.runbook import RUNBOOK, incidents, written


def test_the_runbook_is_as_the_script_writes_it() -> None:
    text = RUNBOOK.read_text()
    assert written(text) == text, "run python -m scripts.dev.runbook"


def test_every_incident_is_told() -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", incidents(), re.MULTILINE)]
    assert numbers == list(range(1, 37))
