"""The alerts engine: everything but the web app, which is in ``app``."""

VERSION = "2.0.0"  # as in pyproject.toml
