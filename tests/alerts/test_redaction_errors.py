"""How exceptions are described: their kind, never their values."""

import socket

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from alerts.failures import DeliveryError, FailureCode, PhaseFailed
from alerts.redaction import Redactor, describe_exception
from alerts.settings.env import ConfigError, Problem

SECRET = "s3cr/t+pa ss&wörd"
PLAIN = Redactor()
KNOWING = Redactor([SECRET])


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("secret")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            DeliveryError(FailureCode.RATE_LIMITED, "Brevo 429"),
            "DeliveryError: rate_limited: Brevo 429",
        ),
        (PhaseFailed("email held: auth_failed"), "PhaseFailed: email held: auth_failed"),
        (
            ConfigError([Problem("SMTP_URL", "SMTP_URL is wrong")]),
            "ConfigError: SMTP_URL is wrong",
        ),
        (
            ValueError("invalid literal for int(): 'ann's \"x\"' here"),
            "ValueError: invalid literal for int(): [value] here",
        ),
        (ValueError("can't parse that"), "ValueError: can't parse that"),
        (KeyError("ann"), "KeyError: [value]"),
        (RuntimeError("first\nsecond"), "RuntimeError: first"),
        (RuntimeError(f"key {SECRET}"), "RuntimeError: key [redacted]"),
        (RuntimeError(), "RuntimeError"),
        (Broken(), "Broken"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "ConnectionRefusedError: [Errno 111] Connection refused",
        ),
    ],
)
def test_exception_is_type_code_and_first_line(error: Exception, expected: str) -> None:
    assert describe_exception(error, KNOWING) == expected


def test_exception_text_is_bounded() -> None:
    assert len(describe_exception(RuntimeError("x " * 900), PLAIN, 80)) <= 80


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "INSERT INTO people VALUES (1, 'ann@example.org', 5)",
            "UniqueViolation 23505: duplicate key value violates unique constraint [value] "
            "(constraint people_mail_key, table people)",
        ),
        (
            "INSERT INTO people VALUES (3, NULL, 5)",
            "NotNullViolation 23502: null value in column [value] violates not-null constraint "
            "(table people, column mail)",
        ),
        (
            "INSERT INTO people VALUES (4, 'b', 50)",
            "CheckViolation 23514: new row for relation [value] "
            "(constraint people_age_check, table people)",
        ),
        (
            "SELECT CAST('swordfish' AS integer)",
            "InvalidTextRepresentation 22P02: invalid input syntax for type integer: [value]",
        ),
        ("SELECT nothing FROM people", 'UndefinedColumn 42703: column "nothing" does not exist'),
        (
            "DO $$BEGIN RAISE EXCEPTION 'no % here', '\"swordfish\"'; END$$",
            "RaiseException P0001: raised",
        ),
    ],
)
def test_database_error_names_what_it_concerns_and_no_value(
    conn: Connection, statement: str, expected: str
) -> None:
    with conn.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE people (id INTEGER, mail TEXT NOT NULL UNIQUE,"
            " age INTEGER CHECK (age < 20));"
            "INSERT INTO people VALUES (1, 'ann@example.org', 5)"
        )
        with pytest.raises(psycopg2.Error) as caught:
            cursor.execute(statement)
    assert describe_exception(caught.value, PLAIN) == expected


def test_refused_connection_is_told_without_host_and_user() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound and not listening: refused
        with pytest.raises(psycopg2.OperationalError) as caught:
            psycopg2.connect(f"postgresql://joe:swordfish@127.0.0.1:{port}/x")
    assert describe_exception(caught.value, PLAIN) == "OperationalError: connection refused"


def test_silent_server_is_told_as_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(psycopg2.OperationalError) as caught:
            psycopg2.connect(f"postgresql://joe@127.0.0.1:{port}/x?connect_timeout=2")
    assert describe_exception(caught.value, PLAIN) == "OperationalError: timeout expired"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            'connection to server at "10.0.0.1", port 5432 failed: FATAL:  password '
            'authentication failed for user "joe"\nconnection to server failed',
            "password authentication failed",
        ),
        (
            'could not translate host name "db.in" to address: Name or service not known',
            "name or service not known",
        ),
        (
            'connection to server at "h" failed: FATAL:  database "nope" does not exist',
            "database does not exist",
        ),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "joe"', "no pg_hba.conf entry"),
        ('something new about "joe"', "something new about [value]"),
        ("", ""),
    ],
)
def test_connection_error_keeps_its_kind_only(text: str, kind: str) -> None:
    error = psycopg2.OperationalError(text)
    expected = f"OperationalError: {kind}" if kind else "OperationalError"
    assert describe_exception(error, PLAIN) == expected


def test_malformed_connection_string_is_not_shown() -> None:
    with pytest.raises(psycopg2.ProgrammingError) as caught:
        psycopg2.connect("swordfish")
    assert "swordfish" not in describe_exception(caught.value, PLAIN)
