"""Settings for ``gunicorn 'app:create_app()'`` on a small host."""

import os
import sys

from gunicorn.glogging import Logger

# A host that sets PORT expects the app on every interface; a laptop, only on loopback.
_port = os.environ.get("PORT", "").strip()
bind = f"0.0.0.0:{_port}" if _port else "127.0.0.1:5000"
workers = int(os.environ.get("WEB_CONCURRENCY", "").strip() or 2)
# Twice the number of database connections per process (app/database.py), so that threads are free
# to answer while all connections wait for a hung database.
threads = 8
worker_class = "app.worker.PatientWorker"
timeout = 30
graceful_timeout = 10
control_socket_disable = True  # nobody uses it, and it would write to the home folder
accesslog = "-"
# Log the route instead of the path, and no headers, so that no request values reach the log.
access_log_format = '%(h)s %(t)s "%(m)s %({alerts.route}e)s" %(s)s %(B)s %(M)sms'


class DiscreetLogger(Logger):
    """Gunicorn's logger without request data; by default it quotes bytes that it cannot parse."""

    def warning(self, msg: str, *args: object, **kwargs: object) -> None:
        """Like the base method, but for an invalid request only log where it came from."""
        if msg.startswith("Invalid request from "):
            msg, args = msg.partition(": ")[0], ()
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: object, **kwargs: object) -> None:
        """Like the base method, but for a failed request only log the type of error."""
        kind = sys.exc_info()[0]
        if msg.startswith("Error handling request"):
            super().error("a request failed in the server: %s", kind.__name__ if kind else "?")
        else:
            super().exception(msg, *args, **kwargs)


logger_class = DiscreetLogger


def on_starting(server: object) -> None:
    """Refuse to start with an invalid environment, with one line instead of a traceback."""
    from alerts.settings.config import ConfigError, Settings, require_database_url

    try:
        require_database_url(Settings.from_env(os.environ))
    except ConfigError as error:
        sys.exit(f"error: {error}")
