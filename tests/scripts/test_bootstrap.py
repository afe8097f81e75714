"""scripts/bootstrap in checkouts of its own, with real virtual environments."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import CHECKOUT

SCRIPT = CHECKOUT / "scripts" / "bootstrap"
# The base interpreter: a virtual environment made from another one's would depend on it.
PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A checkout that needs no package, where every account can read it."""
    with tempfile.TemporaryDirectory(prefix="bootstrap test ") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "scripts").mkdir()
        shutil.copy(SCRIPT, folder / "scripts")
        (folder / "requirements.txt").touch()
        (folder / "requirements-dev.txt").touch()
        yield folder


def command(checkout: Path) -> list[str]:
    return [str(checkout / "scripts" / "bootstrap")]


def bootstrap(
    checkout: Path, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *command(checkout)],
        env={**os.environ, "PYTHON": PYTHON, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def is_usable(checkout: Path) -> bool:
    pip = [str(checkout / ".dev" / "venv" / "bin" / "python"), "-m", "pip", "--version"]
    return subprocess.run(pip, capture_output=True, check=False).returncode == 0


def fake_python(folder: Path, name: str, body: str) -> str:
    """An interpreter that answers the question for its version, and then does `body`."""
    path = folder / name
    path.write_text(
        f'#!/bin/sh\ncase "$*" in *version_info*) echo "3.11.7 $0"; exit;; esac\n{body}\n'
    )
    path.chmod(0o755)
    return str(path)


def makes_venv(pip: str) -> str:
    """The body of an interpreter that makes, in no time, an environment whose pip does `pip`."""
    script = f"#!/bin/sh\n{pip}\n"
    return (
        f'case "$*" in "-m venv "*) mkdir -p "$3/bin"; '
        f"printf '%s' '{script}' >\"$3/bin/python\"; chmod +x \"$3/bin/python\";; esac"
    )


FAKE = makes_venv("exit 0")


def test_several_at_once_make_one_environment_and_later_starts_are_silent(checkout: Path) -> None:
    environment = {**os.environ, "PYTHON": PYTHON}
    starts = [
        subprocess.Popen(command(checkout), env=environment, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    messages = [start.communicate(timeout=120)[1] for start in starts]
    assert [start.returncode for start in starts] == [0, 0, 0]
    assert sum("Making .dev/venv" in message for message in messages) == 1
    assert is_usable(checkout)
    assert {path.name for path in checkout.iterdir()} == {
        *("scripts", "requirements.txt", "requirements-dev.txt", ".dev")
    }
    again = bootstrap(checkout)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_failed_installation_does_not_count_and_says_why(checkout: Path) -> None:
    failing = fake_python(checkout, "failing", makes_venv("echo no such package; exit 1"))
    for _ in range(2):
        done = bootstrap(checkout, PYTHON=failing)
        assert done.returncode == 1
        assert "no such package" in done.stderr
        assert "pip could not install the packages" in done.stderr
    assert bootstrap(checkout, PYTHON=fake_python(checkout, "fixed", FAKE)).returncode == 0


def test_an_interrupted_installation_begins_anew(checkout: Path) -> None:
    # As pip would: stopped in the middle, with files in place already.
    slow = fake_python(checkout, "python3", makes_venv('touch "${0%/bin/*}/half"; exec sleep 600'))
    running = subprocess.Popen(
        command(checkout),
        env={**os.environ, "PYTHON": slow},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    half = checkout / ".dev" / "venv" / "half"
    while not half.exists():
        assert running.poll() is None
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    python = fake_python(checkout, "python3", FAKE)
    assert "Making .dev/venv" in bootstrap(checkout, PYTHON=python).stderr
    assert not half.exists()
    assert bootstrap(checkout, PYTHON=python).stderr == ""


def test_changed_requirements_are_installed(checkout: Path) -> None:
    python = fake_python(checkout, "python3", FAKE)
    assert bootstrap(checkout, PYTHON=python).returncode == 0
    (checkout / "requirements.txt").write_text("flask\n")
    assert "Making .dev/venv" in bootstrap(checkout, PYTHON=python).stderr
    assert bootstrap(checkout, PYTHON=python).stderr == ""


def test_a_python_that_is_none_or_too_old_is_named(checkout: Path) -> None:
    done = bootstrap(checkout, PYTHON="/bin/false")
    assert done.returncode == 1
    assert "PYTHON=/bin/false is no Python of version 3.11 or newer" in done.stderr


def test_a_machine_without_python_hears_how_to_get_it(checkout: Path) -> None:
    tools = checkout / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "cat"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    done = bootstrap(checkout, PATH=str(tools), PYTHON="")
    assert done.returncode == 1
    assert "no Python of version 3.11 or newer was found" in done.stderr
    assert "apt-get install python3 python3-venv" in done.stderr


@pytest.mark.parametrize(
    ("name", "package"), [("python3", "python3-venv"), ("python3.11", "python3.11-venv")]
)
def test_a_python_without_the_venv_module_hears_which_package_has_it(
    checkout: Path, name: str, package: str
) -> None:
    python = fake_python(checkout, name, "exit 1")
    done = bootstrap(checkout, PYTHON=python)
    assert done.returncode == 1
    assert "no modules venv and ensurepip" in done.stderr
    assert f"apt-get install {package}\n" in done.stderr
    assert not (checkout / ".dev").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a checkout of another user")
@pytest.mark.parametrize("made", ["nothing", ".dev", ".dev/venv"])
def test_a_checkout_of_another_user_is_refused_with_his_name(checkout: Path, made: str) -> None:
    if made != "nothing":
        (checkout / made).mkdir(parents=True)
    if made == ".dev/venv":
        os.chown(checkout / ".dev", pwd.getpwnam("nobody").pw_uid, -1)
    python = fake_python(checkout, "python3", "exit 0")
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    done = bootstrap(checkout, as_nobody, PYTHON=python)
    assert done.returncode == 1
    assert "belongs to root" in done.stderr
    assert "nobody" in done.stderr
