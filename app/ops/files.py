"""The style, the script and the icon: kept in memory, named by their content, cached for a year."""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from pathlib import Path

from flask import Response

from app.errors import ApiError

_FOLDER = Path(__file__).parent / "static"
_FOREVER = "public, max-age=31536000, immutable"


def file_address(name: str) -> str:
    """Where the file is: a changed file has another address."""
    _, mark = _read(name)
    stem, _, ending = name.rpartition(".")
    return f"/ops/static/{stem}-{mark}.{ending}"


def send_file(name: str) -> Response:
    """The file at an address of :func:`file_address`."""
    stem, _, ending = name.rpartition(".")
    plain = f"{stem.rpartition('-')[0]}.{ending}"
    if plain not in _names() or file_address(plain) != f"/ops/static/{name}":
        raise ApiError(404, "not_found", "There is nothing at this address.")
    content, _ = _read(plain)
    kind, _ = mimetypes.guess_type(plain)
    response = Response(content, mimetype=kind)
    response.headers["Cache-Control"] = _FOREVER
    return response


@cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in _FOLDER.iterdir())


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = (_FOLDER / name).read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:12]
