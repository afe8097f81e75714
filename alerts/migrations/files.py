"""The migration files: ``sql/NNNN_name.sql``, read, checked and checksummed."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from alerts.migrations.statements import Statement, split_statements

_FILE_NAME = re.compile(r"(?P<version>[0-9]{4})_[a-z0-9_]+\.sql")

# A file that ends its transaction commits half of itself. If this is noticed only afterwards, that
# half cannot be rolled back.
_TRANSACTION_WORDS = frozenset(
    {"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "ABORT", "SAVEPOINT", "RELEASE"}
)


class MigrationError(Exception):
    """The migrations cannot be applied or compared; the text tells people how to fix it."""


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name (``0001_migration_helpers``), its SQL and checksum.

    ``sql`` uses only line feeds and ``checksum`` is its SHA-256, so a checkout with other line
    endings is still the same migration.
    """

    version: int
    name: str
    sql: str

    @property
    def file_name(self) -> str:
        """The file's name without its folder."""
        return f"{self.name}.sql"

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of the SQL, in hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @cached_property
    def statements(self) -> list[Statement]:
        return split_statements(self.sql)

    def refuse_what_breaks_the_transaction(self) -> None:
        """Raise :class:`MigrationError` if the file would end its transaction."""
        if not self.statements:
            raise MigrationError(
                f"{self.file_name} contains no SQL statement: is it complete? Nothing was applied."
            )
        for statement in self.statements:
            first, second = (*statement.words, "", "")[:2]
            problem = ""
            if first in _TRANSACTION_WORDS or (first, second) == ("PREPARE", "TRANSACTION"):
                problem = f"{first} is not allowed: every file runs in a transaction. Remove it"
            elif first == "SET" and second not in ("LOCAL", "CONSTRAINTS"):
                problem = "all settings are reset at the end of a file. Write SET LOCAL"
            if problem:
                raise MigrationError(
                    f"{self.file_name}, line {statement.line}: {problem} (nothing was applied)."
                )


def load_migrations(directory: Path) -> list[Migration]:
    """Return the migrations in ``directory`` by number, from 1 without a gap.

    Raises :class:`MigrationError` naming a file that is misnamed, unreadable or out of sequence.
    Files that neither end in ``.sql`` nor begin with a digit (a README) are ignored.
    """
    if not directory.is_dir():
        raise MigrationError(f"{directory} is not a folder: the migrations should be there.")
    paths = sorted(path for path in directory.iterdir() if _looks_like_migration(path))
    if not paths:
        raise MigrationError(f"{directory} contains no migrations (NNNN_name.sql).")
    bad = [path.name for path in paths if not _FILE_NAME.fullmatch(path.name)]
    if bad:
        raise MigrationError(
            f"badly named: {', '.join(bad)}. A migration is named NNNN_name.sql: four digits, "
            "an underscore, then lower-case letters, digits and underscores."
        )
    _refuse_numbers(paths)
    return [Migration(_version(path), path.stem, _read(path)) for path in paths]


def _looks_like_migration(path: Path) -> bool:
    # A missing or mistyped extension must not silently skip a migration.
    return path.is_file() and (path.suffix.lower() == ".sql" or path.name[0].isdigit())


def _refuse_numbers(paths: list[Path]) -> None:
    for wanted, path in enumerate(paths, start=1):
        number = _version(path)
        if number == wanted:
            continue
        if number > wanted:
            problem = f"the number {wanted:04} is missing, though there is {path.name}"
        elif number == 0:
            problem = f"the numbers begin at 0001, not at 0000 ({path.name})"
        else:
            problem = f"the number {number:04} is used twice: {paths[wanted - 2].name}, {path.name}"
        raise MigrationError(f"{problem}. Renumber the new files.")


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
        raise MigrationError(f"{path.name} contains a NUL character: it is not SQL text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")
