"""What the database role may see and do. Row-level security hides rows without an error, so a run
could send nothing, or message users whose opt-out it cannot see, and still report success."""

from __future__ import annotations

import json
from dataclasses import dataclass

from alerts import db

# What a run needs. Pruning and admin writes need more, and fail with a clear error without it.
NEEDS = {
    "users": ("SELECT",),
    "user_plans": ("SELECT",),
    "plan_settings": ("SELECT",),
    "plan_channel_limits": ("SELECT",),
    "user_alert_prefs": ("SELECT",),
    "user_channel_prefs": ("SELECT",),
    "events": ("SELECT",),
    "risk_events": ("SELECT",),
    "risk_indices": ("SELECT",),
    "asset_risk": ("SELECT",),
    "alert_events": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_deliveries": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_digests": ("SELECT", "INSERT", "UPDATE"),
    "user_alert_digest_items": ("SELECT", "INSERT"),
    "alerts_engine_runs": ("SELECT", "INSERT", "UPDATE"),
    "alerts_engine_run_items": ("SELECT", "INSERT", "UPDATE"),
    "alerts_pauses": ("SELECT",),
    "schema_migrations": ("SELECT",),
}

# For each table that exists: the missing privileges, and whether row-level security shows the role
# all rows (a policy of TRUE and no restrictive one), some, or none.
_ACCESS = """
SELECT
    current_user AS role,
    n.name,
    ARRAY(
        SELECT wanted.privilege
        FROM json_array_elements_text(n.privileges) WITH ORDINALITY AS wanted (privilege, place)
        WHERE NOT has_table_privilege(c.oid, wanted.privilege)
        ORDER BY wanted.place
    ) AS missing,
    CASE
        WHEN NOT row_security_active(c.oid) OR coalesce(p.everything, FALSE) THEN 'all'
        WHEN coalesce(p.something, FALSE) THEN 'some'
        ELSE 'none'
    END AS visible
FROM json_each(%s) WITH ORDINALITY AS n (name, privileges, place)
JOIN pg_class AS c ON c.oid = to_regclass(quote_ident(n.name))
LEFT JOIN LATERAL (
    SELECT
        bool_or(polpermissive) AS something,
        bool_or(polpermissive AND pg_get_expr(polqual, polrelid) = 'true')
            AND bool_and(polpermissive) AS everything
    FROM pg_policy
    WHERE polrelid = c.oid
      AND polcmd IN ('r', '*')
      AND (
          0 = ANY (polroles)
          OR EXISTS (SELECT FROM unnest(polroles) AS r (oid) WHERE pg_has_role(r.oid, 'USAGE'))
      )
) AS p ON TRUE
ORDER BY n.place
"""


@dataclass(frozen=True)
class Access:
    """Tables grouped by problem: every row of ``hidden`` and possibly some rows of ``filtered``
    are invisible to the role; ``missing`` lists the privileges it lacks on each table."""

    role: str
    hidden: tuple[str, ...]
    filtered: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        """Describe the hidden tables in a sentence without the full stop."""
        return f"row level security hides {', '.join(self.hidden)} from the role {self.role}"


def access_of(conn: db.Connection) -> Access:
    """Return the access of the connection's role, in one round trip."""
    rows = db.fetch_all(conn, _ACCESS, (json.dumps(NEEDS),))
    return Access(
        role=rows[0]["role"] if rows else "",
        hidden=tuple(row["name"] for row in rows if row["visible"] == "none"),
        filtered=tuple(row["name"] for row in rows if row["visible"] == "some"),
        missing={row["name"]: tuple(row["missing"]) for row in rows if row["missing"]},
    )
