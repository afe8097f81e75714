"""The list of channels as SQL: each channel's capabilities and its address column."""

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

# So many permanent refusals in a row of one user and channel, and the address counts as none until
# it changes.
REFUSALS_OF_AN_ADDRESS = 3

_COLUMNS = [name for kind in KINDS for name in (kind.destination, kind.verified) if name]
# The columns of ``users`` that :func:`destination` reads.
USER_COLUMNS = sql.SQL(", ").join(sql.Identifier(name) for name in dict.fromkeys(_COLUMNS))


# Invisible characters in an address, as the contents of regular expression brackets. White space
# and control characters are removed only at both ends: an address with one inside is invalid and
# must not turn into another person's. Zero-width characters (soft hyphens, direction marks,
# fillers, variation selectors, tags) are removed everywhere. The two joiners are kept only between
# letters of scripts that need them.
_SPACE = r"\u0001-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2800\u3000"
_NO_WIDTH = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    r"\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_JOINERS = r"\u200c\u200d"
_ASCII = r"[\u0001-\u007f]"
UNSEEN = "|".join(
    (
        f"^[{_SPACE}{_NO_WIDTH}{_JOINERS}]+",
        f"[{_SPACE}{_NO_WIDTH}{_JOINERS}]+$",
        f"[{_NO_WIDTH}{_JOINERS}]+(?={_ASCII})",
        f"(?<={_ASCII})[{_NO_WIDTH}{_JOINERS}]+",
        f"[{_NO_WIDTH}]+",
    )
)


def destination(user: str, channel: str) -> sql.Composed:
    """The user's address on a channel, without :data:`UNSEEN` characters; NULL if there is none.

    ``user`` is the alias of a row with :data:`USER_COLUMNS`, ``channel`` the alias of a row with a
    column ``channel``.
    """
    cases = sql.SQL(" ").join(_case(user, kind) for kind in KINDS if kind.destination)
    return sql.SQL(
        "nullif(regexp_replace(CASE {channel} {cases} END, {unseen}, '', 'g'), '')"
    ).format(channel=sql.Identifier(channel, "channel"), cases=cases, unseen=sql.Literal(UNSEEN))


def unverified(user: str, channel: str) -> sql.Composed:
    """Whether the user has an address on a channel that is ignored because it is not verified.

    The arguments are those of :func:`destination`.
    """
    cases = sql.SQL(" ").join(
        sql.SQL("WHEN {} THEN {} IS FALSE AND {} IS NOT NULL").format(
            sql.Literal(kind.name),
            sql.Identifier(user, kind.verified),
            sql.Identifier(user, str(kind.destination)),
        )
        for kind in KINDS
        if kind.verified
    )
    return sql.SQL("CASE {} {} ELSE FALSE END").format(sql.Identifier(channel, "channel"), cases)


def _case(user: str, kind: ChannelKind) -> sql.Composed:
    address = sql.SQL("{}::text").format(sql.Identifier(user, str(kind.destination)))
    if kind.verified:
        address = sql.SQL("CASE WHEN {} IS NOT FALSE THEN {} END").format(
            sql.Identifier(user, kind.verified), address
        )
    return sql.SQL("WHEN {} THEN {}").format(sql.Literal(kind.name), address)
