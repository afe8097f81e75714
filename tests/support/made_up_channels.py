"""A copy of the engine with two invented channels, added as CONTRIBUTING.md describes.

``pager`` has no digests; ``push`` has them and requires a verified address. One provider serves
both and appends its messages to a file.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support import CHECKOUT
from tests.support.run_world import Runner
from tests.support.world import NOW

KINDS = """\
    ChannelKind("pager", destination="pager_number", quota=True),
    ChannelKind("push", destination="push_to", verified="push_confirmed", digests=True, quota=True),
"""

ADAPTER = '''\
"""Messages to a file that plays the provider of two channels."""

import json
from pathlib import Path

from alerts.channels.base import Channel, Message
from alerts.channels.provider import (
    CallOptions, Provider, Values, secret_variable, text_variable,
)

CODE, FILE = secret_variable("BEEPER_CODE"), text_variable("BEEPER_FILE")


class BeeperChannel:
    name = "beeper"

    def __init__(self, code, file, channel):
        self._code, self._file, self._channel = code, Path(file), channel

    def send(self, message: Message) -> str | None:
        said = {"channel": self._channel, "to": message.destination, "text": message.text}
        with self._file.open("a") as file:
            file.write(json.dumps(said) + "\\n")
        return f"{self._channel}-{message.key}"

    def close(self) -> None:
        pass


def _build(values: Values, channel: str, options: CallOptions) -> Channel:
    return BeeperChannel(values[CODE], values[FILE], channel)


PROVIDER = Provider(
    name="beeper",
    channels=("pager", "push"),
    build=_build,
    credentials=(CODE,),
    requires=(FILE,),
)
'''

MIGRATION = """\
ALTER TABLE users ADD COLUMN pager_number BIGINT;
ALTER TABLE users ADD COLUMN push_to TEXT;
ALTER TABLE users ADD COLUMN push_confirmed BOOLEAN;

DO $$
DECLARE
    old record;
BEGIN
    FOR old IN
        SELECT c.conrelid::regclass AS tab, c.conname, pg_get_constraintdef(c.oid) AS def
        FROM pg_constraint AS c
        WHERE c.contype = 'c' AND pg_get_constraintdef(c.oid) LIKE '%(channel = ANY%''email''%'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', old.tab, old.conname);
        EXECUTE format(
            'ALTER TABLE %s ADD CONSTRAINT %I %s', old.tab, old.conname,
            replace(
                old.def, '''email''::text',
                CASE WHEN old.tab <> 'user_alert_digests'::regclass THEN '''pager'', ' ELSE '' END
                || '''push'', ''email''::text'
            )
        );
    END LOOP;
    EXECUTE 'CREATE OR REPLACE VIEW plan_channel_limits AS '
        || rtrim(pg_get_viewdef('plan_channel_limits'), ';')
        || $v$ UNION ALL SELECT p.plan_code, c.channel, TRUE, 1
            FROM plan_settings AS p, (VALUES ('pager'), ('push')) AS c (channel) $v$;
END
$$;
"""

# For each file, what is inserted before which text.
INSERTIONS = {
    "alerts/channels/names.py": [(KINDS, '    ChannelKind("account"')],
    "alerts/channels/__init__.py": [
        ("from alerts.channels import beeper\n", "from alerts.channels import"),
        ("    beeper.PROVIDER,\n", "    outbox.PROVIDER,"),
    ],
    "alerts/messages/__init__.py": [
        ('    "pager": sms.render_alert,\n    "push": sms.render_alert,\n',
         '    "email": mail.render_alert,'),
        ('    "push": telegram.render_digest,\n', '    "email": mail.render_digest,'),
    ],
}  # fmt: skip


class Extended:
    """The migrated copy and its commands."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.tree = folder / "tree"
        for name in ("alerts", "sql", "scripts"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(CHECKOUT / name, self.tree / name, ignore=ignore)
        for name, insertions in INSERTIONS.items():
            self._insert(self.tree / name, insertions)
        (self.tree / "alerts/channels/beeper.py").write_text(ADAPTER)
        last = max(int(file.name[:4]) for file in (CHECKOUT / "sql").glob("*.sql"))
        (self.tree / f"sql/{last + 1:04}_made_up_channels.sql").write_text(MIGRATION)
        self.file = folder / "beeper.jsonl"
        self.runner = Runner(database_url, folder)
        self.runner.environ = {
            "PATH": self.runner.environ["PATH"],
            "PYTHONPATH": str(self.tree),
            "DATABASE_URL": database_url,
            "BEEPER_CODE": "hush-beeper",
            "BEEPER_FILE": str(self.file),
        }
        migrate = [sys.executable, str(self.tree / "scripts/migrate.py")]
        done = subprocess.run(
            migrate, env=self.runner.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def differing(self) -> set[str]:
        """Return the copy's files that differ from the checkout's."""
        files = [p.relative_to(self.tree) for p in self.tree.rglob("*") if p.suffix != ".pyc"]
        return {
            str(name)
            for name in files
            if (self.tree / name).is_file()
            and not (
                (CHECKOUT / name).is_file()
                and filecmp.cmp(self.tree / name, CHECKOUT / name, shallow=False)
            )
        }

    def run(self, phase: str, now: datetime, **environ: str) -> None:
        """Run the engine, which must succeed."""
        code, lines = self.runner.json_lines("--phase", phase, "--now", now.isoformat(), **environ)
        assert code == 0, lines

    def ask(self, *arguments: str, code: int = 0, **environ: str) -> Any:
        """Run a command, check its exit code and return its answer."""
        environ = {"ALERTS_CLOCK": NOW.isoformat(), **environ}
        done = self.runner.command(*arguments, "--json", **environ)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def messages(self) -> list[tuple[str, str]]:
        """Return channel and destination of each message the provider has received so far."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        said = [json.loads(line) for line in lines]
        assert all(each["text"] for each in said)
        return [(each["channel"], each["to"]) for each in said]

    @staticmethod
    def _insert(path: Path, insertions: list[tuple[str, str]]) -> None:
        text = path.read_text()
        for added, before in insertions:
            assert text.count(before) == 1, f"{path} has no single {before!r}"
            text = text.replace(before, added + before)
        path.write_text(text)
