"""What the documents say to type, open or set exists in the product."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from urllib.parse import urlsplit

import click
import pytest
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException

from alerts import runner
from alerts.cli import commands
from tests.support import CHECKOUT
from tests.support.web import ADMIN, PREFIX, app_for

DOCUMENTS = {
    str(path.relative_to(CHECKOUT)): path.read_text()
    for pattern in ("*.md", "docs/**/*.md", "scripts/**/*.md", ".github/**/*.md")
    for path in sorted(CHECKOUT.glob(pattern))
    if "node_modules" not in path.parts
}
documents = pytest.mark.parametrize("name", DOCUMENTS)

# What stands in a document for a value of the reader's.
PLACEHOLDERS = {
    r"https?://\.\.\.|\bURL\b": "https://alerts.example.com",
    r"\bRUN_ID\b": "5b0c2a3e-8f0e-4b35-9d38-0f6f5a6f2f11",
    r"\b(ID|NUMBER)\b": "7",
    r"\bN\b": "30",
    r"--phase \.\.\.": "--phase all",
    r"\bSECONDS\b": "30",
    r"\bCHANNEL\b": "telegram",
    r"\bKEY\b": "0123456789abcdef",
}


def filled(text: str) -> str:
    """The text with a value for each placeholder."""
    for placeholder, value in PLACEHOLDERS.items():
        text = re.sub(placeholder, value, text)
    return text


def code(text: str) -> Iterator[str]:
    """Every line of fenced code, and every inline code."""
    fences = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for fence in fences.findall(text):
        yield from fence.replace("\\\n", " ").splitlines()
    yield from re.findall(r"`([^`\n]+)`", fences.sub("", text))


# Links


def anchors(markdown: str) -> set[str]:
    """The names by which GitHub makes a document's headings linkable."""
    headings = re.findall(r"^#+ +(.+?)\s*$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@documents
def test_links_lead_to_files_and_headings_that_exist(name: str) -> None:
    text = DOCUMENTS[name]
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", text)
    for link in (markdown or html for markdown, html in links):
        address = urlsplit(link)
        if address.scheme:
            continue
        target = (CHECKOUT / name).parent / address.path if address.path else CHECKOUT / name
        assert target.exists(), link
        if address.fragment:
            assert address.fragment in anchors(target.read_text()), link


# Files and variables

_PLACES = r"(?:alerts|app|sql|scripts|tests|docs|\.github|\.ci)"


@documents
def test_files_exist(name: str) -> None:
    if name == "CHANGELOG.md":
        return  # tells of what was
    for each in code(DOCUMENTS[name]):
        for path in re.findall(rf"(?<![\w/.=-]){_PLACES}/[\w./*-]*", each):
            pattern = re.sub(r"NNNN\w*", "*", path.rstrip("./"))
            assert any(CHECKOUT.glob(pattern)), path


def sources() -> str:
    """All of the product's own text in which a variable may be read."""
    files = (
        path
        for place in ("alerts", "app", "scripts", ".github", "tests/conftest.py")
        for path in [CHECKOUT / place, *(CHECKOUT / place).rglob("*")]
        if path.suffix in {"", ".py", ".yml", ".toml"} and path.is_file()
    )
    return "\n".join(path.read_text() for path in [*files, CHECKOUT / "gunicorn.conf.py"])


@pytest.fixture(scope="module")
def read_somewhere() -> frozenset[str]:
    return frozenset(re.findall(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", sources()))


@documents
def test_variables_are_read_by_the_product(name: str, read_somewhere: frozenset[str]) -> None:
    variable = re.compile(
        r"\b(?:ALERTS|INTERNAL|EMAIL|SMTP|BREVO|RESEND|TELEGRAM|TWILIO|PRODUCTION|DATABASE)"
        r"(?:_[A-Z0-9]+)+\b"
    )
    for each in variable.findall(DOCUMENTS[name]):
        assert each in read_somewhere, each


def test_every_variable_is_explained_to_the_operator() -> None:
    names = re.findall(
        r"\"((?:ALERTS|INTERNAL|EMAIL|SMTP|BREVO|RESEND|TELEGRAM|TWILIO|PRODUCTION|DATABASE)"
        r"(?:_[A-Z0-9]+)+)\"",
        sources(),
    )
    (settings,) = re.findall(
        r"^## Settings\n(.*?)^## ", DOCUMENTS["replit.md"], re.DOTALL | re.MULTILINE
    )
    assert {name for name in names if name not in settings and "_TEST_" not in name} == set()


# Commands


def command_lines(name: str) -> Iterator[list[str]]:
    """Every ``python -m alerts...`` of a document, as arguments from the module on."""
    for each in code(DOCUMENTS[name]):
        for found in re.findall(r"python -m (alerts(?:\.runner)?(?: .*)?)$", each):
            line = re.split(r" #|[;|]|&&|,? then ", filled(found))[0]
            yield shlex.split(line)
    sentences = r"\bretry-failed (?:deliveries|digests)(?: --[a-z-]+(?: [a-z_]+)?)*"
    for found in re.findall(sentences, " ".join(DOCUMENTS[name].split())):
        yield ["alerts", *found.split()]


def parsed(words: list[str]) -> None:
    """Parse a command line as the program would. Raises click.UsageError."""
    module, *arguments = words
    group: click.Command = runner._COMMAND if module == "alerts.runner" else commands.GROUP
    if isinstance(group, click.Group) and arguments:
        with click.Context(group) as context:
            found = group.get_command(context, arguments[0])
        assert found is not None, arguments
        group, arguments = found, arguments[1:]
    if "--help" not in arguments:
        group.make_context(group.name, arguments)


@documents
def test_commands_take_what_the_document_gives_them(name: str) -> None:
    for words in command_lines(name):
        if words[1:] and words[1] != "COMMAND":
            parsed(words)


def test_the_commands_of_the_operators_table_exist() -> None:
    (table,) = re.findall(
        r"^\| question \| request \| command \|\n(.*?)\n\n",
        DOCUMENTS["replit.md"],
        re.DOTALL | re.MULTILINE,
    )
    rows = re.findall(r"^\| [^|]+ \| [^|]* \| (`[^|]+) \|$", table, re.MULTILINE)
    lines = [line for row in rows for line in re.findall(r"`([a-z][^`]+)`", row)]
    for line in lines:
        parsed(["alerts", *shlex.split(filled(line))])
    assert len(lines) >= 15


# Addresses

_OWN = r"/(?:ops|badge|metrics|alerts|healthz|openapi|internal)\b"
_HOSTS = {"$APP": "", "$E": PREFIX, "http://127.0.0.1:5000": "", "https://alerts.example.com": ""}


def addresses(name: str) -> Iterator[tuple[str, str]]:
    """(method, path and query) of all that a document asks of the web app."""
    hosts = "|".join(map(re.escape, _HOSTS))
    for line in code(DOCUMENTS[name]):
        method = "POST" if "-X POST" in line else "GET"
        for host, path in re.findall(rf"({hosts})(/[^\s\"'`,)]*)", line):
            yield method, filled(_HOSTS[host] + path)
        for verb, path in re.findall(r"^(GET |POST )?(/[^\s\"'`,*]*)", line):
            if re.match(_OWN, path):
                yield verb.strip() or "GET", filled(path)
            elif verb:
                yield verb.strip(), filled(PREFIX + path)


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "docs/providers.md"])
def test_addresses_are_served_and_take_their_parameters(name: str, visitor: FlaskClient) -> None:
    routes = visitor.application.url_map.bind("")
    for method, address in addresses(name):
        path, _, query = address.partition("?")
        if path.endswith("/") or path == PREFIX:
            continue  # names all addresses below it
        try:
            routes.match(path, method)
        except HTTPException as error:
            pytest.fail(f"{method} {address}: {error}")
        if query and path.startswith(PREFIX):
            answer = visitor.open(address, method=method, headers=ADMIN)
            assert answer.status_code in (200, 404), (method, address, answer.text)


@pytest.fixture(scope="module")
def visitor(web_database: str) -> FlaskClient:
    return app_for(web_database).test_client()
