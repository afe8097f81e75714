"""Complaints about a single message, and what ``explain`` says to each.

Built once and shared by the tests of the answer, the command and the pages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from tests.support.explain_world import (
    LONG_AGO,
    SPIKE,
    Make,
    after,
    delivered,
    failed,
    handed_out,
    in_digest,
    on_allowlist,
    over_quota,
    pending,
    preferring,
    quota_full,
    reader,
    refused_three_times,
    sms_digests_only,
    switched_off,
    unsubscribed,
    unverified,
    without,
)
from tests.support.world import NOW, add_alert, add_user


@dataclass(frozen=True)
class Complaint:
    """``make`` inserts the rows and gives the event and the user; ``says`` is the sentence about
    ``channel``, ``does`` the action told with it, ``page`` where more is shown."""

    incident: int
    name: str
    make: Make
    says: str
    channel: str = "email"
    does: str | None = None
    page: str | None = None
    secrets: tuple[str, ...] = field(default=("somebody", "77001", "+31610000001"))


_RETRY = "/ops/retry?kind=deliveries&channel=email&failure_code="
_MESSAGE = "/ops/messages/{delivery}"
_OTHER = "Ask the user for another one."
_LIFT = "Empty ALERTS_SEND_ALLOWLIST_USER_IDS where the runs get their variables."
_ONCE_GONE = "Once the cause is gone, retry it, those given up included."
_IN_DOUBT = "Look it up with the provider; if it did not arrive, retry those in doubt."

COMPLAINTS = (
    Complaint(
        14, "parked: no answer came", failed("outcome_unknown"),
        "Not known since 18:55: no answer came, so it may or may not have been delivered. It is "
        "not sent again by itself.",
        does=_IN_DOUBT, page=f"{_RETRY}outcome_unknown&include=unknown",
    ),
    Complaint(
        14, "parked: the run died", failed("sender_lost"),
        "Not known since 18:55: the run died while sending, so it may or may not have been "
        "delivered. It is not sent again by itself.",
        does=_IN_DOUBT, page=f"{_RETRY}sender_lost&include=unknown",
    ),
    Complaint(
        15, "attempts exhausted: trouble", failed("provider_unavailable", 5),
        "Given up at 18:55 after 5 attempts: the provider was out of order.",
        does=_ONCE_GONE, page=f"{_RETRY}provider_unavailable&include=exhausted",
    ),
    Complaint(
        15, "attempts exhausted: turned away", failed("policy_refused", 5),
        "Given up at 18:55 after 5 attempts: the recipient's mail server turned us away for now.",
        does=_ONCE_GONE, page=f"{_RETRY}policy_refused&include=exhausted",
    ),
    Complaint(
        15, "attempts exhausted: the message", failed("payload_invalid"),
        "Given up at 18:55 after 1 attempt: the provider does not take this message.",
        page=_MESSAGE,
    ),
    Complaint(
        16, "blocked on Telegram", failed("recipient_blocked", channel="telegram"),
        "Not sent: the user has blocked us on Telegram (refused at 18:55). Sending again will not "
        "help.",
        "telegram", "Ask the user to unblock us.", _MESSAGE,
    ),
    Complaint(
        16, "opted out of SMS", failed("recipient_blocked", channel="sms"),
        "Not sent: the user has blocked us on SMS (refused at 18:55). Sending again will not help.",
        "sms", "Ask the user to unblock us.", _MESSAGE,
    ),
    Complaint(
        17, "quota used up: email waits for its digest", over_quota,
        "Waits for the digest of 8 March 2022, which goes with the first run after Wednesday 00:00 "
        "(3 of the day's 3 instant alerts were used).",
        page=_MESSAGE,
    ),
    Complaint(
        17, "quota used up: SMS has no digest", lambda conn: quota_full(conn, "sms", 15, "pro"),
        "Not sent: 15 of the day's 15 SMS alerts were used, and SMS has no digest for the rest.",
        "sms",
    ),
    Complaint(
        18, "all preferences off", preferring({"enabled": False}, {"enabled": False}),
        "Not sent: all 2 of the user's preferences are switched off; at least one of them would "
        "match.",
    ),
    Complaint(
        18, "the only preference off", preferring({"enabled": False}),
        "Not sent: the user's only preference is switched off; switched on, it would match.",
    ),
    Complaint(
        18, "the only preference off, and no match",
        preferring({"enabled": False, "region": "Asia"}),
        "Not sent: the user's only preference is switched off.",
    ),
    Complaint(
        18, "the matching one off", preferring({"enabled": False}, {"region": "Asia"}),
        "Not sent: a preference of the user that would match is switched off.",
    ),
    Complaint(
        18, "the closest one off and for another region",
        preferring(
            {"enabled": False, "region": "Asia"}, {"region": "Asia", "asset": "gas", "threshold": 9}
        ),
        "Not sent: the closest of the user's preferences, one that is switched off, is for Asia, "
        "and this alert is about Europe.",
    ),
    Complaint(
        18, "the one switched off is closer than another region, not than a threshold",
        preferring({"enabled": False}, {"region": "Asia"}, {"threshold": 4.5}, severity=4),
        "Not sent: the closest of the user's preferences asks for a severity of at least 4.5, and "
        "this alert has 4, 0.5 too low.",
    ),
    Complaint(
        18, "short of a severity", preferring({"threshold": 4.5}, severity=4),
        "Not sent: the user's only preference asks for a severity of at least 4.5, and this alert "
        "has 4, 0.5 too low.",
    ),
    Complaint(
        18, "short of a score",
        preferring({"threshold": 80}, {"threshold": 75}, {"region": "Asia"}, **SPIKE),
        "Not sent: the closest of the user's preferences asks for a risk score of at least 75, and "
        "this alert has 72.5, 2.5 too low.",
    ),
    Complaint(
        18, "another region",
        preferring({"region": "Middle East", "alert_type": "HIGH_IMPACT_EVENT"}),
        "Not sent: the user's only preference is for Middle East, and this alert is about Europe.",
    ),
    Complaint(
        18, "another asset", preferring({"asset": "gas"}, assets=["oil", "freight"]),
        "Not sent: the user's only preference is for gas, and this alert is about oil and freight.",
    ),
    Complaint(
        18, "no asset", preferring({"asset": "gas"}),
        "Not sent: the user's only preference is for gas, and this alert is about no asset in "
        "particular.",
    ),
    Complaint(
        18, "another type", preferring({"alert_type": "ASSET_RISK_SPIKE"}, **SPIKE),
        "Not sent: the user's only preference is for asset risk spikes, and this alert is a "
        "regional risk spike.",
    ),
    Complaint(
        18, "several conditions",
        preferring({"alert_type": "ASSET_RISK_SPIKE", "region": "Asia", "threshold": 80}, **SPIKE),
        "Not sent: the user's only preference differs in type, region and the risk score it asks "
        "for.",
    ),
    Complaint(
        18, "no preferences",
        lambda conn: (handed_out(conn, region="Asia", severity=3), add_user(conn)),
        "Not sent: the user has set no preferences, which means high-impact events in Europe of "
        "severity 4 or more, and this alert is about Asia and has 3, 1 too low.",
    ),
    Complaint(
        18, "the channel off", switched_off("telegram", {}),
        "Not sent: the user has switched Telegram off.",
        "telegram",
    ),
    Complaint(
        18, "the channel off, and no match", switched_off("telegram", {"region": "Asia"}),
        "Not sent: the user has switched Telegram off, and no preference of theirs matches either.",
        "telegram",
    ),
    Complaint(
        18, "digests only, by SMS", sms_digests_only,
        "Not sent: the user wants digests only, which SMS does not have.",
        "sms",
    ),
    Complaint(
        18, "switched off after it was queued",
        delivered(status="skipped", failure_code="channel_disabled"),
        "Not sent: the user has switched email off.",
        page=_MESSAGE,
    ),
    Complaint(
        19, "the type is not in the plan",
        lambda conn: (handed_out(conn, **SPIKE), reader(conn, "free")),
        "Not sent: the Free plan does not include regional risk spikes.",
    ),
    Complaint(
        19, "no plan, which is the free one",
        lambda conn: (
            handed_out(conn, **{**SPIKE, "alert_type": "ASSET_RISK_SPIKE"}),
            reader(conn, None),
        ),
        "Not shown: the Free plan does not include asset risk spikes.",
        "account",
    ),
    Complaint(
        19, "the channel is not in the plan",
        lambda conn: (handed_out(conn), reader(conn, "personal")),
        "Not sent: the Personal plan does not include Telegram.",
        "telegram",
    ),
    Complaint(
        20, "an allowlist, of old", after(on_allowlist, pending()),
        "Will not be sent: an allowlist has been on since 7 March 2022 12:00, and this user is not "
        "on it.",
        does=_LIFT, page="/ops/setup",
    ),
    Complaint(
        20, "an allowlist, and queued before", after(on_allowlist, delivered()),
        "Has waited since 18:55: an allowlist has been on since 7 March 2022 12:00, and this user "
        "is not on it.",
        does=_LIFT, page="/ops/setup",
    ),
    Complaint(
        21, "a digest of today", in_digest(NOW + timedelta(hours=5)),
        "Waits for the digest of 8 March 2022, which goes with the first run after Wednesday 00:00 "
        "(the user has chosen digests).",
        page="/ops/digests/{digest}",
    ),
    Complaint(
        21, "a digest that is due", in_digest(NOW - timedelta(hours=19)),
        "Has waited in the digest of 7 March 2022 since 00:00, goes out with the next run.",
        page="/ops/digests/{digest}",
    ),
    Complaint(
        21, "a digest that has gone",
        in_digest(NOW - timedelta(hours=19), status="sent", sent_at=NOW - timedelta(hours=18)),
        "Sent in the digest of 7 March 2022 at 01:00.",
        page="/ops/digests/{digest}",
    ),
    Complaint(
        21, "a digest to come",
        lambda conn: (add_alert(conn), reader(conn, "free")),
        "Will go into the digest of 8 March 2022, which goes with the first run after Wednesday "
        "00:00 (the Free plan has no instant alerts by email).",
    ),
    Complaint(
        35, "the address is refused", failed("recipient_invalid"),
        "Not sent: at 18:55 the user's email address was refused as not valid or not existing. "
        "Sending again will not help.",
        does=_OTHER, page=_MESSAGE,
    ),
    Complaint(
        35, "the phone number is refused", failed("recipient_invalid", channel="sms"),
        "Not sent: at 18:55 the user's phone number was refused as not valid or not existing. "
        "Sending again will not help.",
        "sms", _OTHER, _MESSAGE,
    ),
    Complaint(
        35, "refused too often", refused_three_times,
        "Not sent: the user's email address was refused three times in a row and counts as none by "
        "now.",
        does=_OTHER,
    ),
    Complaint(
        35, "not verified", unverified,
        "Not sent: the user's email address is not verified.",
    ),
    Complaint(
        35, "no address", without("email"), "Not sent: the user has no email address."
    ),
    Complaint(
        35, "no chat", without("telegram_chat_id"), "Not sent: the user has no Telegram chat.",
        "telegram",
    ),
    Complaint(
        35, "no number", without("phone_number"), "Not sent: the user has no phone number.", "sms"
    ),
    Complaint(
        36, "unsubscribed before",
        unsubscribed(LONG_AGO, lambda conn: (handed_out(conn), reader(conn))),
        "Not sent: the user has been unsubscribed from email since Monday 12:00.",
    ),
    Complaint(
        36, "unsubscribed before the event is handed out", unsubscribed(LONG_AGO, pending()),
        "Will not be sent: the user has been unsubscribed from email since Monday 12:00.",
    ),
    Complaint(
        36, "unsubscribed while it waited",
        unsubscribed(
            NOW - timedelta(days=30),
            delivered(status="skipped", failure_code="channel_disabled"),
        ),
        "Not sent: the user has been unsubscribed from email since 6 February 19:00.",
        page=_MESSAGE,
    ),
)  # fmt: skip
