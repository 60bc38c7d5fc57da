"""The handlers that machines watch: is it alive, is it ready, what does it count, what does it offer."""

from starlette.types import Receive, Scope

from wallet_engine.http import wire
from wallet_engine.http.openapi import openapi_document
from wallet_engine.http.problems import Answer, json_answer
from wallet_engine.service.api import Wallet
from wallet_engine.telemetry.metrics import EXPOSITION_CONTENT_TYPE, Metrics


class ProbeHandlers:
    """None of them waits for anything, so they answer while the engine is overloaded."""

    def __init__(self, wallet: Wallet, metrics: Metrics) -> None:
        self._wallet = wallet
        self._metrics = metrics
        self._openapi = openapi_document()

    async def healthz(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /healthz`: the process runs and its event loop turns."""
        return json_answer(200, wire.encode(wire.Health(status="ok")))

    async def readyz(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /readyz`: 200 when transfers of at least some partitions are taken, else 503; and what is wrong."""
        found = self._wallet.readiness()
        conditions = [
            wire.ReadinessCondition(
                c.condition, None if c.partitions is None else list(c.partitions), c.detail
            )
            for c in found.conditions
        ]
        body = wire.encode(wire.ReadinessReport(found.ready, found.status, found.reason, conditions))
        return json_answer(200, body) if found.ready else json_answer(503, body, ((b"retry-after", b"1"),))

    async def metrics(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /metrics`: the Prometheus exposition text."""
        body = self._metrics.render()
        return Answer(
            200,
            body,
            (
                (b"content-type", EXPOSITION_CONTENT_TYPE.encode()),
                (b"content-length", b"%d" % len(body)),
            ),
        )

    async def openapi(self, scope: Scope, receive: Receive) -> Answer:
        """`GET /openapi.json`."""
        return json_answer(200, self._openapi)
