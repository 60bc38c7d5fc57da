"""OpenTelemetry traces as a collector gets them: the request's span is below its caller's, and shows its waits."""

import json
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from support.dev_process import DevCluster
from support.http_client import Reply
from support.service_process import Service
from support.wallet_api import WalletApi, new_id, transfer_body

from wallet_engine.dev.ports import free_port
from wallet_engine.dev.process import wait_until
from wallet_engine.telemetry.spans import OPERATIONS_TRACED_MAX

PARENT = "00f067aa0ba902b7"
#: Times come from two clocks.
CLOCK_NS = 5_000_000
PARTITIONS = 16
STOP_S_MAX = 15.0
PAY = "POST /v1/wallet/balance_transfer"
STEPS = ["script call", "journal wait"]


class Collector(ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Receiver)
        self.received: list[Any] = []
        self.services: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def trace(self, trace_id: str, size: int) -> dict[str, Any]:
        """The spans of a trace by their ids, once there are enough of them."""

        def spans() -> dict[str, Any]:
            found = [span for span in list(self.received) if span.trace_id.hex() == trace_id]
            return {span.span_id.hex(): span for span in found}

        assert wait_until(lambda: len(spans()) >= size, 30), [span.name for span in spans().values()]
        return spans()


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        said = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
        for resource in said.resource_spans:
            named = {each.key: each.value.string_value for each in resource.resource.attributes}
            self.server.services.add(f"{self.path} {named['service.name']} {named['service.instance.id']}")
            for scope in resource.scope_spans:
                self.server.received += scope.spans
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        thread = Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def traced(
    api_cluster: DevCluster, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("traced") / "traced.log"
    with Service(api_cluster, log, "--otlp-endpoint", collector.url, "--log-level", "debug") as service:
        yield service


@pytest.fixture
def api(traced: Service) -> Iterator[WalletApi]:
    with WalletApi(traced.url, PARTITIONS) as client:
        yield client


def attributes(span: Any) -> dict[str, Any]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def tree(spans: dict[str, Any]) -> dict[str, list[str]]:
    """Name of a span -> names of the spans below it, in the order of their starts."""
    ordered = sorted(spans.values(), key=lambda span: span.start_time_unix_nano)
    below: dict[str, list[str]] = {}
    for span in ordered:
        above = spans.get(span.parent_span_id.hex())
        below.setdefault("" if above is None else above.name, []).append(span.name)
    return below


def traceparent(trace: str, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{trace}-{PARENT}-{flags}"}


def pay(api: WalletApi, sender: str, receiver: str, headers: dict[str, str]) -> Reply:
    body = transfer_body(sender, receiver, "1.00", new_id())
    return api.post("/v1/wallet/balance_transfer", body, headers)


def test_a_transfer_across_partitions_is_one_trace(
    api: WalletApi, traced: Service, collector: Collector
) -> None:
    ann, bob, trace = api.account(0, "10.00"), api.account(9), uuid.uuid4().hex
    answer = pay(api, ann, bob, {"x-request-id": "order-7", **traceparent(trace)})
    assert (answer.status, answer.headers["x-request-id"]) == (200, "order-7")
    spans = collector.trace(trace, 7)
    assert tree(spans) == {"": [PAY], PAY: ["debit", "credit"], "debit": STEPS, "credit": STEPS}
    (request,) = (span for span in spans.values() if span.name == PAY)
    assert request.parent_span_id.hex() == PARENT
    said = attributes(request)
    assert (said["http.response.status_code"], said["wallet.request_id"]) == (200, "order-7")
    for span in spans.values():
        above = spans.get(span.parent_span_id.hex(), span)
        assert above.start_time_unix_nano - CLOCK_NS <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= above.end_time_unix_nano + CLOCK_NS
    assert collector.services == {"/v1/traces wallet-api traced"}
    lines = [json.loads(line) for line in traced.log.read_text().splitlines()]
    (line,) = (line for line in lines if line.get("request_id") == "order-7")
    assert (line["event"], line["route"], line["status"]) == ("request answered", PAY.split()[1], 200)


def test_what_is_refused_and_what_goes_the_general_way_is_traced(
    api: WalletApi, collector: Collector
) -> None:
    ann, bob, trace = api.account(0, "0.50"), api.account(9), uuid.uuid4().hex
    answer = pay(api, ann, bob, traceparent(trace))
    assert (answer.status, answer.headers["x-request-id"]) == (422, trace)
    assert tree(collector.trace(trace, 4)) == {"": [PAY], PAY: ["debit"], "debit": STEPS}
    trace = uuid.uuid4().hex
    hold = {"account_id": ann, "amount": "0.25", "currency": "USD", "transaction_id": new_id()}
    assert api.post("/v1/holds", hold, traceparent(trace)).status == 201
    route = "POST /v1/holds"
    assert tree(collector.trace(trace, 4)) == {"": [route], route: ["hold"], "hold": STEPS}


def test_who_does_not_sample_is_not_traced_and_a_batch_not_to_its_end(
    api: WalletApi, collector: Collector
) -> None:
    ann, bob, unseen, trace = api.account(0, "500.00"), api.account(9), uuid.uuid4().hex, uuid.uuid4().hex
    assert pay(api, ann, bob, traceparent(unseen, "00")).headers["x-request-id"] == unseen
    transfers = [transfer_body(ann, bob, "1.00", new_id()) for _ in range(200)]
    assert api.post("/v1/transfers/batch", {"transfers": transfers}, traceparent(trace)).status == 200
    spans = collector.trace(trace, 1 + 3 * OPERATIONS_TRACED_MAX)
    assert len(spans) == 1 + 3 * OPERATIONS_TRACED_MAX
    assert not [span for span in collector.received if span.trace_id.hex() == unseen]


def test_a_collector_that_is_not_there_stops_nothing(api_cluster: DevCluster, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Service(api_cluster, tmp_path / "untold.log", OTEL_EXPORTER_OTLP_ENDPOINT=url) as service:
        with WalletApi(service.url, PARTITIONS) as api:
            ann, bob = api.account(0, "10.00"), api.account(9)
            assert pay(api, ann, bob, traceparent(uuid.uuid4().hex)).status == 200
        service.process.terminate()
        assert service.process.wait(STOP_S_MAX) == 0
