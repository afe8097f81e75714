"""Writes ``docs/examples.md``, and the table of ``replit.md``: what every endpoint answers over the
sample, so that neither can drift from the product.

    scripts/run --once && .dev/venv/bin/python -m scripts.dev.examples

The POST requests are real: they are in the audit of the sample's database afterwards.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from flask.testing import FlaskClient

from alerts.cli.tables import health
from alerts.cli.text import Style
from alerts.health.badge import PATH, badge_key
from alerts.settings.config import Settings
from app import create_app
from scripts.dev import run
from scripts.dev.place import DevDbError

EXAMPLES = run.CHECKOUT / "docs" / "examples.md"
RUNBOOK = run.CHECKOUT / "replit.md"
TABLE = re.compile(r"(?<=\$ python -m alerts health\n).*?(?=\n```)", re.DOTALL)
PREFIX = "/internal/alerts/engine"
AT_ROOT = ("/alerts/", "/healthz", "/metrics", "/badge/")
WIDTH = 110
METRICS_SHOWN = 40  # lines
HEAD = """\
# Example answers
As the web app of `scripts/run` answers after the sample's bad day: written by
`python -m scripts.dev.examples`. Paths without a root of their own are under
`/internal/alerts/engine`. [`/openapi.json`](../app/openapi.json) describes every field.
"""


def examples(client: FlaskClient, token: str) -> str:
    """The document."""
    return HEAD + "".join(f"\n{part}" for part in _parts(client, {"x-internal-token": token}))


def _parts(client: FlaskClient, token: dict[str, str]) -> Iterator[str]:
    def get(path: str) -> Any:
        return client.get(PREFIX + path, headers=token).get_json()

    def shown(request: str, note: str = "", **headers: str) -> str:
        method, _, path = request.partition(" ")
        address = path if path.startswith(AT_ROOT) else PREFIX + path
        answer = client.open(address, method=method, headers={**token, **headers})
        if answer.status_code != 200:
            raise run.RunError(f"{request}: {answer.status_code} {answer.get_data(as_text=True)}")
        kind = "json" if answer.is_json else ""
        text = pretty(answer.get_json()) if answer.is_json else _cut(answer.get_data(as_text=True))
        return f"`{request}`{note}\n```{kind}\n{text}\n```\n"

    (last,) = get("/runs?limit=1")["runs"]
    (failed,) = get("/deliveries?status=failed&limit=1")["deliveries"]
    (digest,) = get("/digests?limit=1")["digests"]
    event, user = failed["event_id"], failed["user_id"]
    yield shown("GET /health")
    yield shown("GET /health?view=brief")
    yield shown("GET /health?view=brief", " with `Accept: text/plain`", Accept="text/plain")
    yield shown("GET /runs?limit=1")
    yield shown(f"GET /runs/{last['run_id']}")
    yield shown("GET /deliveries?status=failed&limit=1")
    yield shown(f"GET /deliveries/{failed['id']}")
    yield shown("GET /digests?limit=1")
    yield shown(f"GET /digests/{digest['id']}")
    yield shown(f"GET /explain?event_id={event}&user_id={user}")
    yield shown("GET /actions?limit=2")
    yield shown("GET /test_message")
    yield shown("POST /retry_failed?kind=deliveries&dry_run=true")
    yield shown("POST /pause?channel=sms&reason=Twilio%20is%20being%20moved")
    yield shown("POST /resume?channel=sms")
    yield shown("POST /test_message?channel=email")
    yield shown("GET /alerts/events/latest?limit=2")
    yield shown("GET /healthz")
    yield shown("GET /metrics", f", its first {METRICS_SHOWN} lines")
    badge = _badge_of(client)
    for kind in ("json", "svg"):
        yield shown(f"GET {badge}.{kind}").replace(badge, "/badge/KEY")


def _badge_of(client: FlaskClient) -> str:
    database = client.application.extensions["alerts_database"]
    with database.transaction(read_only=True) as conn:
        return f"{PATH}{badge_key(conn)}"


def _cut(text: str) -> str:
    return "\n".join(text.strip().splitlines()[:METRICS_SHOWN])


def pretty(value: Any, indent: str = "") -> str:
    """JSON in lines of about :data:`WIDTH`: what fits into one stays together."""
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= WIDTH or not isinstance(value, dict | list) or not value:
        return flat
    inner = f"{indent}  "
    if isinstance(value, list):
        lines = [pretty(each, inner) for each in value]
    else:
        lines = [f"{json.dumps(name)}: {pretty(each, inner)}" for name, each in value.items()]
    opening, closing = "[]" if isinstance(value, list) else "{}"
    body = ",\n".join(f"{inner}{line}" for line in lines)
    return f"{opening}\n{body}\n{indent}{closing}"


def health_of(document: str) -> dict[str, Any]:
    """The answer of ``GET /health`` in the document."""
    text = document.split("`GET /health`\n```json\n")[1].split("\n```")[0]
    answer: dict[str, Any] = json.loads(text)
    return answer


def table_of(document: str) -> str:
    """How the command shows the same health on a narrow terminal."""
    return "\n".join(health(Style(width=60), health_of(document)))


def main() -> int:
    try:
        environment = run._environment(run._database_url(), 5000)
        run._script(environment, "sample/bad_day.py")
        app = create_app(Settings.from_env(environment))
        document = examples(app.test_client(), environment["INTERNAL_RUNNER_TOKEN"])
    except (run.RunError, DevDbError) as error:
        run.say(f"scripts/dev/examples.py: {error}")
        return 1
    EXAMPLES.write_text(document)
    RUNBOOK.write_text(TABLE.sub(lambda _: table_of(document), RUNBOOK.read_text(), count=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
