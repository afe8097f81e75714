"""DATABASE_URL comes first, PRODUCTION_DATABASE_URL second, and neither is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from alerts.redaction import redactor_for
from alerts.settings.config import ConfigError, Settings, database_url_of, require_database_url
from tests.support.run_world import Runner
from tests.support.web import CLOSED_PORT

ONE = "postgresql://one:hush-one@127.0.0.1:9/one"
TWO = "postgresql://two:hush-two@127.0.0.1:9/two"


@pytest.mark.parametrize(
    ("development", "production", "used", "differ"),
    [
        (ONE, None, ONE, False),
        (None, TWO, TWO, False),
        ("", TWO, TWO, False),
        (" ", TWO, TWO, False),
        (ONE, "", ONE, False),
        (ONE, ONE, ONE, False),
        (ONE, f" {ONE}\n", ONE, False),
        (ONE, TWO, ONE, True),
        (ONE, "no address", ONE, True),  # it is not used, so it stops nothing
    ],
)
def test_first_that_is_set_is_used(
    development: str | None, production: str | None, used: str, differ: bool
) -> None:
    given = {"DATABASE_URL": development, "PRODUCTION_DATABASE_URL": production}
    environ = {name: value for name, value in given.items() if value is not None}
    settings = Settings.from_env(environ)
    assert require_database_url(settings) == database_url_of(environ) == used
    assert (settings.other_database_url is not None) is differ


def test_address_that_cannot_be_one_is_named_by_its_variable() -> None:
    with pytest.raises(ConfigError, match=r"^PRODUCTION_DATABASE_URL has quotation marks") as told:
        Settings.from_env({"PRODUCTION_DATABASE_URL": f'"{TWO}"'})
    assert "hush" not in str(told.value)


def test_passwords_of_both_are_hidden() -> None:
    settings = Settings.from_env({"DATABASE_URL": ONE, "PRODUCTION_DATABASE_URL": TWO})
    scrub = redactor_for(settings).scrub
    assert "hush" not in scrub(f"{ONE} {TWO} hush-one hush-two")


def test_preflight_and_log_tell_that_they_differ(database_url: str, tmp_path: Path) -> None:
    runner = Runner(database_url, tmp_path)
    both = {"PRODUCTION_DATABASE_URL": CLOSED_PORT}
    told = runner.command("preflight", **both)
    assert '"databases_differ"' in told.stdout
    run = runner("--phase", "a", "--dry-run", **both)
    assert run.returncode == 0
    assert "name different databases; DATABASE_URL is used" in run.stderr
    assert "hush" not in told.stdout + told.stderr + run.stdout + run.stderr
    alone = runner.command(
        "runs", "--json", DATABASE_URL="", PRODUCTION_DATABASE_URL=runner.environ["DATABASE_URL"]
    )
    assert (alone.returncode, alone.stderr) == (0, "")
