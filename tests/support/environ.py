"""Which variables the settings read, as they ask for them."""

from __future__ import annotations

from typing import Any

from alerts.channels import SECRET_NAMES
from alerts.settings.config import Settings


def variables_read() -> set[str]:
    """The names of all variables that :class:`Settings` asks for."""
    asked: set[str] = set()

    class Watched(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return default

    Settings.from_env(Watched())
    return asked


def hush(name: str) -> str:
    """The secret that :func:`secret_environ` puts into a variable."""
    return f"hush-{name.lower().replace('_', '-')}"


def secret_environ() -> dict[str, str]:
    """A value for each secret variable that a provider declares, its :func:`hush` inside."""
    shapes = {"SMTP_URL": "smtps://mailer:{}@mail.example.com"}
    return {name: shapes.get(name, "{}").format(hush(name)) for name in sorted(SECRET_NAMES)}
