"""The badge: health's status in a word, at an address that nobody can guess."""

from __future__ import annotations

import hashlib
import hmac

from alerts import db
from alerts.settings.config import Settings

PATH = "/badge/"

KEY = "SELECT key FROM alerts_keys WHERE purpose = 'badge'"


def badge_key(conn: db.Connection) -> str | None:
    """The part of the address that makes it secret, in hex. Derived, so that the stored key is
    never shown. None if the database has no key for it."""
    row = db.fetch_one(conn, KEY)
    if row is None:
        return None
    return hmac.new(bytes(row["key"]), b"badge", hashlib.sha256).hexdigest()[:32]


def badge_address(conn: db.Connection, settings: Settings, kind: str = "svg") -> str | None:
    """Where the web app answers the badge: ``svg``, the picture, or ``json``, for shields.io. Only
    the path where ALERTS_APP_BASE_URL is not set."""
    key = badge_key(conn)
    return key and f"{(settings.app_base_url or '').rstrip('/')}{PATH}{key}.{kind}"
