"""Installs the peers into .dev/peers/, in the versions pinned next to this file."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACE = HERE.parents[2] / ".dev" / "peers"


class Unavailable(Exception):
    """The peers of a language cannot run here; the message says why."""


def python() -> tuple[Path, Path]:
    """Return the interpreter of the Python peers' virtual environment and the programs' folder."""
    target = PLACE / "python"
    interpreter = target / "bin" / "python"

    def install() -> None:
        requirements = HERE / "python" / "requirements.txt"
        _run(target, sys.executable, "-m", "venv", str(target))
        _run(target, str(interpreter), "-m", "pip", "install", "-q", "-r", str(requirements))

    _once(target, "python/requirements.txt", install)
    return interpreter, HERE / "python"


def node() -> tuple[Path, Path]:
    """Return the Node.js that the peers need and the programs' folder.

    Node.js is installed as a package, since the machine's own may be older. The programs are copied
    next to the packages, because Node.js looks for packages only there.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("npm is not installed")
    target = PLACE / "node"
    interpreter = target / "node_modules" / "node" / "bin" / "node"

    def install() -> None:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "node" / file, target)
        _run(target, npm, "ci", "--no-audit", "--no-fund")
        if not interpreter.exists():
            raise Unavailable("npm did not run the install script of the package node")

    _once(target, "node/package-lock.json", install)
    for program in (HERE / "node").glob("*.mjs"):
        shutil.copy(program, target)
    return interpreter, target


def _once(target: Path, pins: str, install: Callable[[], None]) -> None:
    """Install unless already done with the same pins; a partial installation starts over."""
    stamp = target / ".complete"
    wanted = hashlib.sha256((HERE / pins).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    print(f"installing the peers of {target.name} ...", file=sys.stderr, flush=True)
    install()
    stamp.write_text(wanted)


def _run(target: Path, *command: str) -> None:
    log = target / "install.log"
    with log.open("a") as output:
        done = subprocess.run(
            command, check=False, cwd=target, stdout=output, stderr=subprocess.STDOUT
        )
    if done.returncode:
        raise Unavailable(f"{Path(command[0]).name} could not install them: see {log}")
