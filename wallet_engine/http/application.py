"""The application: which handler a request gets, and what becomes of everything that goes wrong in it.

The calls that carry the load are found by one dictionary lookup; all others are matched by Starlette's
routes. Handlers return an `Answer` or raise, and are the only code that knows a body; only this file sends.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.routing import Match, Route, Router
from starlette.types import Receive, Scope, Send

from wallet_engine.http.accounts import AccountHandlers
from wallet_engine.http.body import BodyReader, ClientGone
from wallet_engine.http.direct import OVERLOADED, Admission, DirectTransfers
from wallet_engine.http.heads import TRANSFER_PATH
from wallet_engine.http.observed import ROUTE_KEY, ObservedApp, ObservedWallet
from wallet_engine.http.probes import ProbeHandlers
from wallet_engine.http.problems import Answer, Refused, failure
from wallet_engine.http.request_metrics import RequestMetrics
from wallet_engine.http.transfers import TRANSACTION_ID_KEY, TransferHandlers
from wallet_engine.http.uncancelled import Uncancelled
from wallet_engine.service.api import Wallet
from wallet_engine.telemetry.metrics import Metrics

#: Requests under `/v1/` that one process has begun and not yet answered.
REQUESTS_IN_FLIGHT_MAX: Final = 20_000

#: Answers a server's start-up and shutdown messages, and closes websockets.
_no_other_protocol: Final = Router()

Handler = Callable[[Scope, Receive], Awaitable[Answer]]


class Endpoint(NamedTuple):
    """One row of the table in design.md section 11."""

    method: str
    template: str
    handler: Handler


def create_app(
    wallet: Wallet, *, metrics: Metrics | None = None, requests_in_flight_max: int = REQUESTS_IN_FLIGHT_MAX
) -> ObservedApp:
    """The ASGI application that offers `wallet` by HTTP, with `direct` for those who need no ASGI.

    Counts into `metrics` (its own, if none is given). Above `requests_in_flight_max` it answers 503
    `overloaded`; probes are always answered. It has no start-up or shutdown of its own.
    """
    if metrics is None:
        metrics = Metrics()
    wallet = ObservedWallet(wallet, metrics)
    admission, requests = Admission(requests_in_flight_max), RequestMetrics(metrics)
    direct = DirectTransfers(wallet, admission, requests)
    return ObservedApp(Application(make_endpoints(wallet, metrics), admission), requests, direct)


def make_endpoints(wallet: Wallet, metrics: Metrics) -> list[Endpoint]:
    """Every endpoint, one for each template. The first template that fits a path decides, so literal ones lead."""
    bodies, calls = BodyReader(), Uncancelled()
    transfers = TransferHandlers(wallet, bodies)
    accounts = AccountHandlers(wallet, bodies, calls)
    probes = ProbeHandlers(wallet, metrics)
    return [
        Endpoint("POST", TRANSFER_PATH, transfers.transfer),
        Endpoint("POST", "/v1/transfers/batch", transfers.batch),
        Endpoint("GET", "/v1/transfers/{transaction_id}", transfers.find),
        Endpoint("POST", "/v1/accounts", accounts.open),
        Endpoint("GET", "/v1/accounts/{account_id}", accounts.show),
        Endpoint("GET", "/v1/accounts/{account_id}/balance", accounts.balance),
        Endpoint("POST", "/v1/accounts/{account_id}/freeze", accounts.freeze),
        Endpoint("POST", "/v1/accounts/{account_id}/unfreeze", accounts.unfreeze),
        Endpoint("POST", "/v1/accounts/{account_id}/close", accounts.close),
        Endpoint("GET", "/healthz", probes.healthz),
        Endpoint("GET", "/readyz", probes.readyz),
        Endpoint("GET", "/metrics", probes.metrics),
        Endpoint("GET", "/openapi.json", probes.openapi),
    ]


class Application:
    """Dispatches, bounds, and maps every failure to a problem."""

    def __init__(self, endpoints: list[Endpoint], admission: Admission) -> None:
        self._admission = admission
        self._direct = {
            (e.method, e.template): e.handler
            for e in endpoints
            if e.method == "POST" and "{" not in e.template
        }
        self._routes = [Route(e.template, e.handler, methods=[e.method]) for e in endpoints]

    def __repr__(self) -> str:
        return f"<Application {self._admission!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _no_other_protocol(scope, receive, send)
            return
        bounded = scope["path"].startswith("/v1/")
        if bounded and self._admission.is_full:
            await _send(OVERLOADED, send)
            return
        self._admission.in_flight += bounded
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        finally:
            self._admission.in_flight -= bounded
        await _send(answer, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            path = scope["path"]
            handler = self._direct.get((scope["method"], path))
            if handler is None:
                return await self._routed(scope, receive)
            scope[ROUTE_KEY] = path
            return await handler(scope, receive)
        except ClientGone:
            raise
        except Exception as error:
            return failure(error, scope["path"], scope.get(TRANSACTION_ID_KEY))

    async def _routed(self, scope: Scope, receive: Receive) -> Answer:
        # Matched on the path as sent and decoded by the handler: an id may hold an encoded slash, and is then
        # a malformed id rather than another path.
        raw_path = scope.get("raw_path") or quote(scope["path"]).encode()
        sought = {"type": "http", "method": scope["method"], "path": raw_path.decode("latin-1")}
        for route in self._routes:
            match, found = route.matches(sought)
            if match is Match.NONE:
                continue
            scope[ROUTE_KEY] = route.path
            if match is Match.PARTIAL:
                methods = ", ".join(sorted(route.methods or ()))
                raise Refused(
                    "method_not_allowed",
                    f"this path takes {methods}",
                    headers=((b"allow", methods.encode()),),
                )
            scope["path_params"] = found["path_params"]
            handler: Handler = found["endpoint"]
            return await handler(scope, receive)
        raise Refused("not_found", "this interface has no such path; see /openapi.json")


async def _send(answer: Answer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": answer.body})
