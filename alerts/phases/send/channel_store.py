"""The channels' states in the database, shared by all senders and lasting from run to run."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from alerts import db
from alerts.failures import FailureCode
from alerts.phases.send.channel_state import PROBE_SECONDS, ChannelState
from alerts.phases.send.claims import QUEUES

# The states, the clock that they go by, the key of the settings' hashes and the one that links to
# unsubscribe are signed with. Whether a lease has lapsed is asked here too: it hardly ever has, and
# that saves a round trip.
_READ = """
SELECT
    s.*, clock_timestamp() AS read_at, k.key, signing.key AS signing_key,
    EXISTS (SELECT FROM alerts_leases WHERE until < clock_timestamp()) AS lapsed
FROM alerts_keys AS k
JOIN alerts_keys AS signing ON signing.purpose = 'unsubscribe'
LEFT JOIN alerts_channel_state AS s ON TRUE
WHERE k.purpose = 'settings'
"""

# The migration makes them; a restore of rows alone may have left them out. Others only mean that
# all settings count as changed, and all addresses.
_MAKE_KEYS = """
INSERT INTO alerts_keys (purpose, key)
SELECT purpose, sha256(convert_to(gen_random_uuid()::text || gen_random_uuid()::text, 'UTF8'))
FROM unnest(ARRAY['settings', 'addresses', 'unsubscribe', 'badge']) AS p (purpose)
ON CONFLICT DO NOTHING
"""

# Closes, or closes for longer. Counted once where several senders meet the same trouble: each
# says how many closings it knew of. A longer wish of the provider is kept.
_CLOSE = """
INSERT INTO alerts_channel_state AS s (
    channel, code, detail, closed_since, closed_until, failures, last_success_at,
    last_failure_at, settings_hash
)
VALUES (
    %(channel)s, %(code)s, %(detail)s, clock_timestamp(),
    clock_timestamp() + %(seconds)s * interval '1 second', 1, %(last_success_at)s,
    clock_timestamp(), %(settings_hash)s
)
ON CONFLICT (channel) DO UPDATE
SET code = excluded.code,
    detail = excluded.detail,
    closed_since = coalesce(s.closed_since, excluded.closed_since),
    closed_until = greatest(
        CASE WHEN s.failures <> %(known)s THEN s.closed_until END, excluded.closed_until
    ),
    failures = CASE WHEN s.failures = %(known)s THEN s.failures + 1 ELSE s.failures END,
    last_success_at = greatest(s.last_success_at, excluded.last_success_at),
    last_failure_at = excluded.last_failure_at,
    settings_hash = excluded.settings_hash
RETURNING s.*, clock_timestamp() AS read_at
"""

# One of several senders moves the end ahead, and it alone may send a message. Killed before it
# says what came of that, it delays the next probe no longer. Only where something is due.
_CLAIM_PROBE = """
UPDATE alerts_channel_state AS s
SET closed_until = clock_timestamp() + %(seconds)s * interval '1 second'
WHERE s.channel = %(channel)s AND s.closed_since IS NOT NULL
  AND s.closed_until <= clock_timestamp()
  AND EXISTS (
      SELECT
      FROM alerts_send_queue AS q
      WHERE q.source = ANY (%(sources)s) AND q.channel = s.channel AND q.due_at <= %(now)s
        AND (%(allowlist)s::bigint[] IS NULL OR q.user_id = ANY (%(allowlist)s::bigint[]))
  )
  AND NOT EXISTS (SELECT FROM alerts_pauses AS p WHERE p.channel IN ('all', s.channel))
RETURNING s.*, clock_timestamp() AS read_at
"""

# There was nothing to send after all: whoever has something may probe.
_GIVE_PROBE_BACK = """
UPDATE alerts_channel_state
SET closed_until = clock_timestamp()
WHERE channel = %(channel)s AND closed_since IS NOT NULL
"""

_OPEN = """
UPDATE alerts_channel_state
SET closed_since = NULL, closed_until = NULL, code = NULL, detail = NULL, failures = 0
WHERE channel = ANY (%(channels)s) AND closed_since IS NOT NULL
"""

# Judged anew by each run: without an end, and no closing in a row.
_MISCONFIGURED = """
INSERT INTO alerts_channel_state AS s (channel, code, closed_since)
SELECT channel, %(code)s, clock_timestamp() FROM unnest(%(channels)s) AS c (channel)
ON CONFLICT (channel) DO UPDATE
SET code = excluded.code, detail = NULL, closed_until = NULL, settings_hash = NULL,
    closed_since = coalesce(s.closed_since, excluded.closed_since)
