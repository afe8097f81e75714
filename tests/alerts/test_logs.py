"""What reaches the log, and what never does."""

import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import pytest

from alerts.logs import JsonFormatter, RedactingHandler, bound, setup_logging
from alerts.redaction import Redactor

REDACTOR = Redactor(["swordfish", "87654321"])
LOG = logging.getLogger("alerts.sample")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    levels = {name: logging.getLogger(name).level for name in ("", "alerts", "app")}
    yield
    logging.captureWarnings(False)
    for handler in list(root.handlers):
        if isinstance(handler, RedactingHandler):
            root.removeHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    setup_logging(REDACTOR, json_lines=True, stream=stream)
    return stream


def records(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_record_is_one_json_line_with_its_fields(stream: io.StringIO) -> None:
    LOG.info("phase %s done", "a", extra={"run_id": "r1", "phase": "a", "delivery_id": 7})
    (record,) = records(stream)
    assert datetime.fromisoformat(str(record.pop("time"))).tzinfo == UTC
    assert record == {
        "level": "INFO",
        "logger": "alerts.sample",
        "message": "phase a done",
        "run_id": "r1",
        "phase": "a",
        "delivery_id": 7,
    }


def test_people_get_a_short_line() -> None:
    stream = io.StringIO()
    setup_logging(REDACTOR, json_lines=False, stream=stream)
    bound(LOG, run_id="r1", counts={"sent": 1}).warning("held")
    assert stream.getvalue()[8:] == ' WARNING alerts.sample: held run_id=r1 counts={"sent": 1}\n'


@pytest.mark.parametrize("json_lines", [True, False])
def test_secrets_and_people_reach_no_part_of_a_line(json_lines: bool) -> None:
    stream = io.StringIO()
    setup_logging(REDACTOR, json_lines=json_lines, stream=stream)
    try:
        raise RuntimeError("at https://x/?k=swordfish")
    except RuntimeError:
        LOG.exception(
            "to %s with swordfish\r\nforged line",
            "ann@example.org",
            extra={
                "where": "swordfish",
                "deep": [{"ann@example.org": ("swordfish",)}],
                "telegram_chat_id": 4711,
                "nested": {"password": ["x"], "token": None},
                "number": 87654321,
            },
        )
    text = stream.getvalue()
    assert text.count("\n") == 1
    for hidden in ("swordfish", "ann@", "4711", "87654321", "Traceback", '"x"'):
        assert hidden not in text
    assert "RuntimeError" in text


def test_exception_is_described_without_traceback(stream: io.StringIO) -> None:
    try:
        int("private words")
    except ValueError:
        LOG.exception("failed")
    (record,) = records(stream)
    assert record["error"] == "ValueError: invalid literal for int() with base 10: [value]"
    assert "frames" not in record


def test_debug_level_adds_frames_without_source() -> None:
    stream = io.StringIO()
    setup_logging(REDACTOR, json_lines=True, stream=stream, level=logging.DEBUG)
    try:
        int("private words")
    except ValueError:
        LOG.debug("failed", exc_info=True)
    (record,) = records(stream)
    assert isinstance(record["frames"], list)
    assert record["frames"][0].startswith("alerts/test_logs.py:")
    assert "private" not in stream.getvalue()


def test_exception_as_message_or_argument_is_described_too(stream: io.StringIO) -> None:
    error = ValueError("bad 'private words'")
    LOG.warning(error)
    LOG.warning("failed: %s", error)
    LOG.warning("failed: %(e)s", {"e": error})
    assert [r["message"] for r in records(stream)] == [
        "ValueError: bad [value]",
        "failed: ValueError: bad [value]",
        "failed: ValueError: bad [value]",
    ]


class Code(StrEnum):
    TIMEOUT = "timeout"


class Hostile:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class HostilePath(type(Path())):  # type: ignore[misc]
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_values_of_any_type_are_logged(stream: io.StringIO) -> None:
    loop: list[object] = []
    loop.append(loop)
    run = UUID("5b0c8c1e-98a4-4a6e-8f0e-2f6f2f6c1b7a")
    LOG.info(
        "x",
        extra={
            "code": Code.TIMEOUT,
            "when": datetime(2022, 3, 8, tzinfo=UTC),
            "run": run,
            "thing": Hostile(),
            "path": HostilePath("/x"),
            "raw": b"bytes",
            "nan": float("nan"),
            "huge": 10**400,
            "vast": 10**9000,
            "loop": loop,
            "lone": "\ud800",
            "yes": True,
            "error": OSError(5, "gone"),
            "time": "mine",
        },
    )
    (record,) = records(stream)
    assert record["code"] == "timeout"
    assert record["when"] == "2022-03-08T00:00:00+00:00"
    assert record["run"] == str(run)
    assert record["thing"] == "<Hostile>"
    assert record["path"] == "<HostilePath>"
    assert record["raw"] == "<bytes>"
    assert record["nan"] == "nan"
    assert record["loop"] == [[[["<list>"]]]]
    assert record["vast"] == "<int>"
    assert record["yes"] is True
    assert record["error"] == "OSError: [Errno 5] gone"
    assert record["time"] != "mine"


@pytest.mark.parametrize(
    ("template", "argument", "kind"),
    [("%d rows", "many swordfish", "TypeError"), ("%s", Hostile(), "RuntimeError")],
)
def test_arguments_that_do_not_fit_do_not_end_the_program(
    template: str, argument: object, kind: str
) -> None:
    record = logging.makeLogRecord({"msg": template, "args": (argument,)})
    line = json.loads(JsonFormatter(REDACTOR).format(record))
    assert line["message"] == f"{template} (arguments do not fit: {kind})"


def test_record_that_cannot_be_written_is_not_printed_instead(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    setup_logging(REDACTOR, json_lines=True, stream=stream)
    stream.close()
    LOG.warning("swordfish %s", "ann@example.org")
    assert capsys.readouterr().err == "a log record of alerts.sample was lost: ValueError\n"


def test_bound_fields_add_up_and_calls_add_their_own(stream: io.StringIO) -> None:
    run = bound(LOG, run_id="r1")
    phase = bound(run, phase="c", name="clash")
    phase.info("one", extra={"channel": "email"})
    run.info("two")
    one, two = records(stream)
    assert (one["run_id"], one["phase"], one["channel"], one["name_"]) == (
        *("r1", "c", "email"),
        "clash",
    )
    assert "phase" not in two


def test_libraries_speak_from_warning_on_through_the_same_handler(stream: io.StringIO) -> None:
    library = logging.getLogger("urllib3.connectionpool")
    library.setLevel(logging.DEBUG)
    try:
        library.info("Starting new connection: swordfish")
        library.warning("Retrying /bot123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw-/x")
    finally:
        library.setLevel(logging.NOTSET)
    LOG.debug("quiet")
    assert [r["message"] for r in records(stream)] == ["Retrying /bot[redacted]/x"]


def test_warnings_are_logged_scrubbed(stream: io.StringIO) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("old swordfish", stacklevel=1)
    (record,) = records(stream)
    assert record["logger"] == "py.warnings"
    assert "swordfish" not in stream.getvalue()


def test_setting_up_again_replaces_and_plain_handlers_go() -> None:
    plain = logging.StreamHandler(sys.stderr)
    logging.getLogger().addHandler(plain)
    first, second = io.StringIO(), io.StringIO()
    setup_logging(REDACTOR, json_lines=True, stream=first)
    setup_logging(REDACTOR, json_lines=True, stream=second)
    LOG.info("once")
    assert plain not in logging.getLogger().handlers
    assert first.getvalue() == ""
    assert len(records(second)) == 1
