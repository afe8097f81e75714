"""When the owner is told: tables of what runs found one after the other, and rules for any."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.owner.rules import OK, SAME_CODE, UNDER_WAY, Found, Seen, decide

START = datetime(2026, 1, 16, 12, 0, tzinfo=UTC)
WELL = Found(OK, None)
MAIL, PHASE = Found("failing", "auth_failed"), Found("failing", "phase_failed")
QUEUE = Found("degraded", "queue_waiting")
LETTERS = {"w": WELL, "M": MAIL, "q": QUEUE, "P": PHASE}


def told_by(found: list[Found], minutes: int = 10, works: bool = True) -> list[Found | None]:
    """For each run in turn what the owner is told, if anything. ``works``: messages go through."""
    history: list[Seen] = []
    told: list[Found | None] = []
    for number, each in enumerate(found):
        now, run_id = START + timedelta(minutes=minutes * number), f"run {number}"
        decision = decide(history, each, run_id, now)
        if decision.changed:
            history.insert(0, Seen(each, run_id))
        if decision.tell:
            history[0] = replace(history[0], tried_at=now, told_at=now if works else None)
        told.append(each if decision.tell else None)
    return told


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ("w", "."),  # nothing to tell
        ("wwww", "...."),
        ("M", "."),  # a first run may be unlucky
        ("MM", ".M"),
        ("wMM", "..M"),
        ("wMMMMMMMMM", "..M......."),  # once
        ("wMw", "..."),  # never confirmed, so nothing has ended either
        ("wMwMwM", "......"),
        ("wMMw", "..Mw"),  # well again: at once
        ("wMMwwww", "..Mw..."),
        ("wqqMM", "..q.M"),  # worse: its own confirmation
        ("wqMM", "...M"),
        ("wMMqq", "..M.q"),  # better, and not well
        ("wMMPP", "..M.P"),  # as bad, for another cause
        ("wMP", "..P"),  # as bad twice: confirmed, whatever the cause
        ("wMMPPMMMMMMMMM", "..M.P........."),  # each cause once
        ("wMMPMPMPM", "..M......"),  # another cause that no second run finds
        ("wMMwMM", "..Mw.."),  # within the hour of the same code
        ("wMMwMMMMMM", "..Mw....M."),  # and told when the hour is over
        ("wMMwMwMM", "..Mw...."),  # what ended before it was told again is not told as ended
        ("wMMwPP", "..Mw.P"),  # another code may come at once
        ("wMMwPPw", "..Mw.P."),  # but not the second good news
        ("wMMwPPwwww", "..Mw.P...w"),  # which comes when the hour is over
    ],
)
def test_what_runs_find_one_after_the_other_and_what_is_told(runs: str, told: str) -> None:
    names = {found: letter for letter, found in LETTERS.items()}
    found = told_by([LETTERS[letter] for letter in runs])
    assert "".join(names[each] if each else "." for each in found) == told


def test_what_could_not_be_sent_is_due_again_with_each_run() -> None:
    found = [WELL, MAIL, MAIL, MAIL, MAIL]
    assert told_by(found, works=False) == [None, None, MAIL, MAIL, MAIL]


def test_one_of_two_runs_that_end_at_once_tells() -> None:
    trying = [Seen(MAIL, "one", tried_at=START)]
    for seconds, tells in ((0, False), (59, False), (60, True)):
        decision = decide(trying, MAIL, "three", START + timedelta(seconds=seconds))
        assert (decision.changed, decision.tell) == (False, tells)
    assert timedelta(minutes=1) == UNDER_WAY


def test_the_run_that_found_it_first_confirms_nothing() -> None:
    seen = [Seen(MAIL, "one")]
    assert not decide(seen, MAIL, "one", START).tell
    assert decide(seen, MAIL, "two", START).tell


@given(st.lists(st.sampled_from(list(LETTERS.values())), max_size=60), st.integers(1, 90))
def test_whatever_runs_find(found: list[Found], minutes: int) -> None:
    told = told_by(found, minutes)
    times = [(number * minutes, each) for number, each in enumerate(told) if each]
    for code in {each.code for _, each in times}:
        of_code = [at for at, each in times if each.code == code]
        assert all(later - at >= SAME_CODE.seconds / 60 for at, later in pairwise(of_code))
    heard = [WELL, *(each for _, each in times)]
    assert all(before != after for before, after in pairwise(heard)), "nothing is told twice"
    for number, each in enumerate(told):
        if each and each.status != OK:
            assert found[number - 1].status == each.status, "a second run has found it"
