"""The engine's workflow: inputs stay out of shells, and no setting is forgotten."""

from typing import Any

from ruamel.yaml import YAML

from tests.support import CHECKOUT
from tests.support.environ import secret_environ, variables_read

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
