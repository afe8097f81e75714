"""The guarantees of the browser fixtures, on which the tests of pages rely."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import browser as browsers
from tests.support.browser import Browsing, axe_problems, sideways_scroll
from tests.support.web import serving

GOOD = """<!doctype html><html lang="en"><title>Fine</title>
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,"><main><h1>Fine</h1><p id="said">nothing</p></main>"""
PAGES = {
    "/good": GOOD,
    "/script": GOOD + "<script>document.getElementById('said').textContent = 'ran'</script>",
    "/wide": GOOD + "<div style='width: 500px'>wide</div>",
    "/bad": GOOD + "<img src='data:,'><button></button>",
    "/logs": GOOD + "<script>console.error('out of order')</script>",
    "/throws": GOOD + "<script>throw new Error('thrown')</script>",
    "/refused": GOOD + "<style>body {}</style>",
    "/elsewhere": GOOD + "<img alt='far' src='http://example.com/dot.png'>",
    "/elsewhere-address": GOOD + "<img alt='far' src='http://192.0.2.1/dot.png'>",
}


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    def app(environ, start_response):  # type: ignore[no-untyped-def]
        body = PAGES.get(environ["PATH_INFO"])
        headers = [("Content-Type", "text/html; charset=utf-8")]
        if environ["PATH_INFO"] == "/refused":
            headers.append(("Content-Security-Policy", "default-src 'none'; img-src data:"))
        start_response("200 OK" if body else "404 Not Found", headers)
        return [(body or GOOD).encode()]

    with serving(app) as url:
        yield url


def test_a_page_is_a_phone_and_dark_if_asked(browsing: Browsing, site: str) -> None:
    page = browsing.page(site, dark=True)
    page.goto("/script")
    assert page.inner_text("#said") == "ran"
    assert page.evaluate("[innerWidth, innerHeight]") == [384, 800]
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("matchMedia('(pointer: coarse)').matches")
    assert sideways_scroll(page) == 0
    assert axe_problems(page) == []


def test_javascript_can_be_off(browsing: Browsing, site: str) -> None:
    page = browsing.page(site, javascript=False)
    page.goto("/script")
    assert page.inner_text("#said") == "nothing"


def test_pages_do_not_share_cookies(browsing: Browsing, site: str) -> None:
    one, other = browsing.page(site), browsing.page(site)
    one.goto("/good")
    one.context.add_cookies([{"name": "a", "value": "b", "url": site}])
    other.goto("/good")
    assert (len(one.context.cookies()), other.context.cookies()) == (1, [])


def test_faults_of_layout_and_for_people_with_disabilities_are_found(
    browsing: Browsing, site: str
) -> None:
    page = browsing.page(site)
    page.goto("/wide")
    assert sideways_scroll(page) > 100
    page.goto("/bad")
    assert {problem.split(":")[0] for problem in axe_problems(page)} >= {"image-alt", "button-name"}


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/logs", "out of order"),
        ("/throws", "thrown"),
        ("/refused", "Content Security Policy"),
        ("/missing", "status of 404"),
        ("/elsewhere", "request to another host: http://example.com/dot.png"),
        ("/elsewhere-address", "request to another host: http://192.0.2.1/dot.png"),
    ],
)
def test_what_goes_wrong_in_a_page_fails_the_test(
    browser: object, site: str, path: str, problem: str
) -> None:
    browsing = Browsing(browser)  # type: ignore[arg-type]
    browsing.page(site).goto(path)
    with pytest.raises(AssertionError, match=problem):
        browsing.close()


def test_an_error_that_the_test_expects_is_tolerated(browsing: Browsing, site: str) -> None:
    browsing.tolerate("status of 404")
    answer = browsing.page(site).goto("/missing")
    assert answer is not None and answer.status == 404


def test_without_chromium_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browsers, "find_program", lambda *names: None)
    browsers.missing_browser.cache_clear()
    try:
        assert browsers.missing_browser() in (
            "Chromium is not installed",
            "playwright is not installed",
        )
    finally:
        browsers.missing_browser.cache_clear()
