"""``docs/prometheus``: its rules, its scrape configuration, and a real Prometheus that scrapes the
real app with them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from psycopg2.extensions import connection as Connection

from tests.support import CHECKOUT
from tests.support.gunicorn import free_port, serving
from tests.support.web import ADMIN, add_item, add_run, app_for
from tests.support.world import query

DOCS = CHECKOUT / "docs" / "prometheus"
DEADLINE = 30.0
TOKEN = "read-only-token-for-prometheus"


def program(name: str) -> str:
    """Where Prometheus' program is; skips the test where it is not installed."""
    found = shutil.which(name, path=f"{CHECKOUT}/.dev/apt/bin:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian's package prometheus)")
    return found


def promtool(*arguments: str, given: str = "") -> str:
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=DOCS,
        input=given,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    return told


@pytest.fixture
def exposition(database_url: str, conn: Connection) -> str:
    """What /metrics answers once the engine has run."""
    client: FlaskClient = app_for(database_url).test_client()
    run = add_run(
        conn, triggered_by="github_actions_schedule", late_seconds=3, git_sha="5b0c1d2e",
        counts={"c": {"channels_held": {}, "channels": {"email": {"configured": True}}}},
    )  # fmt: skip
    (row,) = query(conn, "SELECT started_at FROM alerts_engine_runs WHERE run_id = %s", run)
    add_item(conn, run, "a", row["started_at"])
    return client.get("/metrics", headers=ADMIN).get_data(as_text=True)


def test_the_metrics_are_well_formed(exposition: str) -> None:
    assert promtool("check", "metrics", given=exposition) == ""


def test_the_rules_fire_and_do_not_fire() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_every_rule_has_a_test_that_fires_and_one_that_does_not() -> None:
    rules = re.findall(r"- alert: (\w+)", (DOCS / "alerts.yml").read_text())
    tests = (DOCS / "alerts_test.yml").read_text()
    assert len(rules) == len(set(rules)) == 10
    for rule in rules:
        assert f"alertname: {rule}, exp_alerts: []" in tests, rule
        assert f"alertname: {rule}\n        exp_alerts:\n          - exp_labels" in tests, rule


@pytest.mark.parametrize("file", ["alerts.yml", "alerts_test.yml"])
def test_rules_name_gauges_and_labels_that_there_are(exposition: str, file: str) -> None:
    """A rule over a name that nobody answers never fires."""
    known = set(re.findall(r"^# TYPE (\w+) gauge$", exposition, re.M))
    text = (DOCS / file).read_text()
    assert set(re.findall(r"\balerts_engine_\w+", text)) <= known


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A real Prometheus with the documented configuration; gives its address. The second job has
    a wrong token."""
    text = (DOCS / "prometheus.yml").read_text()
    for documented, here in (
        ("alerts.example.com", target),
        ("scheme: https", "scheme: http"),
        ("30s", "1s"),
        ("scrape_timeout: 10s", "scrape_timeout: 1s"),
    ):
        assert documented in text
        text = text.replace(documented, here)
    job = text[text.index("  - job_name") :]
    wrong = job.replace("alerts_engine", "wrong_token").replace(": token", ": wrong")
    (folder / "prometheus.yml").write_text(text + wrong)
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "wrong").write_text("another-token-than-the-right-one")
    shutil.copy(DOCS / "alerts.yml", folder)
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"),
                "--config.file=prometheus.yml",
                "--storage.tsdb.path=data",
                f"--web.listen-address={address}",
            ],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(DEADLINE)


def ask(address: str, path: str, **parameters: str) -> Any:
    try:
        url = f"{address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return json.load(answer)["data"]
    except OSError:  # it is starting
        return None


def values(address: str, query_: str) -> dict[str, float]:
    """By job the query's value."""
    found = ask(address, "query", query=query_) or {"result": []}
    return {each["metric"]["job"]: float(each["value"][1]) for each in found["result"]}


def test_a_real_prometheus_scrapes_the_real_app(
    database_url: str, conn: Connection, tmp_path: Path
) -> None:
    program("prometheus")
    add_run(conn, status="failed")
    with (
        serving(database_url, tmp_path / "web.log", INTERNAL_READ_TOKEN=TOKEN) as served,
        prometheus(tmp_path, f"127.0.0.1:{served.port}") as address,
    ):
        ends = time.monotonic() + DEADLINE
        while values(address, "up") != {"alerts_engine": 1, "wrong_token": 0}:
            assert time.monotonic() < ends, (tmp_path / "log").read_text()
            time.sleep(0.1)
        failing = values(address, 'alerts_engine_health_status{status="failing"}')
        assert failing == {"alerts_engine": 1}
        stored = values(address, 'count by (job) ({__name__=~"alerts_engine_.*"})')
        assert values(address, "scrape_samples_scraped")["alerts_engine"] == stored["alerts_engine"]
        (group,) = ask(address, "rules")["groups"]
        assert [rule for rule in group["rules"] if rule["health"] == "err"] == []
        targets = ask(address, "targets")["activeTargets"]
        errors = {each["labels"]["job"]: each["lastError"] for each in targets}
        assert errors["alerts_engine"] == ""
        assert "401" in errors["wrong_token"]
