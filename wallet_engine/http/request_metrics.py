"""Metrics of every request, by ASGI or by the direct way."""

from wallet_engine.telemetry.metrics import Metrics
from wallet_engine.telemetry.tallies import Count, Spread


class RequestMetrics:
    """Counts and times requests by route template and status."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.in_flight = 0
        self._children: dict[tuple[str, int], tuple[Count, Spread]] = {}
        metrics.observe_in_flight(lambda: self.in_flight)

    def turned_away(self, status: int) -> None:
        """Count an answer to something that never was a request, or to a connection that found no room."""
        self.in_flight += 1
        self.ended("malformed", status, 0.0)

    def ended(self, route: str, status: int, seconds: float) -> None:
        """Count the end of a request that `in_flight` counted."""
        self.in_flight -= 1
        # Looking up a labelled child takes longer than counting; there are few routes and statuses.
        found = self._children.get((route, status))
        if found is None:
            found = self._children[route, status] = (
                self._metrics.http_requests.labels(route, str(status)),
                self._metrics.http_request_seconds.labels(route),
            )
        count, histogram = found
        count.inc()
        histogram.observe(seconds)
