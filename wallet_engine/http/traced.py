"""Requests as spans. Imported only when traces are sent."""

from wallet_engine.http.gate import Entrance, Gate
from wallet_engine.http.request_ids import Asked
from wallet_engine.http.visits import LoggedVisit
from wallet_engine.telemetry.spans import Tracing, answered


class TracedVisit(LoggedVisit):
    """Makes the request a span below its caller's span, and above the spans of its operations."""

    __slots__ = ("_span",)

    def __init__(self, tracing: Tracing, gate: Gate, entrance: Entrance, asked: Asked) -> None:
        super().__init__(gate, entrance, asked)
        traceparent = "" if isinstance(asked, int) else asked.traceparent.decode()
        self._span = tracing.begin_request(entrance.method, entrance.template, self.request_id, traceparent)

    def leave(self, status: int) -> None:
        super().leave(status)
        answered(self._span, status)
