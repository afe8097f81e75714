"""Settings of ``gunicorn 'app:create_app()'`` for a small host."""

import os
import sys

# A host that gives a PORT wants the app on every interface; a laptop wants it on its own.
_port = os.environ.get("PORT", "").strip()
bind = f"0.0.0.0:{_port}" if _port else "127.0.0.1:5000"
workers = int(os.environ.get("WEB_CONCURRENCY", "").strip() or 2)
threads = 4  # each keeps one database connection
worker_class = "gthread"
timeout = 30
graceful_timeout = 10
keepalive = 5
control_socket_disable = True  # nobody uses it, and it would write to the home folder
accesslog = "-"
# The path without its query, and no header: nothing of a request's values reaches the log.
access_log_format = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(B)s %(M)sms'


def on_starting(server: object) -> None:
    """Refuse to start with an environment that cannot work, in one line instead of a traceback."""
    from alerts.config import ConfigError, Settings, require_database_url

    try:
        require_database_url(Settings.from_env(os.environ))
    except ConfigError as error:
        sys.exit(f"error: {error}")
