"""Asks a running web app from outside, as programs would, and says what is wrong with it.

Tokens go only to an address that is encrypted or on this machine. No redirect is followed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from alerts import VERSION
from alerts.channels.transport.http import Page, ask_anywhere
from alerts.findings import Findings
from alerts.settings.config import Settings
from alerts.settings.env import Secret

SECONDS = 10.0  # for a whole request
CLOCK_SECONDS = 5.0  # more is told; a Date header has no parts of a second
ADMIN = "/internal/alerts/engine/health?view=brief"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_FIREWALL = (
    "Let these paths pass without a challenge: /healthz, /openapi.json, /internal/alerts/engine/*, "
    "/metrics, /badge/*, /alerts/events/latest and /alerts/unsubscribe/*."
)


@dataclass
class Report(Findings):
    """The answer: ``passed`` names what was found in order."""

    url: str
    version: str | None = None
    clock_off_seconds: float | None = None
    passed: list[str] = field(default_factory=list)


def check(url: str, settings: Settings) -> dict[str, Any]:
    """Ask the app at ``url``; the report as JSON. Times are seconds."""
    check_ = _Check(url, settings)
    check_.run()
    return check_.report.as_json()


class _Check:
    def __init__(self, url: str, settings: Settings) -> None:
        self.base, self.settings = url, settings
        self.report = Report(url)

    def run(self) -> None:
        if not self._healthz():
            return
        self._version()
        parts = urlsplit(self.base)
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            text = "The app is reached without TLS: tokens would travel readable, so none was sent."
            self.report.error("no_tls", text, "Serve it at an https address, and ask that one.")
        else:
            self._tokens()
        self._pages()
        self._address()

    def _ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Page | None:
        """The answer; None, and an error of the report, where there is none of the app's."""
        try:
            page = ask_anywhere(method, self.base + path, headers or {}, SECONDS)
        except TimeoutError:
            text = f"{_plain(path)} is not answered within {SECONDS:.0f} s."
            hint = "See the app's log: is it running, and does its database answer?"
            self.report.error("no_answer", text, hint)
            return None
        except OSError as error:
            text = f"{_plain(path)}: {error}."
            hint = "Check the address, its DNS name, its certificate, and that the app is running."
            self.report.error("unreachable", text, hint)
            return None
        location = page.headers.get("Location", "")
        if page.status in (301, 302, 307, 308) and not location.startswith("/"):
            target = urlsplit(location)
            to = f"{target.scheme}://{target.netloc}" if target.netloc else "elsewhere"
            text = f"{_plain(path)} redirects to {to}, where a POST and its token would get lost."
            self.report.error("redirected", text, f"Use {to} as the app's address everywhere.")
            return None
        return page

    def _json(self, page: Page, path: str) -> Any:
        """The body; None, and an error of the report, where it is no JSON."""
        with suppress(ValueError):
            return json.loads(page.body)
        self._not_ours(page, path)
        return None

    def _not_ours(self, page: Page, path: str) -> None:
        kind = page.headers.get("Content-Type", "no type").partition(";")[0][:40]
        text = (
            f"{_plain(path)} is answered by something in front of the app ({page.status}, {kind})."
        )
        self.report.error("not_the_app", text, _FIREWALL)

    def _healthz(self) -> bool:
        page = self._ask("/healthz")
        if page is None:
            return False
        body = self._json(page, "/healthz")
        if body is None:
            return False
        self._clock(page)
        if page.status == 503:
            text = "The app runs, and its database does not answer."
            self.report.error("database_down", text, "Check DATABASE_URL where the app runs.")
        elif page.status != 200 or body != {"status": "ok"}:
            text = f"/healthz is answered with {page.status}, but not by this app."
            self.report.error("not_the_app", text, "Check the address.")
            return False
        else:
            self.report.passed.append("healthz")
        return True

    def _clock(self, page: Page) -> None:
        try:
            theirs = parsedate_to_datetime(page.headers.get("Date", ""))
        except ValueError:
            return
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        off = (theirs - datetime.now(UTC)).total_seconds()
        self.report.clock_off_seconds = round(off, 1)
        if abs(off) > CLOCK_SECONDS:
            text = f"The clocks of the app's host and of this one are {abs(off):.0f} s apart."
            self.report.warn("clock_off", text, "Synchronise both by NTP.")
        else:
            self.report.passed.append("clock")

    def _version(self) -> None:
        page = self._ask("/openapi.json")
        body = self._json(page, "/openapi.json") if page is not None else None
        info = body.get("info") if isinstance(body, dict) else None
        if not isinstance(info, dict):
            return
        self.report.version = str(info.get("version"))[:40]
        if self.report.version != VERSION:
            text = f"The app is version {self.report.version}, this checkout {VERSION}."
            self.report.warn("version_differs", text, "Deploy the same version in both places.")
        else:
            self.report.passed.append("version")

    def _tokens(self) -> None:
        page = self._ask(ADMIN)
        if page is None or (body := self._json(page, ADMIN)) is None:
            return
        if page.status == 200:
            text = "Health is told without a token."
            self.report.error("open", text, "Something in front of the app adds one: remove it.")
        code = body.get("error", {}).get("code") if isinstance(body, dict) else None
        if page.status == 503 and str(code).startswith("token_"):
            text = f"The app has no token that opens anything ({code})."
            self.report.error("token_unusable", text, "Set INTERNAL_RUNNER_TOKEN where it runs.")
            return
        held = {
            "INTERNAL_RUNNER_TOKEN": self.settings.internal_tokens,
            "INTERNAL_READ_TOKEN": self.settings.read_tokens,
        }
        if not any(held.values()):
            text = "No token is set here, so none was tried."
            self.report.warn("token_untried", text, "Set INTERNAL_RUNNER_TOKEN as where it runs.")
        for variable, tokens in held.items():
            for token in tokens[:1]:
                self._token(variable, token)

    def _token(self, variable: str, token: Secret) -> None:
        value = token.reveal()
        if not value.isascii() or not value.isprintable():
            text = f"{variable} holds characters that not every proxy passes on."
            self.report.warn("token_characters", text, "Make one of ASCII letters and digits.")
            return
        page = self._ask(ADMIN, headers={"x-internal-token": value})
        if page is None or self._json(page, ADMIN) is None:
            return
        if page.status == 401:
            other = self._ask(ADMIN, headers={"Authorization": f"Bearer {value}"})
            if other is not None and other.status == 200:
                text = "Something in front of the app drops the header x-internal-token."
                self.report.error("header_dropped", text, "Let it pass the header on.")
            else:
                text = f"The app does not take the token of {variable}."
                self.report.error("token_wrong", text, f"Set the same {variable} in both places.")
        elif page.status == 200:
            self.report.passed.append(variable)
            metrics = self._ask("/metrics", headers={"x-internal-token": value})
            if metrics is not None and b"alerts_engine_" not in metrics.body:
                self._not_ours(metrics, "/metrics")
        elif page.status != 503:
            text = f"Health is answered with {page.status}."
            self.report.error("health_failed", text, "See the app's log.")
        if "no-store" not in page.headers.get("Cache-Control", ""):
            text = "Answers may be cached: Cache-Control: no-store does not arrive."
            self.report.warn("cached", text, "Let whatever is in front of the app keep it.")

    def _pages(self) -> None:
        """What people and mail providers call; both answer a page of the app's own."""
        asked = (
            ("operator_page", "/ops/login", "GET"),
            ("unsubscribe", "/alerts/unsubscribe/check", "GET"),
            ("unsubscribe", "/alerts/unsubscribe/check", "POST"),
        )
        for name, path, method in asked:
            page = self._ask(path, method)
            if page is None:
                continue
            if "default-src 'none'" not in page.headers.get("Content-Security-Policy", ""):
                ours = b"EnergyRiskIQ" in page.body or b"/ops/static/" in page.body
                if not ours or "cf-mitigated" in page.headers:
                    self._not_ours(page, f"{method} {path}")
                    continue
                text = f"{path} comes without its security headers."
                self.report.warn("headers_dropped", text, "Let them pass in front of the app.")
            if name not in self.report.passed:
                self.report.passed.append(name)
        badge = self._ask("/badge/check.json")
        if badge is not None:
            self._json(badge, "/badge/*")

    def _address(self) -> None:
        ours = self.settings.app_base_url
        if ours is None:
            text = "ALERTS_APP_BASE_URL is not set here: messages carry no link to the app."
            self.report.warn("base_url_missing", text, f"Set it to {self.base}.")
        elif ours != self.base:
            text = f"ALERTS_APP_BASE_URL is {ours}, another address than the one that was asked."
            self.report.warn("base_url_differs", text, "Set the address that users reach.")
        else:
            self.report.passed.append("base_url")


def _plain(path: str) -> str:
    return path.partition("?")[0]
