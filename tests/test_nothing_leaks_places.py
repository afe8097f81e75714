"""No secret and no person where the product shows something: every command, route and page, over
a world in which both are everywhere. What is new has to be added here, or these tests fail."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from psycopg2.extensions import connection as Connection

from alerts.cli.commands import COMMANDS
from alerts.health.badge import badge_key
from alerts.leaving.links import PATH as UNSUBSCRIBE
from tests.support import CHECKOUT
from tests.support.canaries import (
    BODY,
    HEADLINE,
    PERSONAL,
    READ_TOKEN,
    SECRETS,
    assert_clean,
    forms,
)
from tests.support.gunicorn import Served, serving
from tests.support.leaks import (
    OWN_COLUMNS,
    assert_tables_clean,
    canary_environ,
    canary_world,
    stored_secrets,
    watched,
    with_password,
)
from tests.support.leaving import link_of
from tests.support.openapi import route_of
from tests.support.ops import PAGES
from tests.support.queue_world import add_digest, let_time_pass
from tests.support.web import BADGE_ROUTES, CLOSED_PORT, ROUTES, app_for
from tests.support.wire import ask, cookie_parts, sign_in
from tests.support.world import query

ARGUMENTS: Mapping[str, str] = {
    "preflight": "",
    "health": "",
    "runs": "",
    "run": "{run}",
    "deliveries": "",
    "delivery": "{delivery}",
    "digests": "",
    "digest": "{digest}",
    "explain": "--event-id {event} --user-id {user}",
    "retry-failed": "deliveries",
    "pause": "email --reason looking",
    "resume": "email",
    "prune": "--keep-days 30",
    "rebuild": "",
    "test-message": "email",
    "replay-spool": "alerts_runs_spool.jsonl",
    "check-deployment": "http://127.0.0.1:9",
    "erase-user": "{user}",
    "actions": "",  # what all of them have left in the audit
}


def troubled(conn: Connection, database_url: str, folder: Path) -> dict[str, object]:
    """Two runs that no provider answered, the notices and test messages of it; ids by name."""
    user = canary_world(conn)
    add_digest(conn, user, [])
    watch = watched(database_url, folder)
    environ = {"EMAIL_PROVIDER": "brevo", "ALERTS_PROVIDER_TIMEOUT_SECONDS": "1"}
    for _ in range(2):
        watch.all_phases(**environ)
        let_time_pass(conn)
    watch("test-message", "telegram", module="alerts", **environ)
    rows = query(
        conn,
        "SELECT min(d.id) AS delivery, min(d.alert_event_id) AS event,"
        " (SELECT min(id) FROM user_alert_digests) AS digest,"
        " (SELECT min(run_id) FROM alerts_engine_runs) AS run FROM user_alert_deliveries AS d",
    )
    assert all(rows[0].values())
    return {**rows[0], "user": user}


def test_every_command(conn: Connection, database_url: str, tmp_path: Path) -> None:
    ids = troubled(conn, database_url, tmp_path)
    watch = watched(database_url, tmp_path / "watched")
    names = {command.name for command in COMMANDS}
    assert names <= set(ARGUMENTS), names - set(ARGUMENTS)
    for name in (name for name in ARGUMENTS if name in names):
        done = watch(name, *ARGUMENTS[name].format(**ids).split(), module="alerts")
        assert done.returncode in (0, 1), (name, done.stderr)
    audit = query(conn, "SELECT action FROM alerts_admin_actions")
    assert {"retry_failed", "test_message", "erase_user"} <= {row["action"] for row in audit}
    # Nothing of the user is left anywhere.
    assert_tables_clean(conn, {name: own for name, own in OWN_COLUMNS.items() if name != "users"})


def test_every_route_and_page(conn: Connection, database_url: str, tmp_path: Path) -> None:
    ids = troubled(conn, database_url, tmp_path)
    places = Places.of(conn, ids)
    with serving(with_password(database_url), tmp_path / "log", **canary_environ()) as served:
        cookie = sign_in(served)
        csrf = re.search('name="csrf" value="([^"]+)"', page(served, "/ops/audit", cookie))
        assert csrf
        secrets = (*stored_secrets(conn), *cookie_parts(cookie))
        for method, path in places.asked:
            form = places.form_of(path, csrf[1]) if method == "POST" and "/ops" in path else ""
            answer = ask(served, path, method, body=form, Cookie=cookie)
            shown = places.shown_at(path)
            assert_clean(
                f"{method} {path}",
                answer,
                [each for each in (*SECRETS, *PERSONAL, *secrets) if each not in shown],
            )
            assert not re.match(r"HTTP/1.1 (401|403|5\d\d)", answer), (path, answer)
        served.wait_for_log("/ops/sign-out")
    assert_clean("the log", served.log.read_text(), (*SECRETS, *PERSONAL, *secrets))
    assert_tables_clean(conn)
    stored = str(query(conn, "SELECT * FROM alerts_admin_actions"))
    assert_clean("the audit", stored, cookie_parts(cookie))


@dataclass(frozen=True)
class Places:
    """What is asked for, and what may stand in the answer all the same."""

    asked: list[tuple[str, str]]
    link: str
    badge: str

    @classmethod
    def of(cls, conn: Connection, ids: Mapping[str, object]) -> Places:
        link, badge = link_of(conn, int(str(ids["user"]))), str(badge_key(conn))
        real = {
            "/some-id": "/{run}",
            "/deliveries/7": "/deliveries/{delivery}",
            "/digests/7": "/digests/{digest}",
            "event_id=1&user_id=1": "event_id={event}&user_id={user}",
        }
        asked = []
        for method, path in ROUTES:
            for placeholder in (each for each in real if each in path):
                asked.append((method, path.replace(placeholder, real[placeholder]).format(**ids)))
            asked.append((method, path))  # with ids that nothing has
        asked += [(method, path.replace("7", badge, 1)) for method, path in BADGE_ROUTES]
        asked += [(method, path) for path in (link, f"{link}/undo") for method in GET_POST]
        asked += [(method, UNSUBSCRIBE) for method in GET_POST]
        asked += [("GET", path.format(**ids)) for path in (*PAGES, "/ops/login")]
        asked += [("POST", f"/ops/{name}") for name in ("retry", "pause", "setup", "login")]
        asked += [("GET", "/ops/static/ops.css"), ("POST", "/ops/sign-out")]
        return cls(asked, link, badge)

    def shown_at(self, path: str) -> tuple[str, ...]:
        """What is meant to be seen there: the texts of alerts are for everyone, whoever has come
        by a link has it, and the badge's address is shown to the operator."""
        if path.startswith("/alerts/events/latest"):
            return (HEADLINE, BODY)
        if path.startswith(UNSUBSCRIBE):
            return (self.link.rpartition("-")[2],)
        return (self.badge,) if path.startswith("/ops/setup") else ()

    def form_of(self, path: str, csrf: str) -> str:
        """The form of a page."""
        fields = {
            "/ops/retry": "kind=deliveries&shown=0&out_of=0",
            "/ops/pause": "action=pause&reason=looking",
            "/ops/setup": "channel=telegram",
            "/ops/login": f"token={READ_TOKEN}",
        }
        return f"csrf={csrf}&{fields.get(path, '')}"


