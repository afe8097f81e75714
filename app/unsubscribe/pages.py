"""The pages themselves: a few sentences and at most one button each, and no resource beside."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from flask import Response, render_template, url_for
from markupsafe import Markup

from alerts.leaving.unsubscribe import Standing
from alerts.messages.wording import APP, moment
from app.current import settings

_STYLE = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
# An empty picture as icon: browsers ask for /favicon.ico otherwise, and tell that it is forbidden.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)


def protect(response: Response) -> Response:
    """The headers of every page: the address is a secret of its reader."""
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


def standing(signed: str, found: Standing, *, just_now: bool) -> Response:
    """How things are, and the button that changes it, if there is one."""
    leave = url_for("unsubscribe.leave", signed=signed)
    if found.subscribed and not just_now:
        return _page(
            "Unsubscribe from alert emails?",
            f"{APP} will send you no more alerts or digests by email.",
            button=("Unsubscribe", leave),
        )
    if found.subscribed:
        return _page(
            "You get alert emails again",
            "Alerts and digests come by email as they did before.",
            mark="✓",
            button=("Unsubscribe", leave),
            quiet=True,
        )
    if found.unsubscribed_at is None:
        return _page(
            "You get no alert emails",
            f"They are switched off. To change that, open your alert preferences in the {APP} app.",
            mark="✓",
            link=True,
        )
    undo = url_for("unsubscribe.undo", signed=signed)
    text = "You will get no more alerts or digests by email, except for one already on its way."
    if not just_now:
        when = moment(found.unsubscribed_at, settings().timezone)
        text = f"Alerts and digests by email have been off since {when}."
    return _page(
        "You are unsubscribed",
        text,
        mark="✓",
        button=("Undo" if just_now else "Get alert emails again", undo),
        quiet=True,
    )


def broken_link() -> Response:
    """For what we did not sign."""
    text = (
        "It may have lost its end on the way: open it from the email again. You can also change "
        f"what you get in your alert preferences in the {APP} app."
    )
    return _page("This link does not work", text, status=404, link=True)


def try_later(status: int, seconds: int) -> Response:
    """For what will pass by itself."""
    if status == 429:
        title, text = "Too many requests", "Please try again in a minute."
    else:
        title = "This does not work right now"
        text = "Nothing was changed. Please try again in a minute."
    response = _page(title, text, status=status)
    response.headers["Retry-After"] = str(seconds)
    return response


def _page(
    title: str,
    text: str,
    *,
    status: int = 200,
    mark: str = "",
    button: tuple[str, str] | None = None,
    quiet: bool = False,
    link: bool = False,
) -> Response:
    """``button`` is its words and where it posts to; ``quiet``: it is not what people come for."""
    page = render_template(
        "unsubscribe/page.html",
        app=APP,
        style=Markup(_STYLE),  # noqa: S704  (our own file)
        title=title,
        text=text,
        mark=mark,
        button=button,
        quiet=quiet,
        home=settings().app_base_url if link else None,
    )
    return Response(page, status)
