"""docs/dependencies.md lists what the requirements files pin, in their order."""

from __future__ import annotations

import re

from tests.support import CHECKOUT


def test_page_lists_exactly_what_is_pinned() -> None:
    pinned = [
        line.partition("==")[0]
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (CHECKOUT / name).read_text().splitlines()
        if re.match(r"[\w.-]+==", line)
    ]
    page = (CHECKOUT / "docs" / "dependencies.md").read_text()
    rows = re.findall(r"^\| ([\w.-]+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    listed = [name for name, licence, _ in rows if licence not in ("licence", "---")]
    assert listed == pinned
