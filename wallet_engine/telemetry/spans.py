"""OpenTelemetry spans of what a request does. Imported only where traces are sent: it needs the extra `otel`."""

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

#: Operations of one request that have spans: a batch has 20,000 of them.
OPERATIONS_TRACED_MAX: Final = 50
#: For one export. A collector that does not answer delays the end of a process by no more.
EXPORT_S_MAX: Final = 2.0

_TRACES_PATH: Final = "/v1/traces"
_extract: Final = TraceContextTextMapPropagator().extract


class Tracing:
    """Makes the spans of one process and sends them. Whether a request has any, its caller's `traceparent` says, or
    else the sampler that `OTEL_TRACES_SAMPLER` names (all of them)."""

    def __init__(self, service_id: str, exporter: SpanExporter) -> None:
        name = os.environ.get("OTEL_SERVICE_NAME", "wallet-api")
        resource = Resource.create({"service.name": name, "service.instance.id": service_id})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("wallet_engine")

    @classmethod
    def to(cls, endpoint: str | None, service_id: str) -> "Tracing":
        """Spans go by OTLP over HTTP to the endpoint, or where OpenTelemetry's own variables say."""
        if endpoint is not None and not endpoint.endswith(_TRACES_PATH):
            endpoint = endpoint.rstrip("/") + _TRACES_PATH
        return cls(service_id, OTLPSpanExporter(endpoint, timeout=EXPORT_S_MAX))

    def close(self) -> None:
        """Send what is left; waits for it."""
        self._provider.shutdown()

    def begin_request(self, method: str, route: str, request_id: str, traceparent: str) -> Span:
        """The span of a request, below the caller's; what this context submits from now on is below it."""
        parent = _extract({"traceparent": traceparent}, Context()) if traceparent else Context()
        attributes = {"http.request.method": method, "http.route": route, "wallet.request_id": request_id}
        span = self._tracer.start_span(f"{method} {route}", parent, SpanKind.SERVER, attributes)
        _place.set(Place(self, span) if span.is_recording() else None)
        return span

    def step(self, name: str, parent: Span, start_ns: int, attributes: dict[str, str | int]) -> Span:
        """A span below another one, begun at that time."""
        context = set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context, attributes=attributes, start_time=start_ns)


class Place:
    """Where in a trace the operations of a request belong."""

    __slots__ = ("_left", "_span", "_tracing")

    def __init__(self, tracing: Tracing, span: Span) -> None:
        self._tracing = tracing
        self._span = span
        self._left = OPERATIONS_TRACED_MAX

    def begin(self, name: str, partition: int) -> "Step | None":
        """The step of one operation; None past the bound."""
        if self._left <= 0:
            return None
        self._left -= 1
        span = self._tracing.step(name, self._span, time.time_ns(), {"wallet.partition": partition})
        return Step(self, self._tracing, span)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """What is submitted inside belongs here."""
        token = _place.set(self)
        try:
            yield
        finally:
            _place.reset(token)


class Step:
    """One operation, from its queue to its receipts."""

    __slots__ = ("_span", "_tracing", "place")

    def __init__(self, place: Place, tracing: Tracing, span: Span) -> None:
        self.place = place
        self._tracing = tracing
        self._span = span

    def passed(self, name: str, start_s_ago: float, end_s_ago: float) -> None:
        """A part of it has passed."""
        now_ns = time.time_ns()
        start_ns, end_ns = (now_ns - int(ago * 1e9) for ago in (start_s_ago, end_s_ago))
        self._tracing.step(name, self._span, start_ns, {}).end(end_ns)

    def decided(self, outcome: str, entry: str) -> None:
        """It is durable."""
        self._span.set_attributes({"wallet.outcome": outcome, "wallet.entry": entry})
        self._span.end()

    def failed(self, code: str) -> None:
        """It did not happen, or is not known to have."""
        self._span.set_status(StatusCode.ERROR, code)
        self._span.end()


def answered(span: Span, status: int) -> None:
    """A request's span ends with its answer."""
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    span.end()


_place: Final[ContextVar[Place | None]] = ContextVar("place", default=None)
current_place: Final = _place.get
