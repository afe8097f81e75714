"""``GET /badge/<key>.svg`` and ``.json``: health's status for a README or a dashboard, no token.

The address is the secret: whoever has it sees one word and nothing else. So that it cannot be used
to load the database, each process asks health at most every 30 s, however often the badge is seen.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg2
from flask import Blueprint, Response, current_app, jsonify
from werkzeug.exceptions import NotFound

from alerts import db
from alerts.health.badge import PATH, badge_key
from alerts.health.report import get_health
from app.current import business_now, database, settings
from app.params import read_query

LABEL = "alerts"
# No health, no status: the database does not answer. A badge that says so is more use than none.
UNKNOWN = "unknown"
# By status. White text on each has the contrast that WCAG AA asks for.
COLORS = {"ok": "#2a7a2a", "degraded": "#a35200", "failing": "#c0281f", UNKNOWN: "#616161"}
KEPT_SECONDS = 30
# GitHub's image proxy keeps a picture for as long as it may; shields.io takes 300 s at least.
CACHE_CONTROL = "public, max-age=60"
SHIELDS_SECONDS = 300
# Advance widths of Verdana at 11 px for the letters of our words. The picture says how long each
# text is, so that another font is stretched to the same.
_WIDTHS = {
    "a": 6.61, "d": 6.85, "e": 6.55, "f": 3.87, "g": 6.85, "i": 3.02, "k": 6.51, "l": 3.02,
    "n": 6.96, "o": 6.68, "r": 4.69, "s": 5.73, "t": 4.33, "u": 6.96, "w": 9.0,
}  # fmt: skip
_PADDING = 6


@dataclass
class Kept:
    """What a process remembers: the address's key, and the status with its time."""

    key: str | None = None
    status: str = UNKNOWN
    until: float = 0.0
    clock: Callable[[], float] = time.monotonic


def badge_blueprint() -> Blueprint:
    """The badge's two routes."""
    blueprint = Blueprint("badge", __name__)
    blueprint.record_once(lambda state: state.app.extensions.update(alerts_badge=Kept()))
    blueprint.get(f"{PATH}<key>.svg")(svg)
    blueprint.get(f"{PATH}<key>.json")(shields)
    return blueprint


def svg(key: str) -> Response:
    """The picture."""
    response = Response(_picture(_status(key)), mimetype="image/svg+xml")
    response.headers["Content-Security-Policy"] = "default-src 'none'"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return _for_a_minute(response)


def shields(key: str) -> Response:
    """The same for shields.io's endpoint badge."""
    status = _status(key)
    told = {
        "schemaVersion": 1,
        "label": LABEL,
        "message": status,
        "color": COLORS[status],
        "cacheSeconds": SHIELDS_SECONDS,
    }
    return _for_a_minute(jsonify({**told, "isError": True} if status == UNKNOWN else told))


def _for_a_minute(response: Response) -> Response:
    response.headers["Cache-Control"] = CACHE_CONTROL
    return response


def _status(key: str) -> str:
    """The status for whoever has the key; raises :class:`NotFound` for others, and
    ``psycopg2.Error`` while the key was never read."""
    read_query()
    kept: Kept = current_app.extensions["alerts_badge"]
    if kept.key is None:
        with database().transaction() as conn:
            kept.key = badge_key(conn)
    if not hmac.compare_digest(key.encode(errors="replace"), (kept.key or "").encode()):
        raise NotFound
    now = kept.clock()
    if now >= kept.until:
        kept.until = now + KEPT_SECONDS  # first, so that those who ask meanwhile do not ask too
        kept.status = _asked()
    return kept.status


def _asked() -> str:
    try:
        with database().transaction() as conn:
            return str(get_health(conn, settings(), business_now())["status"])
    except psycopg2.Error as error:
        if db.lacks_migrations(error):
            raise
        return UNKNOWN


def _picture(status: str) -> str:
    label, message = _width(LABEL), _width(status)
    return _SVG.format(
        label=LABEL,
        status=status,
        color=COLORS[status],
        left=label + 2 * _PADDING,
        right=message + 2 * _PADDING,
        whole=label + message + 4 * _PADDING,
        label_at=_PADDING,
        label_width=label,
        status_at=label + 3 * _PADDING,
        status_width=message,
    )


def _width(text: str) -> int:
    return round(sum(_WIDTHS[letter] for letter in text))


_SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20" role="img" \
aria-label="{label}: {status}">
<title>{label}: {status}</title>
<clipPath id="r-{status}"><rect width="{whole}" height="20" rx="3"/></clipPath>
<g clip-path="url(#r-{status})">
<rect width="{left}" height="20" fill="#444"/>
<rect x="{left}" width="{right}" height="20" fill="{color}"/>
</g>
<g fill="#fff" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">
<text x="{label_at}" y="14" textLength="{label_width}" \
lengthAdjust="spacingAndGlyphs">{label}</text>
<text x="{status_at}" y="14" textLength="{status_width}" \
lengthAdjust="spacingAndGlyphs">{status}</text>
</g>
</svg>
"""
