"""The variables that the settings read, found by recording the reads."""

from __future__ import annotations

from typing import Any

from alerts.channels import SECRET_NAMES
from alerts.settings.config import Settings


def variables_read() -> set[str]:
    """Return the names of all variables that :class:`Settings` reads."""
    asked: set[str] = set()

    class Watched(dict[str, str]):
        def get(self, name: str, default: Any = None) -> Any:
            asked.add(name)
            return default

    Settings.from_env(Watched())
    return asked


def hush(name: str) -> str:
    """Return the secret that :func:`secret_environ` puts into a variable."""
    return f"hush-{name.lower().replace('_', '-')}"


def secret_environ() -> dict[str, str]:
    """Return a value for each secret variable of every provider, containing its :func:`hush`."""
    shapes = {"SMTP_URL": "smtps://mailer:{}@mail.example.com"}
    return {name: shapes.get(name, "{}").format(hush(name)) for name in sorted(SECRET_NAMES)}
