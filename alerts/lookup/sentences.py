"""What an explanation says of one channel, in a sentence for people: pure, from facts to words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts import db, words
from alerts.channels.names import DIGEST_CHANNELS
from alerts.failures import CLASS_OF, FailureClass, FailureCode
from alerts.lookup.case import Case, Said, when
from alerts.lookup.why_not import ASK_FOR_ANOTHER, obstacle, switched_off, why_not

_C = FailureCode


def about(case: Case) -> Said:
    """What became of the alert on this channel, or will, and why."""
    if case.delivery is not None:
        return _outcome(case)
    if case.decision == "created":
        return _to_come(case)
    why = why_not(case)
    verb = "shown" if case.in_app else "sent"
    refused = f"Not {verb}" if case.taken else f"Will not be {verb}"
    return Said(f"{refused}: {why.summary}.", why.action, why.page)


def as_text(answer: Mapping[str, Any]) -> str:
    """An explanation as plain text: a line a channel, and what to do below it."""
    lines: list[str] = []
    for each in answer["channels"]:
        lines.append(f"{each['channel']}: {each['summary']}")
        if each["action"]:
            lines.append(f"-> {each['action']}")
    return "\n".join(lines) + "\n"


# -- what is to come ---------------------------------------------------------------------------


def _to_come(case: Case) -> Said:
    """There is no delivery yet, and the next run makes one."""
    if case.in_app:
        return Said("Will be shown after the next run.")
    if case.kind == "digest":
        return _to_go_in_digest(case, "Will go into")
    stop = obstacle(case)
    if stop is None:
        return Said("Will be sent with the next run.")
    return Said(f"Will be queued with the next run and wait: {stop.summary}.", stop.action,
                stop.page)  # fmt: skip


# -- what became of a delivery -----------------------------------------------------------------


def _outcome(case: Case) -> Said:
    """What became of the delivery, or of the digest that took it."""
    delivery, digest = case.delivery, case.digest
    if delivery is None:
        raise ValueError("no delivery to tell of")
    if digest is not None:
        return _of_row(case, digest, f"/ops/digests/{digest['id']}")
    if delivery["kind"] == "digest" and delivery["status"] == "queued":
        return _to_go_in_digest(case, "Waits for", _page(delivery))
    if case.in_app and delivery["status"] == "sent":
        return Said(f"In the app since {case.clock.at(delivery['sent_at'])}.")
    return _of_row(case, delivery, _page(delivery))


def _of_row(case: Case, row: db.Row, page: str) -> Said:
    """What became of one row of a queue: the delivery itself, or its digest."""
    as_part = f" in {case.digest_name}" if row is case.digest else ""
    status = row["status"]
    if status == "sent":
        return Said(f"Sent{as_part} {when(case.clock, row['sent_at'])}.", page=page)
    if status == "failed":
        return _failed(case, row, as_part, page)
    if status == "skipped":
        return Said(f"Not sent{as_part}: {_skipped(case, row['failure_code'])}.", page=page)
    if status == "sending":
        return _sending(case, row, as_part, page)
    return _waiting(case, row, as_part, page)


def _sending(case: Case, row: db.Row, as_part: str, page: str) -> Said:
    if row["claimed_until"] > case.wall.now:
        return Said(f"Is being sent{as_part} right now.", page=page)
    text = "Was being sent when its run died, so it may have arrived; the next run takes it over."
    return Said(text, page=page)


def _waiting(case: Case, row: db.Row, as_part: str, page: str) -> Said:
    if row is case.digest and not row["attempts"] and row["window_end"] > case.clock.now:
        return _to_go_in_digest(case, "Waits for", page)
    tried = ""
    if row["attempts"]:
        why = words.BECAUSE.get(row["failure_code"], "")
        tried = f"Tried {_times(row['attempts'])}{as_part}{f': {why}' if why else ''}. "
    since = case.clock.at(row["created_at"])
    waits = f"{tried}It waits" if tried else f"Has waited{as_part} since {since}"
    stop = obstacle(case)
    if stop is not None:
        return Said(f"{waits}: {stop.summary}.", stop.action, stop.page or page)
    if not tried:
        return Said(f"{waits}, goes out with the next run.", page=page)
    due = row["next_retry_at"]
    ahead = due is not None and due > case.clock.now
    again = f"after {case.clock.at(due)}" if ahead else "with the next run"
    return Said(f"{tried}It is tried again {again}.", page=page)


def _failed(case: Case, row: db.Row, as_part: str, page: str) -> Said:
    code, at = row["failure_code"], when(case.clock, row["failed_at"])
    kind = _class(code)
    again, address = _retry_page(row), case.address
    if code == _C.RECIPIENT_INVALID:
        text = f"Not sent{as_part}: {at} the user's {address} was refused as not valid or not "
        text += "existing. Sending again will not help."
        return Said(text, ASK_FOR_ANOTHER, page)
    if code == _C.RECIPIENT_BLOCKED:
        text = f"Not sent{as_part}: the user has blocked us on {case.name} (refused {at}). "
        return Said(f"{text}Sending again will not help.", "Ask the user to unblock us.", page)
    if kind is FailureClass.UNKNOWN:
        since = case.clock.at(row["failed_at"])
        text = f"Not known since {since}: {words.BECAUSE[code]}. It is not sent again by itself."
        action = "Look it up with the provider; if it did not arrive, retry those in doubt."
        return Said(text, action, f"{again}&include=unknown")
    why = words.BECAUSE.get(code, "the provider refused it")
    text = f"Given up{as_part} {at} after {words.count(row['attempts'], 'attempt')}: {why}."
    if kind is FailureClass.TRANSIENT:
        exhausted = f"{again}&include=exhausted"
        return Said(text, "Once the cause is gone, retry it, those given up included.", exhausted)
    return Said(text, page=page)


def _skipped(case: Case, code: str | None) -> str:
    if code == _C.CHANNEL_DISABLED:
        return switched_off(case)
    return words.BECAUSE.get(code or "", "it was left out")


def _to_go_in_digest(case: Case, verb: str, page: str | None = None) -> Said:
    """When a digest goes that has not been tried."""
    stop, end = obstacle(case), case.digest_window[1]
    first = f"first run after {case.clock.at(end)}" if end > case.clock.now else "next run"
    text = f"{verb} {case.digest_name}, which goes with the {first}{_why_digest(case)}"
    if stop is None:
        return Said(f"{text}.", page=page)
    return Said(f"{text}; for now, {stop.summary}.", stop.action, stop.page or page)


def _why_digest(case: Case) -> str:
    """Why it goes into a digest, where the user's quota or plan decided that."""
    rules = case.rules
    if case.channel not in DIGEST_CHANNELS:
        return ""
    if rules["overflow"]:
        return f" ({case.used_up('instant')})"
    if rules["digest_only"]:
        return " (the user has chosen digests)"
    if rules["plan_code"] == "free" or rules["quota_limit"] == 0:
        return f" (the {case.plan} plan has no instant alerts by {case.name})"
    return ""


def _class(code: str | None) -> FailureClass | None:
    known = code in FailureCode.__members__.values()
    return CLASS_OF[FailureCode(str(code))] if known else None


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _page(delivery: db.Row) -> str:
    return f"/ops/messages/{delivery['id']}"


def _retry_page(row: db.Row) -> str:
    kind = "digests" if "window_end" in row else "deliveries"
    return f"/ops/retry?kind={kind}&channel={row['channel']}&failure_code={row['failure_code']}"
