"""Migrations that were released never change: databases out there have applied them."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.migrations.files import load_migrations

SQL = Path(__file__).parents[2] / "sql"
# Of version 2.0.0. A later version adds its files here when it is released.
RELEASED = {
    "0001_migration_helpers": "4460039f4d23a569710b79e47cabc61562b121f64d0bac14a462d2df449d3de6",
    "0002_host_tables": "06fa6173b6b580efbec348dee4bc0966c077411221abec155a6c8068e6b54c05",
    "0003_plans": "c10124950e58acb7aaaa00e2a275741c4c475bf62f6ecde6e6cc59a48a59b302",
    "0004_engine_tables": "49c74ba0e3ef5678283e6888eddf35bf3b8b6ff39ed476c78995388a38d53709",
    "0005_run_history": "e8274707861945579a3b11468f809bcfc5bc5afc809e33c5d988facb665a2b97",
    "0006_repair": "398093abf9675aabe9e741273f517766e7ac0e0ff0fe31690417a4e542d1c77a",
    "0007_health_counts": "2f2c09a367342cc497261607756465154da9d0d50a195afcb660c633286bdca4",
    "0008_health_triggers": "c53755c79c49fc0c38dc64401edec447ec6fb4590a34203f2e0392b502acc618",
    "0009_health_rebuild": "3cef86a99d0f6474166a83bf6093ed2a06045d6767250c5c515dc233738c24d2",
    "0010_send_queue": "7a6c200d493d6b9256c078c58852d9f49f9644a962d148a2d75adc018a0d609b",
    "0011_channel_state": "307b189519b982f25f28ab239feed60cf49983ff17c0e3a99824856048ac27b7",
    "0012_unsubscribe": "a152edebcfea8a617d773758dffb04361049f394375c1580920541486a54bfec",
    "0013_owner": "c6e1a95ef29d342da01042834717ee0ff90b93e0e066af040b526e9498ffeb77",
}


@pytest.mark.parametrize("name", RELEASED)
def test_released_migration_is_what_it_was(name: str) -> None:
    found = {each.name: each.checksum for each in load_migrations(SQL)}
    assert found.get(name) == RELEASED[name], (
        f"{name} has been released: restore it and put the change into a new file"
    )


def test_new_migrations_come_after_the_released_ones() -> None:
    names = [each.name for each in load_migrations(SQL)]
    assert names[: len(RELEASED)] == list(RELEASED)
