"""Imports run one way, from the programs down to the pure modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support import CHECKOUT

# Rooms and single modules from the top down; a module imports only from its own place or from
# layers below it. Rooms of one layer do not know each other. A module that stands here by its own
# name is no longer part of its room.
LAYERS = (
    ("alerts.runner", "alerts.__main__", "app"),
    ("alerts.cli",),
    ("alerts.questions",),
    ("alerts.owner",),
    ("alerts.engine", "alerts.preflight", "alerts.deployment"),
    ("alerts.health", "alerts.lookup", "alerts.leaving"),
    ("alerts.repair",),
    ("alerts.phases",),
    ("alerts.engine_observability",),
    ("alerts.runs",),
    ("alerts.logs",),
    ("alerts.redaction",),
    ("alerts.settings",),  # puts together what the rooms below declare
    (
        "alerts.access",
        "alerts.channels",
        "alerts.messages",
        "alerts.locks",
        "alerts.migrations",
        "alerts.words",
    ),
    ("alerts.settings.env", "alerts.channels.names", "alerts.leaving.links"),
    ("alerts.readers",),
    (
        "alerts.db",
        "alerts.failures",
        "alerts.clock",
        "alerts.findings",
        "alerts.paging",
        "alerts.cleaning",
        "alerts.product_days",
    ),
)
WEB = ("flask", "werkzeug", "gunicorn", "app")


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("alerts", "app"):
        for path in sorted((CHECKOUT / package).rglob("*.py")):
            parts = path.relative_to(CHECKOUT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that the file imports, also inside functions and for type checking."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            assert node.module
            for alias in node.names:  # a module of the package, or something that it defines
                inside = f"{node.module}.{alias.name}"
                found.add(inside if inside in MODULES else node.module)
    return found


def place(module: str) -> tuple[int, str] | None:
    """The layer of a module of ours and the room it lies in; None for other people's."""
    found = [
        (number, name)
        for number, names in enumerate(LAYERS)
        for name in names
        if module == name or module.startswith(f"{name}.")
    ]
    return max(found, key=lambda each: len(each[1]), default=None)


def layer(module: str) -> int | None:
    """The layer of a module of ours; None for other people's."""
    found = place(module)
    return found and found[0]


OURS = [(name, path) for name, path in MODULES.items() if name != "alerts"]


@pytest.mark.parametrize(("name", "path"), OURS, ids=[name for name, _ in OURS])
def test_module_imports_only_its_own_layer_and_those_below(name: str, path: Path) -> None:
    mine = layer(name)
    assert mine is not None, f"{name} stands in no layer: add it to LAYERS"
    for imported in imports(path):
        if imported == "alerts":
            continue
        theirs = layer(imported)
        if theirs is None or theirs > mine:
            continue
        same_place = place(imported) == place(name)
        assert same_place, f"{name} imports {imported}, which stands beside or above it"


@pytest.mark.parametrize(("name", "path"), OURS, ids=[name for name, _ in OURS])
def test_engine_knows_nothing_of_the_web(name: str, path: Path) -> None:
    if name.partition(".")[0] == "alerts":
        assert not {imported.partition(".")[0] for imported in imports(path)} & set(WEB)


ENVIRONMENT = ("environ", "environb", "getenv")


def _of_os(node: ast.AST) -> bool:
    """Whether it is ``os.environ`` or the like."""
    named = isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT
    return named and isinstance(node.value, ast.Name) and node.value.id == "os"


def test_only_the_programs_take_the_environment_and_hand_it_to_the_settings() -> None:
    takers = {
        name
        for name, path in OURS
        for node in ast.walk(ast.parse(path.read_text()))
        if _of_os(node) or getattr(node, "name", None) in ENVIRONMENT
    }
    assert takers == {"alerts.cli.options", "app"}


def test_programs_do_not_import_each_other() -> None:
    for name, path in OURS:
        for program in {"alerts.runner", "alerts.__main__"} - {name}:
            assert program not in imports(path), name


def test_migrations_rest_on_the_database_alone() -> None:
    for name, path in OURS:
        if name.startswith("alerts.migrations"):
            ours = {imported for imported in imports(path) if layer(imported) is not None}
            allowed = {n for n in ours if n == "alerts.db" or n.startswith("alerts.migrations")}
            assert ours == allowed, name


def test_messages_and_failures_know_neither_database_nor_settings() -> None:
    for name, path in OURS:
        if name == "alerts.failures" or name.startswith("alerts.messages"):
            ours = {imported for imported in imports(path) if layer(imported) is not None}
            ours -= {"alerts.cleaning", "alerts.product_days"}
            assert all(imported.startswith("alerts.messages") for imported in ours), name


@pytest.mark.parametrize("start", sorted(MODULES))
def test_no_module_imports_itself_in_a_circle(start: str) -> None:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for imported in imports(MODULES[waiting.pop()]):
            assert imported != start, f"{start} is imported by what it imports"
            if imported in MODULES and imported not in seen:
                seen.add(imported)
                waiting.append(imported)
