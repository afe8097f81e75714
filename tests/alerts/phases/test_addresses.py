"""Addresses as people paste them: used without what nobody sees, in fan-out and in sending."""

from __future__ import annotations

import unicodedata

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels.names import KINDS
from alerts.engine import RunRequest, run_engine
from alerts.phases.channel_sql import UNSEEN
from tests.support.mailserver import MailServer
from tests.support.phases import verdicts
from tests.support.provider_runs import CHANNEL_OF, SENDER, environ
from tests.support.providers import HttpProvider
from tests.support.world import (
    NOW,
    add_alert,
    add_delivery,
    add_pref,
    add_user,
    counts_of,
    settings_for,
    value,
)

WHITE_SPACE = {
    "spaces": "  ",
    "line ends": "\r\n",
    "other line ends": "\u2028\u2029\u0085\v\f",
    "tab": "\t",
    "no-break spaces": "\u00a0\u202f",
    "typographic spaces": "\u2002\u2003\u2009\u200a\u205f",
    "ideographic space": "\u3000",
    "Ogham and Braille spaces": "\u1680\u2800",
    "control characters": "\x01\x1b\x7f\x9f",
}
NO_WIDTH = {
    "zero-width space": "\u200b",
    "joiners": "\u200c\u200d",
    "byte order mark": "\ufeff",
    "word joiner": "\u2060",
    "soft hyphen": "\u00ad",
    "direction marks": "\u200e\u200f\u061c",
    "embeddings and overrides": "\u202a\u202b\u202d\u202e\u202c",
    "isolates": "\u2066\u2067\u2068\u2069",
    "invisible operators": "\u2061\u2062\u2063\u2064",
    "variation selectors": "\ufe0e\ufe0f\U000e0100",
    "fillers": "\u115f\u1160\u3164\uffa0",
    "Mongolian separators": "\u180b\u180e",
    "tags": "\U000e0041\U000e007f",
}
UNSEEN_KINDS = WHITE_SPACE | NO_WIDTH
# Of the format characters those that are seen: signs around numbers and hieroglyphs.
SEEN_FORMATS = (
    *("ARABIC NUMBER", "ARABIC SIGN", "ARABIC FOOTNOTE", "ARABIC END OF", "ARABIC DISPUTED"),
    *("ARABIC POUND", "ARABIC PIASTRE", "SYRIAC", "KAITHI", "EGYPTIAN"),
)
ADDRESSES = {"email": "jo@example.com", "telegram": "-100200300", "sms": "+31612345678"}
COLUMNS = {kind.name: kind.destination for kind in KINDS if kind.destination}


def user_at(conn: Connection, channel: str, address: str) -> int:
    """A user whom everything interests and who has this address only."""
    user = add_user(conn, "pro", email=None)
    add_pref(conn, user)
    column = COLUMNS[channel]
    db.execute(conn, f"UPDATE users SET {column} = %s WHERE id = %s", (address, user))
    return user


def pasted(plain: str, number: int) -> list[tuple[str, str]]:
    """Addresses with each kind of unseen characters in each place, and what they mean: the plain
    one and a number, so that no two are the same."""
    found = []
    for unseen in UNSEEN_KINDS.values():
        for around in ("{0}{1}", "{1}{0}", "{0}{1}{0}"):
            number += 1
            means = f"{plain[:2]}{number}{plain[2:]}"
            found.append((around.format(unseen, means), means))
    for unseen in NO_WIDTH.values():
        number += 1
        means = f"{plain[:2]}{number}{plain[2:]}"
        found.append((f" {unseen}{unseen.join(means)}{unseen}\n", means))
    return found


@pytest.mark.parametrize("channel", ADDRESSES)
def test_fan_out_reaches_pasted_addresses_and_misses_those_of_nothing_visible(
    conn: Connection, channel: str
) -> None:
    seen = [user_at(conn, channel, address) for address, _ in pasted(ADDRESSES[channel], 100)]
    unseen = [user_at(conn, channel, text * 2) for text in UNSEEN_KINDS.values()]
    unseen.append(user_at(conn, channel, "".join(UNSEEN_KINDS.values())))
    found = verdicts(conn, add_alert(conn))
    assert {found[user, channel] for user in seen} == {"instant"}
    assert {found[user, channel] for user in unseen} == {"missing_destination"}


@pytest.mark.parametrize("provider_name", [*CHANNEL_OF, "smtp"])
def test_providers_get_pasted_addresses_plain(
    conn: Connection, database_url: str, provider_name: str
) -> None:
    channel = CHANNEL_OF.get(provider_name, "email")
    addresses = pasted(ADDRESSES[channel], 100)
    event = add_alert(conn)
    for address, _ in addresses:
        add_delivery(conn, user_at(conn, channel, address), event, channel)
    nowhere = user_at(conn, channel, "".join(UNSEEN_KINDS.values()))
    add_delivery(conn, nowhere, event, channel)
    with HttpProvider() as provider, MailServer() as server:
        by_mail = {**SENDER, "SMTP_URL": f"smtp://127.0.0.1:{server.port}"}
        settings = environ(provider).get(provider_name, by_mail)
        report = run_engine(settings_for(database_url, **settings), RunRequest(phase="c", now=NOW))
    counted = counts_of(report, "c")["deliveries"]
    assert (counted["sent"], counted["skipped_missing_destination"]) == (len(addresses), 1)
    got = [message.destination for message in provider.accepted]
    got += [mail.recipient for mail in server.mails]
    assert sorted(got) == sorted(means for _, means in addresses)


@pytest.mark.parametrize(
    "address",
    [
        *("jo.o'neil+gas@example.com", "+31 6 1234 5678", "@channel_name", "josé@exämple.com"),
        *("用户@例子.公司", "नमस्ते@उदाहरण.भारत"),
        "نامه\u200cای@example.com",  # the joiner is a letter of the name
        "jo\r\nBcc: eve@example.com",  # wrong: must not become another address
        "jo smith@example.com",
    ],
)
def test_nothing_else_is_taken_out_of_an_address(conn: Connection, address: str) -> None:
    assert value(conn, "SELECT regexp_replace(%s, %s, '', 'g')", address, UNSEEN) == address


def test_every_white_space_and_format_character_is_known(conn: Connection) -> None:
    """Of Python's Unicode: what a newer one adds is found here."""
    shown = range(0x110000)
    unseen = {chr(n) for n in shown if chr(n).isspace() or unicodedata.category(chr(n)) == "Cf"}
    unseen -= {"\u200c", "\u200d", "\0"}
    seen = {c for c in unseen if unicodedata.name(c, "").startswith(SEEN_FORMATS)}
    left = {
        c for c in sorted(unseen - seen)
        if value(conn, "SELECT regexp_replace(%s, %s, '', 'g')", c, UNSEEN)
    }  # fmt: skip
    assert left == set()
