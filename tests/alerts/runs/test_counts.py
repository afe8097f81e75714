"""Counts that are stored hold nothing but integers, booleans and codes, and add up."""

import json
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.runs import counts as table
from alerts.runs.counts import COUNTS, UNSAFE, adds_up, checked, in_order, words

SAFE = {"sent": 3, "on": True, "why": None, "stopped_early": "rate_limited", "email": {"sent": 1}}


def test_integers_booleans_codes_and_objects_of_them_pass_unchanged() -> None:
    assert checked(SAFE) == (SAFE, [])


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (Decimal("3"), 3),
        (2.0, 2),
        (Decimal("2.5"), UNSAFE),
        (float("nan"), UNSAFE),
        (float("inf"), UNSAFE),
        (Decimal("Infinity"), UNSAFE),
        (date(2022, 3, 8), UNSAFE),
        ("user@example.com", UNSAFE),
        ("Pipeline stops", UNSAFE),
        ([1, 2], UNSAFE),
        (b"x", UNSAFE),
    ],
)
def test_anything_else_becomes_something_safe_and_is_named(value: object, stored: object) -> None:
    assert checked({"n": {"deep": value}}) == ({"n": {"deep": stored}}, ["n.deep"])


def test_a_key_that_is_no_code_is_replaced() -> None:
    assert checked({"user@example.com": 1, 7: 2}) == (
        {f"{UNSAFE}_0": 1, f"{UNSAFE}_1": 2},
        [f"{UNSAFE}_0", f"{UNSAFE}_1"],
    )


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text() | st.integers(), anything))
def test_whatever_comes_can_be_stored(counts: dict[object, object]) -> None:
    stored, _ = checked(counts)
    assert checked(json.loads(json.dumps(stored))) == (stored, [])


@pytest.mark.parametrize(
    ("phase", "counts", "right"),
    [
        ("a", {"events_created": 3, "regional_risk_spikes": 1, "asset_risk_spikes": 2}, True),
        ("a", {"events_created": 3, "regional_risk_spikes": 1}, False),
        ("b", {"deliveries_created": 2, "instant_created": 1, "digest_created": 1}, True),
        ("b", {"deliveries_considered": 5, "deliveries_created": 0}, False),
        ("b", {"deliveries_considered": 5, "deliveries_skipped_prefs": 5}, True),
        ("d", {"digest_items_attached": 2, "deliveries_marked_batched": 1}, False),
        ("c", {"deliveries": {"claimed": 3, "sent": 2, "skipped_expired": 1}}, True),
        ("c", {"deliveries": {"claimed": 3, "sent": 3}, "digests": {"claimed": 1}}, False),
        ("c", {}, True),
        ("a", {"skipped": "lock_not_acquired"}, True),
    ],
)
def test_totals_are_compared_with_their_parts(
    phase: str, counts: dict[str, object], right: bool
) -> None:
    assert adds_up(phase, counts) is right


def test_each_count_stands_in_the_table_once_with_words_of_its_own() -> None:
    names = [count.name for count in COUNTS]
    assert len(set(names)) == len(names)
    assert len({count.words for count in COUNTS}) == len(names)
    assert all(count.words.isprintable() and "_" not in count.words for count in COUNTS)


def test_totals_and_parts_are_counts_of_the_table() -> None:
    known = {count.name for count in COUNTS}
    for funnels in table._FUNNELS.values():
        for total, parts in funnels:
            for name in (total, *parts):
                prefix = name.removesuffix("*")
                assert name in known or any(prefix != name and k.startswith(prefix) for k in known)


def test_what_the_table_does_not_know_comes_last_under_its_name() -> None:
    found = in_order({"brand_new": 1, "sent": 2, "events_created": 3})
    assert [name for name, _ in found] == ["events_created", "sent", "brand_new"]
    assert [words(name) for name, _ in found] == ["events created", "sent", "brand new"]