GET_POST = ("GET", "POST")


def test_the_routes_asked_for_are_all_that_there_are(conn: Connection) -> None:
    user = canary_world(conn)
    ids = dict.fromkeys(("run", "delivery", "digest", "event"), 1) | {"user": user}
    app = app_for(CLOSED_PORT)
    asked = {
        (method, route_of(app, path.partition("?")[0], method))
        for method, path in Places.of(conn, ids).asked
    }
    found = {
        (method, (rule.endpoint.partition(".")[0], re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert found <= asked, found - asked


def page(served: Served, path: str, cookie: str) -> str:
    return ask(served, path, token="", Cookie=cookie)


def test_every_secret_that_is_documented_has_a_canary() -> None:
    text = (CHECKOUT / "replit.md").read_text()
    rows = re.findall(r"^\| (`[A-Z].*?) \|", text, re.MULTILINE)
    groups = [group for row in rows for group in re.findall(r"((?:`[A-Z_]+`(?:, )?)+) S\b", row)]
    names = {name for group in groups for name in re.findall(r"[A-Z_]+", group)}
    for workflow in (CHECKOUT / ".github/workflows").glob("*.yml"):
        names |= set(re.findall(r"secrets\.([A-Z_]+)", workflow.read_text()))
    assert {"INTERNAL_READ_TOKEN", "TELEGRAM_BOT_TOKEN", "DATABASE_URL"} <= names
    environ = {**canary_environ(), "DATABASE_URL": with_password("postgresql://u@h/d")}
    needles = {form for canary in (*SECRETS, *PERSONAL) for form in forms(canary)}
    for name in names:
        assert any(needle in environ[name] for needle in needles), name
