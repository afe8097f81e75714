"""`check-deployment` asks the real app, and tells by a sentence each what stands in front of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alerts import VERSION
from alerts.deployment import check
from alerts.settings.config import Settings
from tests.support.certificates import make_certificate, server_tls
from tests.support.run_world import Runner
from tests.support.web import CLOSED_PORT, TOKEN, app_for, serving

READ = "a-token-that-may-only-read-here"
# status, headers, body
Reply = tuple[int, dict[str, str], bytes]
Answerer = Callable[[str, str, dict[str, str]], Reply]

JSON = {"Content-Type": "application/json", "Cache-Control": "no-store"}
HTML = {"Content-Type": "text/html", "cf-mitigated": "challenge"}
CHALLENGE: Reply = (403, HTML, b"<title>Just a moment...</title>")


def page(body: Any, status: int = 200, **headers: str) -> Reply:
    return status, {**JSON, **headers}, json.dumps(body).encode()


def good(method: str, path: str, headers: dict[str, str]) -> Reply:
    """An app with nothing wrong."""
    if path == "/healthz":
        return page({"status": "ok"})
    if path == "/openapi.json":
        return page({"info": {"version": VERSION}})
    if path.startswith(("/ops", "/alerts/unsubscribe")):
        return 400, {"Content-Security-Policy": "default-src 'none'"}, b"EnergyRiskIQ"
    if path.startswith("/badge"):
        return page({"error": {"code": "not_found"}}, 404)
    if headers.get("x-internal-token") == TOKEN:
        return (200, JSON, b"alerts_engine_up 1") if path == "/metrics" else page({"status": "ok"})
    return page({"error": {"code": "unauthorized"}}, 401)


def instead(part: str, reply: Reply) -> Answerer:
    """The good app, but for the paths that hold ``part``."""
    return lambda method, path, headers: (
        reply if part in f"{method} {path}" else good(method, path, headers)
    )


def drops_the_header(method: str, path: str, headers: dict[str, str]) -> Reply:
    bearer = headers.get("authorization") == f"Bearer {TOKEN}"
    return good(method, path, {"x-internal-token": TOKEN} if bearer else {})


@contextmanager
def double(answer: Answerer, tls: Path | None = None) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = {name.lower(): value for name, value in self.headers.items()}
            status, headers, body = answer(self.command, self.path, given)
            self.send_response_only(status)
            for name, value in {"Date": self.date_time_string(), **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if tls is not None:
        server.socket = server_tls(tls).wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def told(url: str, **environ: str) -> tuple[set[str], set[str]]:
    """The ids of errors and warnings."""
    given = {"INTERNAL_RUNNER_TOKEN": TOKEN, "ALERTS_APP_BASE_URL": url, **environ}
    report = check.check(url, Settings.from_env(given))
    assert TOKEN not in json.dumps(report)
    assert report["ok"] is not bool(report["errors"])
    found = [{one["id"] for one in report[kind]} for kind in ("errors", "warnings")]
    return found[0], found[1]


UNAUTHORIZED = page({"error": {"code": "unauthorized"}}, 401)


@pytest.mark.parametrize(
    ("answer", "errors", "warnings"),
    [
        (good, set(), set()),
        (instead("/", CHALLENGE), {"not_the_app"}, set()),
        (instead("/internal", CHALLENGE), {"not_the_app"}, set()),
        (instead("/metrics", CHALLENGE), {"not_the_app"}, set()),
        (instead("/badge", CHALLENGE), {"not_the_app"}, set()),
        (instead("POST /alerts/unsub", CHALLENGE), {"not_the_app"}, set()),
        (instead("/ops", CHALLENGE), {"not_the_app"}, set()),
        (instead("/openapi", CHALLENGE), {"not_the_app"}, set()),
        (instead("/healthz", page({"hello": "world"})), {"not_the_app"}, set()),
        (instead("/healthz", page({}, 503)), {"database_down"}, set()),
        (instead("/internal", UNAUTHORIZED), {"token_wrong"}, set()),
        (
            instead("/internal", page({"error": {"code": "token_not_configured"}}, 503)),
            {"token_unusable"},
            set(),
        ),
        (instead("/internal", page({"status": "ok"})), {"open"}, set()),
        (instead("/internal", page({"error": {}}, 500)), {"health_failed"}, set()),
        (drops_the_header, {"header_dropped"}, set()),
        (
            instead("/", (301, {"Location": "https://other.example/healthz"}, b"")),
            {"redirected"},
            set(),
        ),
        (
            instead("/healthz", page({"status": "ok"}, Date="Thu, 01 Jan 2026 00:00:00 GMT")),
            set(),
            {"clock_off"},
        ),
        (instead("/openapi", page({"info": {"version": "1.0.0"}})), set(), {"version_differs"}),
        (instead("/ops", (200, {}, b"EnergyRiskIQ")), set(), {"headers_dropped"}),
    ],
)
def test_what_stands_in_front_of_the_app_is_told(
    answer: Answerer, errors: set[str], warnings: set[str]
) -> None:
    with double(answer) as url:
        assert told(url) == (errors, warnings)


def test_settings_here_are_compared() -> None:
    with double(good) as url:
        assert told(url, ALERTS_APP_BASE_URL="")[1] == {"base_url_missing"}
        assert told(url, ALERTS_APP_BASE_URL="https://x.example")[1] == {"base_url_differs"}
        assert told(url, INTERNAL_RUNNER_TOKEN="")[1] == {"token_untried"}
        assert told(url, INTERNAL_READ_TOKEN=READ)[0] == {"token_wrong"}


def test_certificate_of_nobody_is_not_trusted(tmp_path: Path) -> None:
    with double(good, make_certificate(tmp_path)) as url:
        assert told(url) == ({"unreachable"}, set())


def test_address_without_anybody_is_told() -> None:
    assert told("http://127.0.0.1:9") == ({"unreachable"}, set())


def test_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def hang(method: str, path: str, headers: dict[str, str]) -> Reply:
        ended.wait(20)
        return good(method, path, headers)

    monkeypatch.setattr(check, "SECONDS", 0.3)
    with double(hang) as url:
        started = time.monotonic()
        assert told(url) == ({"no_answer"}, set())
        assert time.monotonic() - started < 5
        ended.set()


def test_no_token_goes_to_a_host_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def answer(method: str, path: str, headers: dict[str, str]) -> Reply:
        seen.append(headers)
        return good(method, path, headers)

    monkeypatch.setattr(check, "LOOPBACK", ())
    with double(answer) as url:
        assert told(url) == ({"no_tls"}, set())
    assert seen
    assert not any(TOKEN in "".join(headers.values()) for headers in seen)


def test_real_app_passes_and_its_sleeping_database_is_told(
    database_url: str, tmp_path: Path
) -> None:
    app = app_for(database_url, INTERNAL_READ_TOKEN=READ)
    with serving(app) as url:
        runner = Runner("", tmp_path)
        tokens = {"INTERNAL_RUNNER_TOKEN": TOKEN, "INTERNAL_READ_TOKEN": READ}
        done = runner.command("check-deployment", url, ALERTS_APP_BASE_URL=url, **tokens)
        report = json.loads(done.stdout)
        assert (done.returncode, report["errors"], report["warnings"]) == (0, [], []), report
        assert report["version"] == VERSION
        assert set(report["passed"]) >= {*tokens, "operator_page", "unsubscribe", "base_url"}
    with serving(app_for(CLOSED_PORT)) as url:
        assert "database_down" in told(url)[0]


def test_address_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    done = Runner("", tmp_path).command("check-deployment", "example.com")
    assert done.returncode == 2
    assert "URL takes an address like https://example.com" in done.stderr
