"""docs/providers.md says what the adapters' tables say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from alerts.channels import PROVIDERS, brevo, resend, telegram, twilio
from alerts.channels.transport import answers, smtp_codes
from alerts.failures import FailureCode
from tests.support import CHECKOUT

PAGE = (CHECKOUT / "docs/providers.md").read_text()
Codes = dict[FailureCode, set[str]]


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]


def told(title: str, pattern: str) -> Codes:
    """What the section's tables list under each code, as far as it looks like the pattern."""
    found: Codes = defaultdict(set)
    for code, cell in re.findall(r"^\| `(\w+)` \| ([^|]*) \|$", section(title), re.MULTILINE):
        if items := re.findall(pattern, cell):
            found[FailureCode(code)].update(items)
    return dict(found)


def by_code(table: dict[str, FailureCode]) -> Codes:
    found: Codes = defaultdict(set)
    for name, code in table.items():
        found[code].add(name)
    return dict(found)


def without(page: Codes, *codes: FailureCode) -> Codes:
    """The page without codes whose rows are examples of a rule."""
    return {code: items for code, items in page.items() if code not in codes}


def test_every_provider_has_its_section() -> None:
    titles = {title.lower() for title in re.findall(r"^## (\w+)$", PAGE, re.MULTILINE)}
    assert {provider.name for provider in PROVIDERS} <= titles


def test_every_code_on_the_page_exists() -> None:
    for code in re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE):
        assert FailureCode(code)


def test_brevo() -> None:
    page = told("Brevo", r"`(\w+)`")
    assert without(page, FailureCode.PAYLOAD_INVALID) == by_code(brevo.CODES)


def test_resend() -> None:
    page = without(told("Resend", r"`(\w+)`"), FailureCode.PAYLOAD_INVALID)
    page[FailureCode.SENDER_REJECTED] -= set(resend.DOMAIN_CODES)
    assert page == by_code(resend.CODES)


def test_twilio() -> None:
    numbers: Codes = {c: {str(n) for n in ns} for c, ns in twilio.CODES_OF.items()}
    page = told("Twilio", r"\b(\d{5})\b")
    assert without(page, FailureCode.PAYLOAD_INVALID) == numbers


def test_telegram() -> None:
    page = told("Telegram", r"`([^`]+)`")
    assert page == {
        FailureCode.RECIPIENT_BLOCKED: set(telegram.NO_RIGHTS),
        FailureCode.RECIPIENT_INVALID: set(telegram.GONE),
    }


def test_smtp() -> None:
    def written(details: Iterable[tuple[int, int]]) -> set[str]:
        return {f"X.{subject}.{detail}" for subject, detail in details}

    codes = {code: written(details) for code, details in smtp_codes.MEANINGS.items()}
    assert told("SMTP", r"X\.\d+\.\d+") == codes


def test_statuses() -> None:
    table = section("All providers").partition("| status |")[2]
    rows = re.findall(r"^\| ([\d, x]+) \| `(\w+)` \|$", table, re.MULTILINE)
    assert len(rows) == 4
    for statuses, code in rows:
        for status in statuses.split(", "):
            assert answers.code_of_status(int(status.replace("x", "0"))) == code
