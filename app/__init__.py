"""The web app: admin endpoints, the operator's pages, metrics, unsubscribing, public routes."""

from __future__ import annotations

import logging
import os

from flask import Flask, Response, request

from alerts.logs import setup_logging
from alerts.redaction import redactor_for
from alerts.settings.config import DATABASES_DIFFER, Settings
from app import current, errors, ops, public
from app.admin import admin_blueprint
from app.admin.metrics import metrics_blueprint
from app.badge import badge_blueprint
from app.unsubscribe import unsubscribe_blueprint

ROUTE = "alerts.route"  # read by gunicorn.conf.py


def create_app(settings: Settings | None = None) -> Flask:
    """Create the app from ``settings`` or the environment.

    Raises :class:`ConfigError` if a variable is invalid or DATABASE_URL is unset. Without
    INTERNAL_RUNNER_TOKEN the app starts, but its admin endpoints answer 503.
    """
    settings = settings or Settings.from_env(os.environ)
    setup_logging(redactor_for(settings), json_lines=True)
    app = Flask(__name__, static_folder=None)
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False  # answer a path with // with 404, not with an HTML redirect
    current.install(app, settings)
    app.register_blueprint(admin_blueprint())
    app.register_blueprint(metrics_blueprint())
    app.register_blueprint(public.public_blueprint())
    app.register_blueprint(badge_blueprint())
    app.register_blueprint(unsubscribe_blueprint())
    errors.register(app)
    ops.install(app)
    app.after_request(_never_cached)
    app.after_request(_name_route)
    if settings.other_database_url is not None:
        logging.getLogger("app").warning(DATABASES_DIFFER)
    if not settings.internal_tokens:
        logging.getLogger("app").warning(
            "INTERNAL_RUNNER_TOKEN is not set: the admin endpoints answer 503"
        )
    return app


def _never_cached(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _name_route(response: Response) -> Response:
    # For the access log, because the path itself may contain anything the client sent.
    request.environ[ROUTE] = request.url_rule.rule if request.url_rule else "(unknown)"
    return response
