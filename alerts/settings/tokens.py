"""How long a token of the web app has to be."""

from __future__ import annotations

from collections.abc import Iterable

from alerts.settings.config import Settings
from alerts.settings.env import Secret

GOOD_TOKEN = 24  # characters; a shorter one works and is told
LEAST_TOKEN = 12  # a shorter one opens nothing where everybody can try
MAKE_TOKEN = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'  # noqa: S105


def weak_tokens(settings: Settings) -> list[str]:
    """The variables that hold a token which is too short to be a good one."""
    held = {
        "INTERNAL_RUNNER_TOKEN": settings.internal_tokens,
        "INTERNAL_READ_TOKEN": settings.read_tokens,
    }
    return [
        name
        for name, tokens in held.items()
        if any(len(token.reveal()) < GOOD_TOKEN for token in tokens)
    ]


def usable_tokens(settings: Settings, tokens: Iterable[Secret]) -> list[Secret]:
    """Those that open something: on a public host a very short one is soon guessed."""
    least = LEAST_TOKEN if settings.public_host else 1
    return [token for token in tokens if len(token.reveal()) >= least]
