"""``GET /metrics``: delivery health for Prometheus and what else reads its format."""

from __future__ import annotations

import time
from collections.abc import Iterator

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from werkzeug.http import parse_options_header

from alerts.health.report import get_health
from app.admin.gauges import gauge, gauges
from app.admin.token import check_token, refuse_body
from app.current import business_now, database, settings
from app.params import read_query

# The formats that can be asked for, by version. The encoder would take over any other version that
# it is asked for, or stumble over it.
_FORMATS = {
    "application/openmetrics-text": ("", "1.0.0"),
    "text/plain": ("", "0.0.4", "1.0.0"),
}


def metrics_blueprint() -> Blueprint:
    """``/metrics``, for the tokens of the admin routes."""
    blueprint = Blueprint("metrics", __name__)
    blueprint.before_request(check_token)
    blueprint.before_request(refuse_body)
    blueprint.get("/metrics")(metrics)
    return blueprint


def metrics() -> Response:
    """The gauges, in the format that the client asks for: plain text, or OpenMetrics."""
    read_query()
    registry = CollectorRegistry()
    registry.register(_Scrape())
    encode, content_type = choose_encoder(_accepted())
    response = Response(encode(registry), content_type=content_type)
    response.vary.add("Accept")
    return response


class _Scrape:
    """A collector that asks health when it is collected, once."""

    def describe(self) -> list[GaugeMetricFamily]:
        return []  # else registering would collect already

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Raises ``psycopg2.Error``, so that a scrape without a database fails as a whole."""
        started = time.monotonic()
        with database().transaction() as conn:
            health = get_health(conn, settings(), business_now())
        yield from gauges(health)
        taken = time.monotonic() - started
        yield gauge("scrape_duration_seconds", "How long these figures took.", [((), taken)])


def _accepted() -> str:
    """The format that the client wants most, for an encoder that knows no quality; empty: ours."""
    ranges = [(value, quality) for value, quality in request.accept_mimetypes if quality > 0]
    for value, _ in sorted(ranges, key=lambda each: -each[1]):
        name, options = parse_options_header(value)
        if options.get("version", "") in _FORMATS.get(name, ()):
            return value
    return ""
