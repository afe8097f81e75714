"""The migration files: ``sql/NNNN_name.sql``, read, checked and checksummed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alerts.migrations.statements import Statement, split_statements

_FILE_NAME = re.compile(r"(?P<version>[0-9]{4})_[a-z0-9_]+\.sql")

# Each migration runs in a transaction that also holds its row in schema_migrations. A file
# that ends that transaction would commit half of itself, so it is refused before it starts:
# found only afterwards, the half could not be taken back.
_TRANSACTION_WORDS = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
)


class MigrationError(Exception):
    """The migrations cannot be applied or judged; the text is for people and names the mend."""


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name (``0001_migration_helpers``), its SQL and checksum.

    ``sql`` has line feeds only and ``checksum`` is the SHA-256 of that, so that a checkout
    with other line endings is the same migration.
    """

    version: int
    name: str
    sql: str

    @property
    def file_name(self) -> str:
        """The file's name, without its folder."""
        return f"{self.name}.sql"

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the SQL, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @cached_property
    def statements(self) -> list[Statement]:
        """The file's statements in order."""
        return split_statements(self.sql)

    def refuse_what_breaks_the_transaction(self) -> None:
        """Raise :class:`MigrationError` when the file would leave its transaction."""
        if not self.statements:
            raise MigrationError(
                f"{self.file_name} holds no SQL statement: was it saved whole? Nothing was applied."
            )
        for statement in self.statements:
            _refuse_statement(self.file_name, statement)


def _refuse_statement(file_name: str, statement: Statement) -> None:
    where = f"{file_name}, line {statement.line}"
    words = statement.words
    if words[:1] and (words[0] in _TRANSACTION_WORDS or words[:2] == ("PREPARE", "TRANSACTION")):
        raise MigrationError(
            f"{where}: {words[0]} is not allowed in a migration: every file already runs in one "
            "transaction of its own, together with its record. Remove it (the file was not begun)."
        )
    if words[:1] == ("SET",) and words[1:2] not in (("LOCAL",), ("CONSTRAINTS",)):
        raise MigrationError(
            f"{where}: a plain SET would outlive the file and reach the next one, or another "
            "client behind a connection pooler. Write SET LOCAL (the file was not begun)."
        )


def load_migrations(directory: Path) -> list[Migration]:
    """The migrations of ``directory`` by number, which run from 1 without a gap.

    Raises :class:`MigrationError` naming every file that is badly named, unreadable or out of
    sequence. Files that neither end in ``.sql`` nor begin with a digit (a README) are left alone.
    """
    if not directory.is_dir():
        raise MigrationError(f"{directory} is not a folder: the migrations are looked for there.")
    paths = sorted(path for path in directory.iterdir() if _looks_like_migration(path))
    if not paths:
        raise MigrationError(f"{directory} holds no migrations (NNNN_name.sql).")
    _refuse_names(paths)
    _refuse_numbers(paths)
    return [Migration(_version(path), path.stem, _read(path)) for path in paths]


def _looks_like_migration(path: Path) -> bool:
    # A forgotten or mistyped extension must not silently leave a migration out.
    return path.is_file() and (path.suffix.lower() == ".sql" or path.name[0].isdigit())


def _refuse_names(paths: list[Path]) -> None:
    bad = [path.name for path in paths if not _FILE_NAME.fullmatch(path.name)]
    if bad:
        raise MigrationError(
            f"badly named: {', '.join(bad)}. A migration is named NNNN_name.sql: four digits, "
            "an underscore, then small letters, digits and underscores."
        )


def _refuse_numbers(paths: list[Path]) -> None:
    names_by_version: dict[int, list[str]] = {}
    for path in paths:
        names_by_version.setdefault(_version(path), []).append(path.name)
    problems = [
        f"the number {version:04} is used twice: {', '.join(names)}"
        for version, names in names_by_version.items()
        if len(names) > 1
    ]
    if 0 in names_by_version:
        problems.append("the numbers begin at 0001, not at 0000")
    problems += [
        f"the number {version:04} is missing, though there is {max(names_by_version):04}"
        for version in range(1, max(names_by_version))
        if version not in names_by_version
    ]
    if problems:
        raise MigrationError("; ".join(problems) + ". Renumber the files that are new.")


def _version(path: Path) -> int:
    return int(path.name[:4])


def _read(path: Path) -> str:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise MigrationError(
            f"{path.name}, line {line}: not UTF-8. Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise MigrationError(f"{path.name} cannot be read: {error.strerror}.") from error
    if "\0" in text:
        raise MigrationError(f"{path.name} holds a NUL character: it is no SQL text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
