"""No secret and no person in any output, whatever the database says or the program does wrong."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg2.extensions import connection as Connection

from alerts import db
from alerts.channels import PROVIDERS
from alerts.channels.names import SEND_CHANNELS
from alerts.preflight import preflight
from tests.support.canaries import (
    BODY,
    CHAT,
    DATABASE_PASSWORD,
    EMAIL,
    HEADLINE,
    OWNER_CHAT,
    OWNER_EMAIL,
    PERSONAL,
    PHONE,
    PING_PATH,
    SECRETS,
    assert_clean,
    encodings,
)
from tests.support.leaks import (
    Watched,
    assert_tables_clean,
    canary_environ,
    canary_world,
    migrate,
    password_of,
    watched,
    with_password,
)
from tests.support.providers import BOT_TOKEN
from tests.support.world import query

ENCODED = quote(DATABASE_PASSWORD, safe="")
RECORDING = ("alerts_engine_runs", "alerts_engine_run_items")
PHASES = {
    "a": ("alert_events", "INSERT"),
    "b": ("user_alert_deliveries", "INSERT"),
    "d": ("user_alert_digests", "INSERT"),
    "c": ("user_alert_deliveries", "UPDATE"),
}

# What a host's own trigger may do with a row; the table stands for one of its own.
VALUES = """
CREATE TABLE attack_values (said text UNIQUE CHECK (said NOT LIKE 'checked%%'), number integer);
INSERT INTO attack_values (said) VALUES (%(said)s);
"""
TRIGGER = """
CREATE FUNCTION attack() RETURNS trigger LANGUAGE plpgsql AS $attack$
DECLARE said text := (SELECT v.said FROM attack_values AS v LIMIT 1);
BEGIN
    {act};
    RETURN NULL;
