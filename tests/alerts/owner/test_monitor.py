"""Pings are what Healthchecks expects, take five seconds at most, and never show the address."""

from __future__ import annotations

import logging
import socket
import threading
import time
import uuid
from contextlib import closing

import pytest

from alerts.channels.transport import http
from alerts.owner import monitor
from alerts.owner.monitor import Monitor, ping_address
from alerts.settings.env import Secret
from tests.support.monitor_double import BODY_LIMIT, CHECK, SLUG
from tests.support.monitor_double import Monitor as Double

LOG = logging.getLogger("alerts.owner")
RID = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    ("address", "signal", "pinged"),
    [
        ("https://hc-ping.com/abc", "", f"https://hc-ping.com/abc?rid={RID}"),
        ("https://hc-ping.com/abc", "/start", f"https://hc-ping.com/abc/start?rid={RID}"),
        ("https://hc-ping.com/abc/", "", f"https://hc-ping.com/abc/?rid={RID}"),
        ("https://hc-ping.com/abc/", "/fail", f"https://hc-ping.com/abc/fail?rid={RID}"),
        ("https://h.example/k/slug?create=1", "/fail", f"https://h.example/k/slug/fail?create=1&rid={RID}"),
        ("https://h.example/p?a=%20b+c&rid=own&d", "", f"https://h.example/p?a=%20b+c&d&rid={RID}"),
        ("http://u:p@h.example:8000/ping/x//", "/start", f"http://u:p@h.example:8000/ping/x/start?rid={RID}"),
        ("https://h.example", "/start", f"https://h.example/start?rid={RID}"),
        ("https://h.example?x", "", f"https://h.example?x&rid={RID}"),
    ],
)  # fmt: skip
def test_the_signal_goes_behind_the_path_and_the_owners_query_stays(
    address: str, signal: str, pinged: str
) -> None:
    assert ping_address(address, signal, RID) == pinged


@pytest.mark.parametrize("path", [CHECK, f"{CHECK}/", f"{SLUG}?create=1"])
@pytest.mark.parametrize(("failed", "kind"), [(False, "success"), (True, "fail")])
def test_a_run_is_a_start_and_an_end_of_one_id(path: str, failed: bool, kind: str) -> None:
    run_id = str(uuid.uuid4())
    with Double() as double:
        pinging = Monitor(Secret(f"{double.origin}/{path}"), LOG)
        pinging.start(run_id)
        pinging.end(run_id, "FAILING at 19:03 CET: ünïcode\n", failed=failed)
        assert [(ping.kind, ping.rid) for ping in double.pings] == [
            ("start", run_id), (kind, run_id),
        ]  # fmt: skip
        start, end = double.pings
    assert (start.body, end.body) == ("", "FAILING at 19:03 CET: ünïcode\n")
    assert end.raw.startswith("POST /")
    assert "Content-Type: text/plain; charset=utf-8" in end.raw


def test_a_body_is_no_longer_than_what_is_kept() -> None:
    with Double() as double:
        Monitor(Secret(double.url), LOG).end(RID, "ü" * BODY_LIMIT, failed=False)
        (ping,) = double.pings
    assert 9_000 < len(ping.body.encode()) <= BODY_LIMIT


def test_a_connection_that_closes_unanswered_is_tried_once_more() -> None:
    with Double(close=1) as double:
        Monitor(Secret(double.url), LOG).end(RID, "", failed=False)
        assert double.kinds() == ["success"]


def test_user_and_password_of_the_address_become_a_header() -> None:
    with Double() as double:
        address = double.url.replace("://", "://me:hush%20hush@")
        Monitor(Secret(address), LOG).end(RID, "", failed=False)
        (ping,) = double.pings
    assert "authorization: Basic bWU6aHVzaCBodXNo" in ping.raw


def refused_port() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/hush-hush"


@pytest.mark.parametrize(
    ("address", "fault", "warning"),
    [
        ("", {"status": 500}, "the monitor did not take the ping"),
        ("", {"status": 301}, "the monitor did not take the ping"),
        ("/hush-hush", {}, "the monitor did not take the ping"),  # 404
        ("", {"close": 9}, "the monitor could not be pinged"),
        ("", {"hang": True}, "the monitor could not be pinged"),
        (None, {}, "the monitor could not be pinged"),
    ],
    ids=["error", "moved", "unknown", "closes", "hangs", "refuses"],
)
def test_trouble_costs_a_warning_without_the_address_and_a_bounded_time(
    address: str | None,
    fault: dict[str, object],
    warning: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert monitor.START_SECONDS + monitor.END_SECONDS <= 5
    monkeypatch.setattr(monitor, "START_SECONDS", 0.3)
    monkeypatch.setattr(monitor, "END_SECONDS", 0.6)
    with Double(**fault) as double:  # type: ignore[arg-type]
        url = refused_port() if address is None else f"{double.url}{address}"
        pinging = Monitor(Secret(url), LOG)
        began = time.monotonic()
        with caplog.at_level(logging.DEBUG):
            pinging.start(RID)
            pinging.end(RID, "", failed=True)
        assert time.monotonic() - began < 2
    assert warning in caplog.text
    shown = [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    assert not [text for text in shown if CHECK in text or "hush" in text]


def test_a_server_that_never_answers_is_given_up() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            http.post_anywhere(
                f"http://127.0.0.1:{server.getsockname()[1]}/x", b"", {}, seconds=0.3
            )
        assert time.monotonic() - began < 1


def test_what_a_monitor_says_behind_its_status_is_not_waited_for() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nO"
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def dribble() -> None:
            with closing(server.accept()[0]) as client:
                client.sendall(head)
                client.recv(65536)
                client.recv(65536)  # returns once the other side has gone

        threading.Thread(target=dribble, daemon=True).start()
        began = time.monotonic()
        address = f"http://127.0.0.1:{server.getsockname()[1]}/x"
        assert http.post_anywhere(address, b"", {}, seconds=5) == 200
        assert time.monotonic() - began < 2
