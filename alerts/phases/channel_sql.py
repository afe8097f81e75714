"""The list of channels as SQL: what each can do, and where each reaches a user."""

from __future__ import annotations

from psycopg2 import sql

from alerts.channels.names import KINDS, ChannelKind

# Rows for VALUES: (channel, digests, quota, sent_on_creation).
CHANNEL_ROWS = sql.SQL(", ").join(
    sql.SQL("({}, {}, {}, {})").format(
        *map(sql.Literal, (kind.name, kind.digests, kind.quota, kind.sent_on_creation))
    )
    for kind in KINDS
)

_COLUMNS = [name for kind in KINDS for name in (kind.destination, kind.verified) if name]
# What :func:`destination` reads of a user.
USER_COLUMNS = sql.SQL(", ").join(sql.Identifier(name) for name in dict.fromkeys(_COLUMNS))


def destination(user: str, channel: str) -> sql.Composed:
    """Where a row of ``users`` is reached on a channel, NULL for nowhere.

    ``user`` is the alias of a row with :data:`USER_COLUMNS`, ``channel`` the alias of one with a
    ``channel``.
    """
    cases = sql.SQL(" ").join(_case(user, kind) for kind in KINDS if kind.destination)
    return sql.SQL("nullif(trim(CASE {channel} {cases} END), '')").format(
        channel=sql.Identifier(channel, "channel"), cases=cases
    )


def _case(user: str, kind: ChannelKind) -> sql.Composed:
    address = sql.SQL("{}::text").format(sql.Identifier(user, str(kind.destination)))
    if kind.verified:
        address = sql.SQL("CASE WHEN {} IS NOT FALSE THEN {} END").format(
            sql.Identifier(user, kind.verified), address
        )
    return sql.SQL("WHEN {} THEN {}").format(sql.Literal(kind.name), address)
