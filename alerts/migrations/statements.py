"""Splits a SQL file into statements, so that every error can name a line of the file.

The server reports the position of syntax and name errors, but not of errors that occur while a
statement runs (a lock, a duplicate row, a table that already exists). So statements are sent one by
one. If a file is split in the wrong place, the server rejects the piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Possessive quantifiers: an unterminated quote must fail at once, not match a shorter string.
_TOKEN = re.compile(
    r"""
      (?P<gap>\s++|--[^\n]*+)
    | (?P<comment>/\*)
    | (?P<string>
          (?P<dollar>\$(?:[^\W\d]\w*+)?\$).*?(?:(?P=dollar)|\Z)
        | [eE]'(?:[^'\\]|\\.|'')*+'
        | '(?:[^']|'')*+'
      )
    | "(?:[^"]|"")*+"
    | (?P<word>[^\W\d][\w$]*+)
    | \d\w*+
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_LEADING_WORDS = 4


@dataclass(frozen=True)
class Statement:
    """One statement without its semicolon.

    ``line`` is the line (from 1) on which it begins, ``words`` its first words in upper case,
    ``body`` the offset in ``text`` of its first string constant (in a DO statement, the code
    block), or None.
    """

    text: str
    line: int
    words: tuple[str, ...]
    body: int | None = None

    def line_at(self, offset: int) -> int:
        """Return the file's line for the character at ``offset`` of ``text``."""
        return self.line + self.text.count("\n", 0, offset)


def split_statements(text: str) -> list[Statement]:
    """Return the statements of ``text`` in order, without the comments between them."""
    statements = []
    for tokens in filter(None, _token_groups(text)):
        start, end = tokens[0].start(), tokens[-1].end()
        words = [token.group().upper() for token in tokens if token.lastgroup == "word"]
        body = next((t.start() - start for t in tokens if t.lastgroup == "string"), None)
        line = text.count("\n", 0, start) + 1
        statements.append(Statement(text[start:end], line, tuple(words[:_LEADING_WORDS]), body))
    return statements


def _token_groups(text: str) -> Iterator[list[re.Match[str]]]:
    """Yield each statement's tokens, split at semicolons outside parentheses and BEGIN ATOMIC."""
    group: list[re.Match[str]] = []
    parentheses = blocks = 0
    before = ""
    for token in _tokens(text):
        piece = token.group().upper()
        if piece == ";" and not parentheses and not blocks:
            yield group
            group = []
            continue
        if piece in ("(", ")"):
            parentheses = max(0, parentheses + (1 if piece == "(" else -1))
        elif (before, piece) == ("BEGIN", "ATOMIC") or (piece == "CASE" and blocks):
            blocks += 1
        elif piece == "END" and blocks:
            blocks -= 1
        before = piece
        group.append(token)
    yield group


def _tokens(text: str) -> Iterator[re.Match[str]]:
    """Skip white space and comments; an unterminated comment is left for the server to reject."""
    position = 0
    while token := _TOKEN.match(text, position):
        position = token.end()
        if token.lastgroup == "comment" and (end := _end_of_comment(text, position)):
            position = end
        elif token.lastgroup != "gap":
            yield token


def _end_of_comment(text: str, position: int) -> int | None:
    """Return the offset after the comment that is open at ``position``; comments nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, position):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    return None
