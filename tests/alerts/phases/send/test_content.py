"""What the messages of claimed rows say, and to whom they go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from tests.support.queue_world import add_digest
from tests.support.world import (
    RememberingChannel,
    add_alert,
    add_delivery,
    add_user,
    all_channels,
    run,
)


@pytest.fixture
def user(conn: Connection) -> Iterator[int]:
    yield add_user(conn, "pro", telegram="77001", phone="+31610000001")


def test_digest_says_every_one_of_its_items(conn: Connection, database_url: str, user: int) -> None:
    headlines = [f"Terminal {number} closes" for number in range(30)]
    events = [add_alert(conn, headline=headline) for headline in headlines]
    add_digest(conn, user, events)
    channel = RememberingChannel()
    run(database_url, "c", channels=all_channels(email=channel))
    (message,) = channel.sent
    assert all(headline in message.text and headline in message.html for headline in headlines)
    assert message.destination == f"{user}.user@example.com"


def test_each_channel_gets_its_own_address_and_form(
    conn: Connection, database_url: str, user: int
) -> None:
    event = add_alert(conn, headline="Terminal closes")
    for name in ("email", "telegram", "sms"):
        add_delivery(conn, user, event, name)
    channels = all_channels()
    run(database_url, "c", channels=channels)
    sent = {name: channel.sent[0] for name, channel in channels.items()}
    assert sent["email"].destination == f"{user}.user@example.com"
    assert sent["telegram"].destination == "77001"
    assert sent["sms"].destination == "+31610000001"
    assert all("Terminal closes" in message.text for message in sent.values())


def test_every_attempt_at_a_row_has_the_same_key(
    conn: Connection, database_url: str, user: int
) -> None:
    row = add_delivery(conn, user, add_alert(conn))
    channel = RememberingChannel()
    for _ in range(2):
        run(database_url, "c", channels=all_channels(email=channel))
        db.execute(conn, "UPDATE user_alert_deliveries SET status = 'queued' WHERE id = %s", (row,))
    first, second = (message.key for message in channel.sent)
    assert first == second
    assert len(first) <= 64
