"""The engine's workflow: inputs stay out of shells, and no setting is forgotten."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection
from ruamel.yaml import YAML

from alerts import db
from alerts.settings.owner import SECRET_NAMES as OWNER_SECRETS
from tests.support import CHECKOUT
from tests.support.environ import secret_environ, variables_read
from tests.support.jobs import Cache, Job
from tests.support.web import CLOSED_PORT
from tests.support.world import query

WORKFLOW = CHECKOUT / ".github/workflows/alerts_engine_v2.yml"

# Read by the runner but nothing a scheduled job sets: replays, other hosts, GitHub's own.
NOT_FOR_THE_JOB = {
    "ALERTS_CLOCK", "ALERTS_OUTBOX_DIR", "INTERNAL_RUNNER_TOKEN", "INTERNAL_READ_TOKEN", "CI",
    "PORT",
    "BREVO_API_BASE", "RESEND_API_BASE", "TELEGRAM_API_BASE", "TWILIO_API_BASE",
}  # fmt: skip


def workflow() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(WORKFLOW)
    return loaded


def test_inputs_reach_shells_as_environment_variables_only() -> None:
    for step in workflow()["jobs"]["run"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_every_setting_of_the_runner_is_passed_on() -> None:
    wanted = {name for name in variables_read() if not name.startswith("GITHUB_")} - NOT_FOR_THE_JOB
    assert wanted == set(workflow()["jobs"]["run"]["env"])


def test_only_credentials_come_from_secrets() -> None:
    env = workflow()["jobs"]["run"]["env"]
    assert {name for name, value in env.items() if "secrets." in value} == {
        "DATABASE_URL",
        "PRODUCTION_DATABASE_URL",
        *OWNER_SECRETS,
        *secret_environ(),
    }


def test_a_run_under_way_is_never_cancelled_by_the_next() -> None:
    assert workflow()["concurrency"]["cancel-in-progress"] is False


def test_the_schedule_keeps_off_the_full_hour() -> None:
    (entry,) = workflow()["on"]["schedule"]
    assert entry["cron"].split()[0] == "3-53/10"


def test_signals_reach_python() -> None:
    (step,) = [s for s in workflow()["jobs"]["run"]["steps"] if s.get("name") == "Run"]
    assert "exec python -m alerts.runner" in step["run"]


def test_pruning_is_weekly_and_takes_its_days_from_the_environment() -> None:
    text = (WORKFLOW.parent / "alerts_prune.yml").read_text()
    assert 'cron: "38 3 * * 0"' in text
    command = text[text.index("run: |") :]
    assert 'prune --keep-days "$KEEP_DAYS"' in command
    assert "python -m alerts " in command
    assert "${{" not in command  # an input that reaches the shell as text could be a command


# The steps, done one after another on clean machines


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Callable[..., Job]:
    """Does the workflow's job on the next machine; ``environ`` are its secrets and variables."""
    (tmp_path / "cache").mkdir()
    cache, numbers = Cache(tmp_path / "cache"), itertools.count(1)

    def do(**environ: str) -> Job:
        number = next(numbers)
        given = {"DATABASE_URL": database_url, "GITHUB_RUN_ID": str(number), **environ}
        done = Job(tmp_path, cache, number, given)
        done.codes["job"] = 0 if done.do(workflow()["jobs"]["run"]) else 1
        return done

    return do


def runs(conn: Connection) -> list[str]:
    rows = query(conn, "SELECT status FROM alerts_engine_runs ORDER BY started_at")
    return [row["status"] for row in rows]


def test_a_record_that_one_job_cannot_store_the_next_one_does(
    conn: Connection, job: Callable[..., Job]
) -> None:
    db.execute(conn, "ALTER TABLE alerts_engine_runs RENAME TO elsewhere")
    for kept in (1, 2):
        lost = job()
        assert (lost.codes["Run"], lost.codes["Keep the spool"]) == (0, 0)
        lines = (lost.folder / "spool/alerts_runs_spool.jsonl").read_text().splitlines()
        assert len(lines) == kept  # the second carries on what the first left
    db.execute(conn, "ALTER TABLE elsewhere RENAME TO alerts_engine_runs")
    assert runs(conn) == []
    stored = job()
    assert runs(conn) == ["success"] * 3
    assert not list((stored.folder / "spool").glob("*.jsonl"))
    # That it is empty now is carried on as well, and after that there is nothing to carry.
    assert "Keep the spool" in stored.codes
    for _ in range(2):
        assert "Keep the spool" not in job().codes
    assert len(runs(conn)) == 5
    assert len(stored.cache.keys) == 3


def test_where_nothing_is_spooled_nothing_is_kept(job: Callable[..., Job]) -> None:
    assert job().codes["job"] == 0
    assert job().cache.keys == []


def test_what_is_set_aside_is_carried_on_too(conn: Connection, job: Callable[..., Job]) -> None:
    db.execute(conn, "ALTER TABLE alerts_engine_runs RENAME TO elsewhere")
    lost = job()
    (kept,) = lost.cache.folder.glob("*/*.jsonl")
    kept.write_text("no record\n" + kept.read_text())
    db.execute(conn, "ALTER TABLE elsewhere RENAME TO alerts_engine_runs")
    assert runs(conn) == []
    mended = job()
    assert runs(conn) == ["success", "success"]
    assert "no record" in (mended.folder / "spool/alerts_runs_spool.jsonl.rejected").read_text()


TROUBLE: dict[str, tuple[dict[str, str], list[str]]] = {
    "a variable that does not parse": ({"ALERTS_SEND_WORKERS": "many"}, ["failed"]),
    "a channel's variable": (
        {"SMTP_URL": "mail", "EMAIL_FROM": "a@example.com"}, ["failed"],
    ),
    "a channel that lacks one": ({"TWILIO_ACCOUNT_SID": "AC1"}, ["failed"]),
    "a newer database": ({}, ["success"]),
    "a migration that is lacking": ({}, ["failed"]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TROUBLE)
def test_what_the_preflight_finds_keeps_no_run_from_starting(
    conn: Connection, job: Callable[..., Job], kind: str
) -> None:
    environ, recorded = TROUBLE[kind]
    if kind == "a newer database":
        db.execute(conn, "INSERT INTO schema_migrations VALUES (9000, '9000_more', 'x', now())")
    if kind == "a migration that is lacking":
        db.execute(conn, "DELETE FROM schema_migrations WHERE version = 9")
    done = job(**environ)
    assert done.codes["Preflight"] == (0 if kind == "a newer database" else 1)
    assert runs(conn) == recorded
    assert done.codes["job"] == (0 if recorded == ["success"] else 1)


def test_a_database_out_of_reach_leaves_a_record_for_the_next_job(
    conn: Connection, job: Callable[..., Job]
) -> None:
    lost = job(DATABASE_URL=CLOSED_PORT)
    assert (lost.codes["Preflight"], lost.codes["Run"], lost.codes["job"]) == (1, 1, 1)
    job()
    assert runs(conn) == ["failed", "success"]
