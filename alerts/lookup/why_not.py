"""Why an alert did not become a delivery, and what keeps one that did from going out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from alerts import words
from alerts.lookup import nearest
from alerts.lookup.case import Case, Said

ASK_FOR_ANOTHER = "Ask the user for another one."
_LIFT = "Empty ALERTS_SEND_ALLOWLIST_USER_IDS where the runs get their variables."
_ENABLE = "Set ALERTS_V2_ENABLED to true where the runs get their variables."


def why_not(case: Case) -> Said:
    """The end of a sentence about a decision against a delivery."""
    return _WHY_NOT[case.decision](case)


def obstacle(case: Case) -> Said | None:
    """What keeps a message from going out with the next run."""
    around, engine = case.around, case.engine
    if around["paused"]:
        what = "the engine" if around["paused"] == "all" else case.name
        since = case.wall.at(around["paused_at"])
        text = f"{what} has been paused since {since} ({around['paused_for']})"
        return Said(text, f"Resume {what} when the reason is gone.", "/ops/pause")
    if not engine.enabled:
        since = f" since {case.wall.at(engine.disabled_since)}" if engine.disabled_since else ""
        return Said(f"the engine has been switched off{since}", _ENABLE, "/ops/setup")
    if not engine.listed:
        return _not_in_allowlist(case)
    if case.channel in engine.off_since:
        return _channel_off(case)
    if around["closed_since"]:
        return _closed(case)
    return None


def _closed(case: Case) -> Said:
    around, code = case.around, case.around["closed_for"]
    since = case.wall.at(around["closed_since"])
    why = words.BECAUSE.get(code, "something is wrong with it")
    until = around["closed_until"]
    ahead = until is not None and until > case.wall.now
    again = f"after {case.wall.at(until)}" if ahead else "with the next run"
    text = f"{case.name} has been closed since {since} because {why}, and is tried again {again}"
    return Said(text, page="/ops")


def _channel_off(case: Case) -> Said:
    since = case.engine.off_since.get(case.channel)
    told = f", since {case.wall.at(since)}" if since else ""
    return Said(f"{case.name} is switched off for everybody, deliberately{told}", page="/ops/setup")


def _plan_type(case: Case) -> Said:
    return Said(f"the {case.plan} plan does not include {nearest.types(case.event['alert_type'])}")


def _channel_not_in_plan(case: Case) -> Said:
    return Said(f"the {case.plan} plan does not include {case.name}")


def _prefs(case: Case) -> Said:
    rules = case.rules
    if not rules["channel_enabled"]:
        also = "" if rules["wanted"] else ", and no preference of theirs matches either"
        return Said(f"{switched_off(case)}{also}")
    if rules["wanted"]:
        return Said(f"the user wants digests only, which {case.name} does not have")
    return Said(nearest.why_none_matches(rules, case.event))


def switched_off(case: Case) -> str:
    """Who does without the channel, and since when as far as it is known."""
    since = case.around["unsubscribed_at"]
    if since is not None:
        return f"the user has been unsubscribed from {case.name} since {case.clock.at(since)}"
    return f"the user has switched {case.name} off"


def _missing_destination(case: Case) -> Said:
    around, address = case.around, case.address
    if around["refused_too_often"]:
        text = f"the user's {address} was refused three times in a row and counts as none by now"
        return Said(text, ASK_FOR_ANOTHER)
    if around["unverified"]:
        return Said(f"the user's {address} is not verified")
    return Said(f"the user has no {address}")


def _quota(case: Case) -> Said:
    used = case.used_up(case.name)
    return Said(f"{used}, and {case.name} has no digest for the rest")


def _not_in_allowlist(case: Case) -> Said:
    engine = case.engine
    since = f" since {case.wall.at(engine.listed_since)}" if engine.listed_since else ""
    text = f"an allowlist has been on{since}" if since else "an allowlist is on"
    return Said(f"{text}, and this user is not on it", _LIFT, "/ops/setup")


def _changed_since(case: Case) -> Said:
    at = case.clock.at(case.event["fanout_completed_at"])
    return Said(
        f"when the alert was handed out ({at}), something about the user's plan, preferences or "
        "address was not as it is now; as it is now, it would be"
    )


def _fanout_expired(case: Case) -> Said:
    created = case.clock.at(case.event["created_at"])
    return Said(f"no run handed the alert of {created} out within 24 hours, to anybody")


_WHY_NOT: Mapping[str, Callable[[Case], Said]] = {
    "channel_off": _channel_off,
    "plan_type": _plan_type,
    "prefs": _prefs,
    "missing_destination": _missing_destination,
    "channel_not_in_plan": _channel_not_in_plan,
    "quota": _quota,
    "not_in_allowlist": _not_in_allowlist,
    "changed_since": _changed_since,
    "fanout_expired": _fanout_expired,
}
