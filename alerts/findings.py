"""What checks find, each with a stable id and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What is wrong, and what to do about it."""

    id: str
    message: str
    hint: str


@dataclass(kw_only=True)
class Findings:
    """A check's report: ``errors`` keep something from doing its work, ``warnings`` do not."""

    warnings: list[Finding] = field(default_factory=list)
    errors: list[Finding] = field(default_factory=list)

    def error(self, id_: str, message: str, hint: str) -> None:
        """Note something that must be mended."""
        self.errors.append(Finding(id_, message, hint))

    def warn(self, id_: str, message: str, hint: str) -> None:
        """Note something worth knowing."""
        self.warnings.append(Finding(id_, message, hint))

    def as_json(self) -> dict[str, Any]:
        """The report as an object, ``ok`` first, the findings last."""
        told = asdict(self)
        found = {name: told.pop(name) for name in ("warnings", "errors")}
        return {"ok": not self.errors, **told, **found}
