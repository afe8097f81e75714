"""Writes the incidents of ``replit.md``: the sentences that the product gives, as its tests know
them, so that the runbook cannot drift from the product.

    python -m scripts.dev.runbook
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tests.support.incidents import EXAMPLE, INCIDENTS, REFUSALS
from tests.support.incidents_explain import COMPLAINTS

RUNBOOK = Path(__file__).resolve().parents[2] / "replit.md"
BEGIN = "<!-- incidents: written by python -m scripts.dev.runbook -->\n"
END = "<!-- end of the incidents -->\n"
# Complaints about a single message that health cannot know; one of each kind is shown.
BY_EXPLAIN = (17, 18, 19, 20, 21, 35, 36)


def incidents() -> str:
    """All incidents by number, as Markdown: what is asked, what is said, what to do."""
    found: defaultdict[int, list[str]] = defaultdict(list)
    for each in INCIDENTS:
        where = f"`health`, {each.status}"
        found[each.number].append(_entry(each.name, where, each.message, each.action))
    for refusal in REFUSALS:
        entry = _entry(refusal.name, f"any request, `{refusal.code}`", refusal.message, None)
        found[refusal.number].append(entry)
    shown = set()
    for complaint in COMPLAINTS:
        if complaint.incident in BY_EXPLAIN and complaint.incident not in shown:
            shown.add(complaint.incident)
            entry = _entry(complaint.name, "`explain`", complaint.says, complaint.does)
            found[complaint.incident].append(entry)
    return "".join(f"{number}. {''.join(found[number])}" for number in sorted(found))


def _entry(name: str, where: str, message: str, action: str | None) -> str:
    does = f" *{action.format(**EXAMPLE)}*" if action else ""
    return f"**{name[:1].upper()}{name[1:]}** ({where}): {message.format(**EXAMPLE)}{does}\n"


def written(text: str) -> str:
    """The runbook with its incidents between the marks written anew."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}{incidents()}{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    RUNBOOK.write_text(written(RUNBOOK.read_text()))
