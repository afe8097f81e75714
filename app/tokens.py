"""The tokens that open the web app, and what each may do."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass

from alerts.settings.tokens import LEAST_TOKEN, MAKE_TOKEN, usable_tokens
from app.current import settings
from app.errors import ApiError

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Holder:
    """A token that is set and opens something. Its bytes are in no repr."""

    token: bytes
    may_write: bool

    def __repr__(self) -> str:
        return f"Holder({self.key_id}, may_write={self.may_write})"

    @property
    def key_id(self) -> str:
        """By which the audit tells it from others."""
        return hashlib.sha256(self.token).hexdigest()[:8]


def holders() -> tuple[Holder, ...]:
    """Every token that opens something, those that may write first; 503 where there is none."""
    ours = settings()
    if not ours.internal_tokens and not ours.read_tokens:
        text = "INTERNAL_RUNNER_TOKEN is not set on the server; set it and start again."
        raise ApiError(503, "token_not_configured", text)
    found = tuple(_holders())
    if not found:
        # Whatever was sent: else the answer would tell which guess was right.
        text = f"The token on the server has fewer than {LEAST_TOKEN} characters: {MAKE_TOKEN}"
        raise ApiError(503, "token_too_short", text)
    return found


def holder_of(sent: bytes) -> Holder | None:
    """The holder of the token that was sent. Compared are the bytes, all of them each time, also
    those that no encoding has."""
    matches = [each for each in holders() if hmac.compare_digest(sent, each.token)]
    return matches[0] if matches else None


def read_only() -> ApiError:
    """The error of a token that may read and is to write."""
    return ApiError(403, "read_only_token", "This token may read and change nothing.")


def _holders() -> Iterator[Holder]:
    ours = settings()
    for tokens, may_write in ((ours.internal_tokens, True), (ours.read_tokens, False)):
        for token in usable_tokens(ours, tokens):
            yield Holder(os.fsencode(token.reveal()), may_write)