END
$attack$;
"""
ATTACKS = {
    "raised": "RAISE EXCEPTION 'refused for %', said",
    "raised_with_detail": "RAISE EXCEPTION '%', said USING DETAIL = said, HINT = said",
    "raised_as_denied": "RAISE EXCEPTION '%', said USING ERRCODE = '42501', TABLE = said,"
    " COLUMN = said, CONSTRAINT = said",
    "raised_own_code": "RAISE EXCEPTION '%', said USING ERRCODE = 'ZZ001'",
    "unique": "INSERT INTO attack_values (said) VALUES (said)",
    "check": "INSERT INTO attack_values (said) VALUES ('checked' || said)",
    "integer": "INSERT INTO attack_values (number) VALUES (said::integer)",
    "time": "PERFORM said::timestamptz",
    "json": "PERFORM said::jsonb",
    "dynamic": "EXECUTE 'SELECT ' || said",
    "asserted": "ASSERT false, said",
    "noticed": "RAISE WARNING '%', said; RAISE EXCEPTION '%', said",
}


def attack(conn: Connection, act: str, events: list[tuple[str, str]]) -> None:
    said = f"{EMAIL} {PHONE} {CHAT} {HEADLINE} {BODY} {BOT_TOKEN}"
    db.execute(conn, VALUES, {"said": f"{said} {encodings((EMAIL, CHAT, HEADLINE))}"})
    db.execute(conn, TRIGGER.format(act=act))
    for number, (table, event) in enumerate(events):
        db.execute(
            conn,
            f"CREATE TRIGGER attack_{number} AFTER {event} ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION attack()",
        )


@pytest.mark.parametrize("kind", ATTACKS)
def test_database_errors_that_quote_rows_in_every_phase(
    conn: Connection, database_url: str, tmp_path: Path, kind: str
) -> None:
    canary_world(conn)
    attack(conn, ATTACKS[kind], list(PHASES.values()))
    done = watched(database_url, tmp_path).all_phases()
    ended = [json.loads(line) for line in done.stdout.splitlines()][:-1]
    assert {line["phase"]: line["status"] for line in ended} == dict.fromkeys(PHASES, "failed")
    assert done.stderr.count("::error") >= 5
    assert_tables_clean(conn)


@pytest.mark.parametrize("kind", ["raised", "raised_as_denied", "unique"])
def test_recording_that_fails_with_row_values_and_its_spool(
    conn: Connection, database_url: str, tmp_path: Path, kind: str
) -> None:
    canary_world(conn)
    places = [*PHASES.values(), *((table, "INSERT OR UPDATE") for table in RECORDING)]
    attack(conn, ATTACKS[kind], places)
    watch = watched(database_url, tmp_path)
    done = watch.all_phases()
    assert json.loads(done.stdout.splitlines()[-1])["recorded"] is False
    assert (watch.folder / "alerts_runs_spool.jsonl").stat().st_size > 100
    assert "could not be recorded" in (watch.folder / "summary.md").read_text()
    assert_tables_clean(conn)
    stored = watch("replay-spool", "alerts_runs_spool.jsonl", module="alerts")
    assert stored.returncode in (0, 1)
    watch("retry-failed", "deliveries", module="alerts")


@pytest.mark.parametrize("kind", ["raised_with_detail", "raised_as_denied", "unique", "integer"])
def test_a_user_who_cannot_be_erased(
    conn: Connection, database_url: str, tmp_path: Path, kind: str
) -> None:
    user = canary_world(conn)
    attack(conn, ATTACKS[kind], [("users", "UPDATE OR DELETE")])
    watch = watched(database_url, tmp_path)
    for options in ((), ("--with-user",)):
        done = watch("erase-user", str(user), *options, module="alerts")
        assert done.returncode == 1, done.stdout
        assert done.stderr
    assert_tables_clean(conn)


@contextmanager
def refusing_server() -> Iterator[int]:
    """Speaks PostgreSQL just enough to refuse a login, and says too much about it."""

    def answer(client: socket.socket) -> None:
        with client:
            for _ in range(2):
                (size,) = struct.unpack("!I", client.recv(4, socket.MSG_WAITALL))
                request = client.recv(size - 4, socket.MSG_WAITALL)
                if request[:4] != struct.pack("!I", 80877103):  # asks for TLS
                    break
                client.sendall(b"N")
            text = f'password authentication failed for user "joe" {encodings([DATABASE_PASSWORD])}'
            fields = f"SFATAL\0C28P01\0M{text}\0D{text}\0\0".encode()
            client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


COMMANDS: tuple[tuple[str, ...], ...] = (
    ("alerts.runner", "--phase", "a"),
    ("alerts", "preflight"),
    ("alerts", "health"),
)


def test_databases_that_cannot_be_reached_or_refuse(tmp_path: Path) -> None:
    with refusing_server() as port:
        addresses = [
            f"postgresql://joe:{ENCODED}@127.0.0.1:{port}/x",
            f"postgresql://joe:{ENCODED}@127.0.0.1:9/x",
            f"postgresql://joe:{DATABASE_PASSWORD}@127.0.0.1:9/x",  # not encoded
            f"postgresql://joe:{ENCODED}@db.invalid:bad-port/x?host=",
            f"host=127.0.0.1 port=9 user=joe password='{DATABASE_PASSWORD}'",
            f"{DATABASE_PASSWORD}",
            f"postgresql://joe:{ENCODED}@127.0.0.1:9/x?nothing={ENCODED}",
        ]

        def check(number: int, address: str, command: tuple[str, ...]) -> None:
            module, *arguments = command
            folder = tmp_path / f"{number}{arguments[0]}"
            folder.mkdir()
            watch = watched("postgresql://joe@127.0.0.1:9/x", folder)
            assert watch(*arguments, module=module, DATABASE_URL=address).returncode == 1
            if command == COMMANDS[0]:
                done = migrate(address)
                assert done.returncode == 1
                watch.check(done)

        with ThreadPoolExecutor(6) as pool:
            jobs = [
                pool.submit(check, number, address, command)
                for number, address in enumerate(addresses)
                for command in COMMANDS
            ]
            for job in jobs:
                job.result()


# They keep a channel from being used, and nothing else.
OF_CHANNELS = {
    *(variable.name for provider in PROVIDERS for variable in provider.variables),
    *(f"{channel.upper()}_PROVIDER" for channel in SEND_CHANNELS),
}
BAD_VALUES = [
    {"SMTP_URL": f"smtp://{EMAIL}:{ENCODED}@[mail"},
    {"SMTP_URL": f"smtp://joe:{DATABASE_PASSWORD}@mail:port"},
    {"BREVO_API_BASE": f"https://joe:{ENCODED}@{'long.' * 20}example.com"},
    {"TELEGRAM_API_BASE": f"https://api.telegram.org/bot{BOT_TOKEN}"},
    {"ALERTS_APP_BASE_URL": f"https://app.example.com/?token={BOT_TOKEN}"},
    {"ALERTS_SEND_WORKERS": BOT_TOKEN},
    {"EMAIL_PROVIDER": encodings([BOT_TOKEN])},
    {"EMAIL_FROM": f"{EMAIL}\r\nBcc: x"},
    {"ALERTS_SEND_ALLOWLIST_USER_IDS": EMAIL},
    {"ALERTS_TIMEZONE": f"/{DATABASE_PASSWORD}"},
    {"INTERNAL_RUNNER_TOKEN": ",".join(SECRETS[1:4])},
    {"ALERTS_CLOCK": f"{DATABASE_PASSWORD} {BOT_TOKEN}"},
    {"ALERTS_OWNER_EMAIL": f"{OWNER_EMAIL}, {EMAIL}"},
    {"ALERTS_OWNER_TELEGRAM_CHAT_ID": f"{OWNER_CHAT}x"},
    {"ALERTS_OWNER_TELEGRAM_CHAT_ID": PHONE},
    {"ALERTS_PING_URL": f"https://ping.example/{PING_PATH}/start"},
    {"ALERTS_PING_URL": f"{PING_PATH} {BOT_TOKEN}"},
    {"ALERTS_SEND_WORKERS": PING_PATH},
    {"ALERTS_TIMEZONE": OWNER_EMAIL},
    {"ALERTS_MAX_ATTEMPTS": OWNER_CHAT},
]


def test_configuration_that_does_not_parse(database_url: str, tmp_path: Path) -> None:
    def check(number: int, variables: dict[str, str]) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        watch = watched(database_url, folder)
        done = watch("--phase", "a", **variables)
        assert done.returncode == (0 if set(variables) <= OF_CHANNELS else 1)
        report = json.dumps(preflight({**canary_environ(), **variables}).as_json())
        assert_clean("the preflight", report)
        assert next(iter(variables)) in done.stderr
        assert next(iter(variables)) in report

    with ThreadPoolExecutor(4) as pool:
        for job in [pool.submit(check, n, v) for n, v in enumerate(BAD_VALUES)]:
            job.result()


def test_configuration_that_does_not_parse_is_not_recorded_with_its_value(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    watched(database_url, tmp_path).all_phases(ALERTS_SEND_WORKERS=BOT_TOKEN)
    assert query(conn, "SELECT 1 FROM alerts_engine_runs WHERE error_summary LIKE '%WORKERS%'")
    assert_tables_clean(conn)


# Bugs are put into the program before it starts; what they say is what an exception may say.
BUG = """
import sys
import alerts.{module} as module
said = {said!r}
def fail(*args, **kwargs):
    raise {error}
{target} = fail
from alerts.runner import main
sys.exit(main())
"""
OBJECT = "RuntimeError(said, args, kwargs)"
BUGS: dict[str, tuple[str, str, str, bool]] = {
    # what breaks, its exception, whether the texts of messages may be in the exception as well
    "adapter": ("channels.outbox", "module.OutboxChannel.send", OBJECT, True),
    "telegram": ("channels.telegram", "module.TelegramChannel.send", OBJECT, True),
    "rendering": ("phases.send.content", "module.render_alert", "ValueError(said, args)", True),
    "digest": ("phases.send.content", "module.render_digest", "KeyError(said)", True),
    "channels": ("engine", "module.build_channels", "RuntimeError(said, str(args))", False),
    "claims": ("phases.send.claims", "module.claim_due", "ValueError(f'not {said!r}')", True),
    "sending": ("phases.send.content", "module.Contents.load", "RuntimeError(said)", False),
    "thread": ("phases.send.dispatch", "module._attempt", "RuntimeError(said)", False),
    "recorder": ("engine_observability", "module.store", "RuntimeError(said)", True),
    "monitor": ("owner.monitor", "module.post_anywhere", OBJECT, True),
    "health": ("owner.telling", "module.get_health", "RuntimeError(said)", True),
    "notices": ("owner.notices", "module.decide", "ValueError(said)", True),
    "crash": ("runner", "module.run_engine", "RuntimeError(said)", False),
    "summary": ("cli.github", "module.summary", "RuntimeError(said)", False),
}


@pytest.mark.parametrize("place", BUGS)
def test_bugs_whose_exceptions_say_too_much(
    conn: Connection, database_url: str, tmp_path: Path, place: str
) -> None:
    module, target, error, with_texts = BUGS[place]
    # The password of the database in use: the one that the program can know.
    secrets = (password_of(with_password(database_url)), *SECRETS[1:])
    personal = encodings(PERSONAL) if with_texts else f"{encodings([EMAIL])} {PHONE} {quote(PHONE)}"
    said = f"{encodings(secrets)} {personal}"
    canary_world(conn)
    watch = watched(database_url, tmp_path)
    program = BUG.format(module=module, target=target, error=error, said=said)
    done = watch(
        "--phase",
        "all",
        "--now",
        "2022-03-08T18:00:00Z",
        *(("--max-seconds", "50") if place == "digest" else ()),  # it comes with the second probe
        program=program,
        ALERTS_PROVIDER_TIMEOUT_SECONDS="1",
        ALERTS_PROVIDER_ANSWER_SECONDS="1",
    )
    assert done.returncode in (0, 1)
    stored = query(conn, "SELECT last_error FROM user_alert_deliveries")
    stored += query(conn, "SELECT last_error FROM user_alert_digests")
    assert error.partition("(")[0] in f"{done.stdout}{done.stderr}{stored}"  # it did happen
    assert_tables_clean(conn)


def test_a_bug_is_described_for_people_all_the_same(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    canary_world(conn)
    watch: Watched = watched(database_url, tmp_path)
    program = BUG.format(
        module="engine", target="module.build_channels", error="RuntimeError('hush')", said=""
    )
    done: Any = watch("--phase", "all", program=program)
    assert "RuntimeError: hush" in done.stderr
