"""Which database, server, migrations and versions the program works with; no secret among them."""

from __future__ import annotations

import platform
from typing import Any

from psycopg2.extensions import parse_dsn

from alerts import db, migrations
from alerts.migrations import MigrationError
from alerts.settings.config import Settings, require_database_url


def get_setup(conn: db.Connection, settings: Settings) -> dict[str, Any]:
    """``database`` (host, name, server's version), ``migrations`` (the newest one, those pending,
    newer and changed), ``python``, and what of this program's own settings the operator sees."""
    parts = parse_dsn(require_database_url(settings))
    version = conn.info.server_version
    return {
        "database": {
            "host": parts.get("host") or "this machine",
            "name": parts.get("dbname", ""),
            "version": f"{version // 10000}.{version % 10000}",
        },
        "migrations": _migrations(conn),
        "python": platform.python_version(),
        "web": {
            "app_base_url": settings.app_base_url,
            "timezone": settings.timezone.key,
            "clock": settings.clock and settings.clock.isoformat(),
            "read_token": bool(settings.read_tokens),
            "rotating": len(settings.internal_tokens) > 1,
        },
    }


def _migrations(conn: db.Connection) -> dict[str, Any]:
    try:
        found = migrations.status(conn)
    except MigrationError as error:
        return {"newest": None, "pending": [], "newer": [], "differ": [], "problem": str(error)}
    return {
        "newest": found.applied[-1] if found.applied else None,
        "pending": list(found.pending),
        "newer": list(found.newer),
        "differ": [*found.changed, *found.incompatible],
        "problem": None,
    }
