"""The list of channels agrees with what SQL and the other rooms must say for themselves."""

from __future__ import annotations

import re
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import connection as Connection

from alerts.channels import PROVIDERS
from alerts.channels.names import CHANNELS, DIGEST_CHANNELS, KINDS, SEND_CHANNELS
from alerts.messages import Style, render_alert, render_digest
from alerts.owner import trials
from tests.support.messages import ALERT
from tests.support.world import NOW, query

STYLE = Style(app_base_url=None, timezone=ZoneInfo("UTC"))
CHECKS = {
    "user_alert_deliveries": CHANNELS,
    "user_alert_digests": DIGEST_CHANNELS,
    "user_channel_prefs": CHANNELS,
    "alerts_pauses": ("all", *SEND_CHANNELS),
    "alerts_channel_state": SEND_CHANNELS,
    "alerts_refused_addresses": SEND_CHANNELS,
    "alerts_test_messages": trials.CHANNELS,
}


def test_every_check_of_a_channel_lists_the_channels(conn: Connection) -> None:
    rows = query(
        conn,
        "SELECT c.conrelid::regclass::text AS table, pg_get_constraintdef(c.oid) AS text"
        " FROM pg_constraint AS c"
        " JOIN pg_attribute AS a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]"
        " WHERE c.contype = 'c' AND a.attname = 'channel'",
    )
    found = {row["table"]: set(re.findall(r"'(\w+)'", row["text"])) for row in rows}
    assert found == {table: set(names) for table, names in CHECKS.items()}
    assert len(rows) == len(found)


def test_plans_have_a_limit_for_each_channel_and_a_quota_only_where_the_list_says_so(
    conn: Connection,
) -> None:
    rows = query(conn, "SELECT * FROM plan_channel_limits WHERE plan_code = 'enterprise'")
    assert {row["channel"]: row["instant_per_day"] is not None for row in rows} == {
        kind.name: kind.quota for kind in KINDS
    }


def test_destinations_are_columns_of_users(conn: Connection) -> None:
    rows = query(
        conn,
        "SELECT column_name, data_type FROM information_schema.columns"
        " WHERE table_name = 'users' AND table_schema = 'public'",
    )
    types = {row["column_name"]: row["data_type"] for row in rows}
    for kind in KINDS:
        assert kind.destination is None or kind.destination in types
        assert kind.verified is None or types[kind.verified] == "boolean"


def test_names_are_there_once_and_all_that_is_not_sent_has_neither_digests_nor_quota() -> None:
    assert len(set(CHANNELS)) == len(CHANNELS)
    for kind in KINDS:
        assert not (kind.sent_on_creation and (kind.digests or kind.quota or kind.verified))


@pytest.mark.parametrize("channel", CHANNELS)
def test_what_is_sent_has_a_provider_of_its_own_and_texts(channel: str) -> None:
    serving = [each for each in PROVIDERS if channel in each.channels and each.credentials]
    assert bool(serving) == (channel in SEND_CHANNELS)
    if channel in SEND_CHANNELS:
        assert render_alert(channel, ALERT, STYLE).text
    else:
        with pytest.raises(ValueError, match="no alerts on channel"):
            render_alert(channel, ALERT, STYLE)
    if channel in DIGEST_CHANNELS:
        assert render_digest(channel, [ALERT], "daily", NOW, NOW, STYLE).text
    else:
        with pytest.raises(ValueError, match="no digests on channel"):
            render_digest(channel, [ALERT], "daily", NOW, NOW, STYLE)


def test_providers_have_names_of_their_own_and_serve_channels_that_are_sent() -> None:
    names = [provider.name for provider in PROVIDERS]
    assert len(set(names)) == len(names)
    assert {name for provider in PROVIDERS for name in provider.channels} == set(SEND_CHANNELS)
