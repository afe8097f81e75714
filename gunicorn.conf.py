"""Settings of ``gunicorn 'app:create_app()'`` for a small host."""

import os
import sys

from gunicorn.glogging import Logger

# A host that gives a PORT wants the app on every interface; a laptop wants it on its own.
_port = os.environ.get("PORT", "").strip()
bind = f"0.0.0.0:{_port}" if _port else "127.0.0.1:5000"
workers = int(os.environ.get("WEB_CONCURRENCY", "").strip() or 2)
# Twice as many as the database connections of a process (app/database.py): while all of those
# wait for a database that hangs, there are threads left to say so.
threads = 8
worker_class = "app.worker.PatientWorker"
timeout = 30
graceful_timeout = 10
control_socket_disable = True  # nobody uses it, and it would write to the home folder
accesslog = "-"
# The route, not the path, and no header: nothing of a request's values reaches the log.
access_log_format = '%(h)s %(t)s "%(m)s %({alerts.route}e)s" %(s)s %(B)s %(M)sms'


class DiscreetLogger(Logger):
    """Gunicorn's log without what a request said: it quotes the bytes that it cannot read."""

    def warning(self, msg: str, *args: object, **kwargs: object) -> None:
        """As the base's; of an invalid request only where it came from."""
        if msg.startswith("Invalid request from "):
            msg, args = msg.partition(": ")[0], ()
        super().warning(msg, *args, **kwargs)

    def exception(self, msg: str, *args: object, **kwargs: object) -> None:
        """As the base's; of a request that failed only the kind of error."""
        kind = sys.exc_info()[0]
        if msg.startswith("Error handling request"):
            super().error("a request failed in the server: %s", kind.__name__ if kind else "?")
        else:
            super().exception(msg, *args, **kwargs)


logger_class = DiscreetLogger


def on_starting(server: object) -> None:
    """Refuse to start with an environment that cannot work, in one line instead of a traceback."""
    from alerts.settings.config import ConfigError, Settings, require_database_url

    try:
        require_database_url(Settings.from_env(os.environ))
    except ConfigError as error:
        sys.exit(f"error: {error}")
