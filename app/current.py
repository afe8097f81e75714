"""What a request works with: the settings, the clock and the database of the current app."""

from __future__ import annotations

from datetime import datetime

from flask import Flask, current_app

from alerts.clock import Clock
from alerts.settings.config import Settings, require_database_url
from app.database import Database
from app.wrong_tokens import WrongTokens


def install(app: Flask, settings: Settings) -> None:
    """Give the app what the functions below return. Raises :class:`ConfigError`."""
    app.extensions["alerts_settings"] = settings
    app.extensions["alerts_database"] = Database(require_database_url(settings))
    app.extensions["alerts_wrong_tokens"] = WrongTokens()


def settings() -> Settings:
    """The current app's settings."""
    found: Settings = current_app.extensions["alerts_settings"]
    return found


def database() -> Database:
    """The current app's database."""
    found: Database = current_app.extensions["alerts_database"]
    return found


def wrong_tokens() -> WrongTokens:
    """Who has sent wrong tokens to the current app."""
    found: WrongTokens = current_app.extensions["alerts_wrong_tokens"]
    return found


def business_now() -> datetime:
    """What the business clock says."""
    return Clock(settings().clock).now()
