"""scripts/migrate.py as a real process: output, exit codes, many at once."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from tests.support import CHECKOUT
from tests.support.migrating import query

SCRIPT = CHECKOUT / "scripts" / "migrate.py"


def start(url: str | None, *arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    if url is not None:
        environ["DATABASE_URL"] = url
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        env=environ,
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(url: str | None, *arguments: str, folder: Path | None = None) -> tuple[int, str, str]:
    process = start(url, *arguments, folder=folder)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two migrations; the second fails where the first is applied twice."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE log (line TEXT);\n")
    (tmp_path / "0002_second.sql").write_text("INSERT INTO log VALUES ('second');\n")
    return tmp_path


def test_it_applies_from_any_folder_and_then_has_nothing_to_do(
    empty_database_url: str, tmp_path: Path
) -> None:
    code, out, err = run(empty_database_url, folder=tmp_path)
    assert (code, err) == (0, "")
    assert re.search(r"^0001_\w+\.sql  applied in \d+ ms$", out, re.MULTILINE)
    code, out, err = run(empty_database_url, folder=tmp_path)
    assert (code, out, err) == (0, "nothing to do: every migration is applied\n", "")


def test_eight_deploys_at_once_all_succeed_and_apply_each_file_once(
    empty_database_url: str, directory: Path
) -> None:
    for number in range(3, 7):
        (directory / f"000{number}_more.sql").write_text(f"INSERT INTO log VALUES ('{number}')")
    processes = [start(empty_database_url, "--directory", str(directory)) for _ in range(8)]
    results = [(*process.communicate(timeout=120), process.returncode) for process in processes]
    assert [code for _, _, code in results] == [0] * 8, results
    applied = [line for out, _, _ in results for line in out.splitlines() if " applied in " in line]
    assert sorted(line.split()[0] for line in applied) == sorted(
        path.name for path in directory.glob("*.sql")
    )
    assert query(empty_database_url, "SELECT count(*), count(DISTINCT line) FROM log") == [(5, 5)]
    assert query(empty_database_url, "SELECT count(*) FROM schema_migrations") == [(6,)]


def test_an_sql_error_is_named_on_standard_error_with_exit_1(
    empty_database_url: str, directory: Path
) -> None:
    (directory / "0003_third.sql").write_text("SELECT 1;\n\nSELECT nope;\n")
    code, out, err = run(empty_database_url, "--directory", str(directory))
    assert code == 1
    assert out.count("applied in") == 2
    assert err.startswith('error: 0003_third.sql, line 3: column "nope" does not exist')
    assert "Traceback" not in err


def test_a_locked_table_gives_exit_1_and_the_mend(empty_database_url: str, directory: Path) -> None:
    run(empty_database_url, "--directory", str(directory))
    (directory / "0003_third.sql").write_text("ALTER TABLE log ADD COLUMN n INT")
    arguments = ("--directory", str(directory), "--lock-timeout", "0.2")
    with closing(psycopg2.connect(empty_database_url)) as other:
        other.cursor().execute("LOCK TABLE log IN ACCESS SHARE MODE")
        code, _, err = run(empty_database_url, *arguments)
    assert code == 1
    assert "0003_third.sql, line 1" in err
    assert "Run again" in err
    assert run(empty_database_url, *arguments)[0] == 0


def test_status_shows_every_migration_and_creates_nothing(
    empty_database_url: str, directory: Path
) -> None:
    arguments = ("--status", "--directory", str(directory))
    code, out, _ = run(empty_database_url, *arguments)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["version", "name", "state"],
        ["0001", "0001_first", "pending"],
        ["0002", "0002_second", "pending"],
    ]
    assert query(empty_database_url, "SELECT to_regclass('schema_migrations')") == [(None,)]
    run(empty_database_url, "--directory", str(directory))
    code, out, _ = run(empty_database_url, *arguments)
    assert code == 0
    assert re.search(r"0001_first +applied 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\+0000$", out, re.M)


def test_status_of_a_changed_and_a_missing_file_is_exit_1(
    empty_database_url: str, directory: Path
) -> None:
    run(empty_database_url, "--directory", str(directory))
    (directory / "0001_first.sql").write_text("SELECT 1")
    (directory / "0002_second.sql").unlink()
    code, out, err = run(empty_database_url, "--status", "--directory", str(directory))
    assert code == 1
    assert re.search(r"0001_first +CHANGED", out)
    assert re.search(r"0002_second +MISSING", out)
    assert "0001_first.sql was changed" in err


def test_a_dry_run_says_what_would_be_applied(empty_database_url: str, directory: Path) -> None:
    code, out, _ = run(empty_database_url, "--dry-run", "--directory", str(directory))
    assert code == 0
    assert "0002_second.sql  would be applied" in out
    assert "everything was rolled back" in out
    assert query(empty_database_url, "SELECT to_regclass('log')") == [(None,)]


@pytest.mark.parametrize("url", [None, "", "  "])
def test_a_missing_database_url_is_named(url: str | None) -> None:
    code, _, err = run(url)
    assert code == 1
    assert err.startswith("error: DATABASE_URL is not set")


@pytest.mark.parametrize("arguments", [(), ("--status",), ("--dry-run",)])
def test_a_database_that_does_not_answer_is_named_without_the_password(
    arguments: tuple[str, ...],
) -> None:
    with closing(socket.socket()) as taken:  # bound but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        code, out, err = run(f"postgresql://me:geheim@127.0.0.1:{port}/db", *arguments)
    assert code == 1
    assert err.startswith("error: cannot connect to the database")
    assert str(port) in err
    assert "geheim" not in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "arguments",
    [("--nope",), ("--status", "--dry-run"), ("--lock-timeout", "0"), ("--wait", "soon"), ("x",)],
)
def test_wrong_usage_is_exit_2(arguments: tuple[str, ...]) -> None:
    assert run("postgresql://unused", *arguments)[0] == 2


def test_help_tells_of_exit_codes_and_locks() -> None:
    code, out, _ = run(None, "--help")
    assert code == 0
    assert "exit codes" in out
    assert "holds the locks" in " ".join(out.split())
