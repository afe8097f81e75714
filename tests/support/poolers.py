"""A real pgbouncer in transaction mode, to test what does and does not work through it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2

from tests.support.programs import find_program


def pgbouncer() -> str | None:
    """Return the path of the program, if there is one."""
    return find_program("pgbouncer")


@contextmanager
def transaction_pooler(program: str, database_url: str, folder: Path) -> Iterator[str]:
    """Yield the URL of the same database through a pooler with two server connections."""
    parts = urlsplit(database_url)
    port = _free_port()
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
{parts.path[1:]} = host={parts.hostname} port={parts.port} dbname={parts.path[1:]} \
user={parts.username} password={parts.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
"""
    )
    folder.chmod(0o755)
    settings.chmod(0o644)
    command = [program, str(settings)]
    if os.geteuid() == 0:  # it refuses to run as root
        command[1:1] = ["-u", "nobody"]
    log = folder / "pgbouncer.log"
    with log.open("wb") as output, subprocess.Popen(command, stderr=output) as process:
        try:
            url = f"postgresql://pooled@127.0.0.1:{port}{parts.path}"
            _wait_until_it_answers(url, process, log)
            yield url
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + 10
    while True:
        try:
            psycopg2.connect(url).close()
        except psycopg2.OperationalError:
            assert process.poll() is None and time.monotonic() < ends, log.read_text()
            time.sleep(0.05)
        else:
            return