"""

_SWITCH = """
INSERT INTO alerts_channel_state (channel, switched_off)
SELECT channel, switched_off
FROM unnest(%(channels)s, %(switched_off)s) AS c (channel, switched_off)
ON CONFLICT (channel) DO UPDATE SET switched_off = excluded.switched_off
"""

_SUCCEEDED = """
INSERT INTO alerts_channel_state AS s (channel, last_success_at)
SELECT channel, last_success_at
FROM unnest(%(channels)s, %(times)s::timestamptz[]) AS c (channel, last_success_at)
ON CONFLICT (channel) DO UPDATE
SET last_success_at = greatest(s.last_success_at, excluded.last_success_at)
"""


class Read(dict[str, ChannelState]):
    """States by channel; a channel that was never heard of is open.

    ``at`` is the database's time of it, ``key`` what the settings' hashes are made with,
    ``signing_key`` what links are signed with; ``lapsed`` says whether a lost run left a lease
    behind.
    """

    def __init__(
        self,
        states: Iterable[ChannelState],
        at: datetime,
        key: bytes,
        signing_key: bytes,
        *,
        lapsed: bool,
    ) -> None:
        super().__init__({state.channel: state for state in states})
        self.at = at
        self.key = key
        self.signing_key = signing_key
        self.lapsed = lapsed

    def __missing__(self, channel: str) -> ChannelState:
        return ChannelState(channel)


def read(conn: db.Connection) -> Read:
    """The states of all channels."""
    rows = db.fetch_all(conn, _READ)
    if not rows:
        db.execute(conn, _MAKE_KEYS)
        rows = db.fetch_all(conn, _READ)
    states = [_state(row) for row in rows if row["channel"] is not None]
    first = rows[0]
    keys = bytes(first["key"]), bytes(first["signing_key"])
    return Read(states, first["read_at"], *keys, lapsed=first["lapsed"])


def close(
    conn: db.Connection,
    state: ChannelState,
    code: FailureCode,
    seconds: float,
    settings_hash: str,
    *,
    detail: str = "",
    late: bool = False,
) -> tuple[ChannelState, datetime]:
    """Close a channel that was last known as ``state``; how it stands now, and the time of it.

    ``late``: it is closed already and this is no closing of its own; at most it gets longer.
    """
    values = {
        "channel": state.channel,
        "code": code.value,
        "detail": detail,
        "seconds": seconds,
        "known": -1 if late else state.failures,
        "last_success_at": state.last_success_at,
        "settings_hash": settings_hash,
    }
    row = db.fetch_all(conn, _CLOSE, values)[0]
    return _state(row), row["read_at"]


def claim_probe(
    conn: db.Connection, channel: str, now: datetime, allowlist: Sequence[int] | None
) -> ChannelState | None:
    """The state where this sender is the one that may send a message; else None.

    ``now`` is business time, by which messages are due.
    """
    values = {
        "channel": channel,
        "seconds": PROBE_SECONDS,
        "sources": [queue.name for queue in QUEUES],
        "now": now,
        "allowlist": None if allowlist is None else list(allowlist),
    }
    row = db.fetch_one(conn, _CLAIM_PROBE, values)
    return None if row is None else _state(row)


def give_probe_back(conn: db.Connection, channel: str) -> None:
    """Let others probe at once."""
    db.execute(conn, _GIVE_PROBE_BACK, {"channel": channel})


def open_channels(conn: db.Connection, channels: Iterable[str]) -> int:
    """Open what is closed; how many were."""
    return db.execute(conn, _OPEN, {"channels": list(channels)})


def note_misconfigured(conn: db.Connection, channels: Iterable[str]) -> None:
    """Close channels whose settings cannot be used, until a run finds others."""
    code = FailureCode.MISCONFIGURED.value
    db.execute(conn, _MISCONFIGURED, {"channels": list(channels), "code": code})


def note_switched_off(conn: db.Connection, channels: Mapping[str, bool]) -> None:
    """Remember which channels the owner has switched off, and which no longer."""
    values = {"channels": list(channels), "switched_off": list(channels.values())}
    db.execute(conn, _SWITCH, values)


def note_success(conn: db.Connection, times: Mapping[str, datetime]) -> None:
    """Remember when each channel last took a message."""
    db.execute(conn, _SUCCEEDED, {"channels": list(times), "times": list(times.values())})


def hash_of(key: bytes, settings: str) -> str:
    """Tells whether settings have changed, and nothing else of them."""
    return hmac.new(key, settings.encode(), hashlib.sha256).hexdigest()


def _state(row: Mapping[str, Any]) -> ChannelState:
    values = {each.name: row[each.name] for each in fields(ChannelState)}
    code = values.pop("code")
    return ChannelState(**values, code=FailureCode(code) if code else None)
