"""The current app's settings, clock and database, for use in a request."""

from __future__ import annotations

from datetime import datetime

from flask import Flask, current_app

from alerts.clock import Clock
from alerts.settings.config import Settings, require_database_url
from app.database import Database
from app.wrong_tokens import WrongTokens


def install(app: Flask, settings: Settings) -> None:
    """Store the settings and database on the app. Raises :class:`ConfigError`."""
    app.extensions["alerts_settings"] = settings
    app.extensions["alerts_database"] = Database(require_database_url(settings))
    app.extensions["alerts_wrong_tokens"] = WrongTokens()


def settings() -> Settings:
    found: Settings = current_app.extensions["alerts_settings"]
    return found


def database() -> Database:
    found: Database = current_app.extensions["alerts_database"]
    return found


def wrong_tokens() -> WrongTokens:
    """Who has sent wrong tokens to the current app."""
    found: WrongTokens = current_app.extensions["alerts_wrong_tokens"]
    return found


def business_now() -> datetime:
    """The current business time."""
    return Clock(settings().clock).now()
