"""The handlers for machines: whether the process is alive, whether it is ready, its metrics, its OpenAPI document.

They wait for nothing, so they answer while the engine is overloaded. Only the OpenAPI document takes time: it is made
in a thread at the first request for it.
"""

import asyncio
import time
from typing import Final

from wallet_engine.http import wire
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.problems import Answer, json_answer
from wallet_engine.service.api import ConditionView, Readiness
from wallet_engine.telemetry.metrics import EXPOSITION_CONTENT_TYPE


async def healthz(request: Request) -> Answer:
    """The process runs, and its event loop responds."""
    return json_answer(200, wire.encode(wire.Health(status="ok")))


async def readyz(request: Request) -> Answer:
    """200 when transfers of at least some partitions are taken, else 503; with the conditions that limit them."""
    services = request.services
    found = services.wallet.readiness()
    if services.gate.paused:
        found = paused(found, services.gate.paused)
    if services.gate.leaving:
        found = leaving(found)
    conditions = [
        wire.ReadinessCondition(c.condition, None if c.partitions is None else list(c.partitions), c.detail)
        for c in found.conditions
    ]
    clock_ms = time.time_ns() // 1_000_000
    body = wire.encode(wire.ReadinessReport(found.ready, found.status, found.reason, conditions, clock_ms))
    return json_answer(200, body) if found.ready else json_answer(503, body, ((b"retry-after", b"1"),))


def paused(found: Readiness, reason: str) -> Readiness:
    """`found` with the pause added. The process stays ready: it answers reads, and tells callers why not to pay."""
    status = "degraded" if found.status == "ready" else found.status
    condition = ConditionView("maintenance", None, f"no new payments are taken: {reason}")
    said = condition.detail if found.status == "ready" else f"{condition.detail}; {found.reason}"
    return Readiness(status, said, (condition, *found.conditions))


def leaving(found: Readiness) -> Readiness:
    """`found`, unready because the process is about to end: it still answers, but callers should go elsewhere."""
    condition = ConditionView("stopping", None, "this process is about to end")
    return Readiness("unready", condition.detail, (condition, *found.conditions))


async def metrics(request: Request) -> Answer:
    """The Prometheus exposition text."""
    request.visit.principal.check_metrics()
    body = request.services.metrics.render()
    headers = (
        (b"content-type", EXPOSITION_CONTENT_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
    )
    return Answer(200, body, headers)


async def openapi(request: Request) -> Answer:
    document, _ = await asyncio.to_thread(request.services.described)
    return json_answer(200, document)


async def docs(request: Request) -> Answer:
    _, body = await asyncio.to_thread(request.services.described)
    headers = (*_HTML, (b"content-length", b"%d" % len(body)))
    return Answer(200, body, headers)


_HTML: Final = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
)

ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/healthz",
        healthz,
        "Whether the process is alive.",
        {200: wire.Health},
        bounded=False,
        public=True,
    ),
    Endpoint(
        "GET",
        "/readyz",
        readyz,
        "Whether transfers are taken, and what prevents it in some partitions.",
        {200: wire.ReadinessReport, 503: wire.ReadinessReport},
        bounded=False,
        public=True,
    ),
    Endpoint("GET", "/metrics", metrics, "Prometheus exposition text.", {200: None}, bounded=False),
    Endpoint(
        "GET",
        "/openapi.json",
        openapi,
        "This document.",
        {200: None},
        media="application/json",
        bounded=False,
        public=True,
    ),
    Endpoint(
        "GET",
        "/docs",
        docs,
        "This document as a page for people, without scripts and links to other hosts.",
        {200: None},
        media="text/html",
        bounded=False,
        public=True,
    ),
)
