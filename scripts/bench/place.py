"""A temporary database for one benchmark, on DATABASE_URL's server or the embedded one."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from alerts import migrations

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of a migrated, empty database."""
    server = os.environ.get("DATABASE_URL") or _embedded_server()
    name = f"alerts_bench_{secrets.token_hex(4)}"
    admin = psycopg2.connect(server)
    admin.autocommit = True
    admin.cursor().execute(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    try:
        migrations.migrate(url)
        yield url
    finally:
        admin.cursor().execute(f"DROP DATABASE {name} WITH (FORCE)")
        admin.close()


def connect(url: str) -> psycopg2.extensions.cursor:
    """A cursor in autocommit."""
    conn = psycopg2.connect(url)
    conn.autocommit = True
    return conn.cursor()


def free_port() -> int:
    """A free port on the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _embedded_server() -> str:
    from scripts.dev.database import ensure_server

    return ensure_server("dev").url()
