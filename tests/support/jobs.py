"""A job of a workflow, as far as a test needs GitHub: its shell steps and its cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import CHECKOUT

# What a runner has beside the checkout: Python, and no packages to install.
SKIPPED = ("actions/checkout", "actions/setup-python", "actions/upload-artifact")


@dataclass
class Cache:
    """Folders by key, the newest last."""

    folder: Path
    keys: list[str] = field(default_factory=list)

    def save(self, key: str, path: Path) -> None:
        """Keep the folder; a key is written once."""
        assert path.is_dir(), "GitHub keeps only what is there"
        assert any(path.iterdir()), "an empty folder may not be kept"
        assert key not in self.keys
        shutil.copytree(path, self.folder / key)
        self.keys.append(key)

    def restore(self, key: str, prefix: str, path: Path) -> None:
        """Bring back what has the key, or else the newest that begins with the prefix."""
        found = [each for each in self.keys if each == key or each.startswith(prefix)]
        if found:
            shutil.copytree(self.folder / found[-1], path)


class Job:
    """One job on a machine of its own: a folder that holds the checkout's code and nothing else."""

    def __init__(self, folder: Path, cache: Cache, number: int, environ: dict[str, str]) -> None:
        self.folder, self.cache, self.number = folder / f"job-{number}", cache, number
        self.folder.mkdir()
        for name in ("alerts", "sql"):
            (self.folder / name).symlink_to(CHECKOUT / name)
        (self.folder / "logs").mkdir()
        self.environ = {"PATH": os.environ["PATH"], "CI": "true", **environ}
        self.outputs: dict[str, dict[str, str]] = {}
        self.codes: dict[str, int] = {}

    def do(self, job: dict[str, Any]) -> bool:
        """Do the job's steps; whether it ended well."""
        self.environ |= {n: v for n, v in job["env"].items() if "${{" not in v}
        failed = False
        for step in job["steps"]:
            condition = str(step.get("if", ""))
            if (failed and "always()" not in condition) or not self._holds(condition):
                continue
            code = self._step(step)
            self.codes[step.get("name", step.get("uses", ""))] = code
            failed |= code != 0 and not step.get("continue-on-error", False)
        return not failed

    def _holds(self, condition: str) -> bool:
        """Whether a condition of the workflow does; one that is not known here fails the test."""
        records = self.outputs.get("spool", {}).get("records", "")
        changed = "${{ always() && hashFiles('spool/*.jsonl') != steps.spool.outputs.records }}"
        known = {
            "": True,
            "always()": True,
            changed: self._hash("spool/*.jsonl") != records,
            "${{ always() && hashFiles('logs/run.jsonl') != '' }}": bool(
                self._hash("logs/run.jsonl")
            ),
        }
        return known[condition]

    def _value(self, text: str) -> str:
        known = {
            "alerts-spool-${{ github.run_id }}-${{ github.run_attempt }}":
                f"alerts-spool-{self.number}-1",
            "${{ hashFiles('spool/*.jsonl') }}": self._hash("spool/*.jsonl"),
            "${{ inputs.phase || 'all' }}": "all",
            "${{ inputs.dry_run || 'false' }}": "false",
            "${{ inputs.since_hours || '24' }}": "24",
            "${{ inputs.batch_size }}": "",
        }  # fmt: skip
        return known[text] if "${{" in text else text

    def _hash(self, pattern: str) -> str:
        files = sorted(self.folder.glob(pattern))
        return hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest() if files else ""

    def _step(self, step: dict[str, Any]) -> int:
        action, options = str(step.get("uses", "")).partition("@")[0], step.get("with", {})
        if action in SKIPPED or step.get("name") == "Install":
            return 0
        if action:
            path, key = self.folder / options["path"], self._value(options["key"])
            if action == "actions/cache/save":
                self.cache.save(key, path)
            else:
                assert action == "actions/cache/restore"
                self.cache.restore(key, options["restore-keys"], path)
            return 0
        return self._shell(step)

    def _shell(self, step: dict[str, Any]) -> int:
        output = self.folder / "output"
        output.write_text("")
        variables = {name: self._value(text) for name, text in step.get("env", {}).items()}
        # As GitHub calls it where a step says "shell: bash".
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.folder,
            env={**self.environ, **variables, "GITHUB_OUTPUT": str(output),
                 "PATH": f"{Path(sys.executable).parent}:{self.environ['PATH']}"},
            capture_output=True,
            timeout=120,
            check=False,
        )  # fmt: skip
        pairs = dict(line.split("=", 1) for line in output.read_text().splitlines())
        self.outputs[step.get("id", "")] = pairs
        return done.returncode
