"""OpenTelemetry spans of requests. Imported only when traces are sent: it needs the extra `otel`."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

#: Maximum operations of one request with spans: a batch can have 20,000 operations.
OPERATIONS_TRACED_MAX: Final = 50
#: Time-out of one export. A collector that does not answer delays the end of a process by this long.
EXPORT_S_MAX: Final = 2.0

_TRACES_PATH: Final = "/v1/traces"
_extract: Final = TraceContextTextMapPropagator().extract


class Tracing:
    """Makes the spans of one process and sends them.

    The caller's `traceparent` decides whether a request is traced; without one, the sampler in `OTEL_TRACES_SAMPLER`
    does (default: all requests).
    """

    def __init__(self, service_id: str, exporter: SpanExporter) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "wallet-api")
        resource = Resource.create({"service.name": name, "service.instance.id": service_id})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("wallet_engine")

    @classmethod
    def to(cls, endpoint: str | None, service_id: str) -> "Tracing":
        """Send spans by OTLP over HTTP to the endpoint; None for the one in OpenTelemetry's own variables."""
        if endpoint is not None and not endpoint.endswith(_TRACES_PATH):
            endpoint = endpoint.rstrip("/") + _TRACES_PATH
        return cls(service_id, OTLPSpanExporter(endpoint, timeout=EXPORT_S_MAX))

    def close(self) -> None:
        """Send the remaining spans, and wait for that."""
        self._provider.shutdown()

    def begin_request(self, method: str, route: str, request_id: str, traceparent: str) -> Span:
        """Begin the span of a request, as a child of the caller's. Operations of this context become its children."""
        parent = _extract({"traceparent": traceparent}, Context()) if traceparent else Context()
        attributes = {"http.request.method": method, "http.route": route, "wallet.request_id": request_id}
        span = self._tracer.start_span(f"{method} {route}", parent, SpanKind.SERVER, attributes)
        _place.set(Place(self, span) if span.is_recording() else None)
        return span

    def step(self, name: str, parent: Span, start_ns: int, attributes: dict[str, str | int]) -> Span:
        """Begin a child span. `start_ns`: its start, Unix nanoseconds."""
        context = set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context, attributes=attributes, start_time=start_ns)


class Place:
    """The span of a request, to which the spans of its operations are added."""

    __slots__ = ("_left", "_span", "_tracing")

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._left = OPERATIONS_TRACED_MAX

    def begin(self, name: str, partition: int) -> "Step | None":
        """Begin the span of one operation; None after `OPERATIONS_TRACED_MAX` of them."""
        if self._left <= 0:
            return None
        self._left -= 1
        span = self._tracing.step(name, self._span, time.time_ns(), {"wallet.partition": partition})
        return Step(self, self._tracing, span)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Operations that are submitted in the block belong to this request."""
        token = _place.set(self)
        try:
            yield
        finally:
            _place.reset(token)


class Step:
    """The span of one operation, from its queue to its receipts."""

    __slots__ = ("_span", "_tracing", "place")

    def __init__(self, place: Place, tracing: Tracing, span: Span) -> None:
        self.place = place
        self._tracing = tracing
        self._span = span

    def passed(self, name: str, start_s_ago: float, end_s_ago: float) -> None:
        """Add a span for a finished part of the operation. Start and end: seconds before now."""
        now_ns = time.time_ns()
        start_ns, end_ns = (now_ns - int(ago * 1e9) for ago in (start_s_ago, end_s_ago))
        self._tracing.step(name, self._span, start_ns, {}).end(end_ns)

    def decided(self, outcome: str, entry: str) -> None:
        """End the span: the operation is durable."""
        self._span.set_attributes({"wallet.outcome": outcome, "wallet.entry": entry})
        self._span.end()

    def failed(self, code: str) -> None:
        """End the span with an error: the operation failed, or its outcome is unknown."""
        self._span.set_status(StatusCode.ERROR, code)
        self._span.end()


def answered(span: Span, status: int) -> None:
    """End the span of a request that was answered with this status."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


_place: Final[ContextVar[Place | None]] = ContextVar("place", default=None)
current_place: Final = _place.get
