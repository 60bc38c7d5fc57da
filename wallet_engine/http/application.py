"""The application: finds the endpoint of a request, and turns every failure in it into an answer.

The calls that carry most load are found by one dictionary lookup, all others by the patterns of their paths.
Handlers return an `Answer` or raise; only this file sends.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from functools import cache, partial
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.routing import Router, compile_path
from starlette.types import Receive, Scope, Send

from wallet_engine.engine.positions import Positions, note_positions, text_of
from wallet_engine.http.body import BodyReader, ClientGone
from wallet_engine.http.direct import ASKED_KEY, PEER_KEY, Direct
from wallet_engine.http.endpoint import Endpoint, Request, Services
from wallet_engine.http.endpoints import ENDPOINTS
from wallet_engine.http.gate import Gate, Peer, Visit
from wallet_engine.http.heads import Head
from wallet_engine.http.media import check_media
from wallet_engine.http.observed import ObservedWallet
from wallet_engine.http.openapi import openapi_document
from wallet_engine.http.parse import NAMED_BYTES_MAX, id_in
from wallet_engine.http.problems import Answer, Refused, failure
from wallet_engine.http.reference import reference_page
from wallet_engine.http.request_ids import Asked, new_number, request_id_of
from wallet_engine.http.uncancelled import Uncancelled
from wallet_engine.service.api import Wallet
from wallet_engine.service.events import GuardedEvents
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.service.history import GuardedHistory
from wallet_engine.service.keyring import FORGET_S
from wallet_engine.service.turns import Turns
from wallet_engine.telemetry.logging import log_with
from wallet_engine.telemetry.metrics import Metrics

#: Status counted for a client that hung up before its request was complete.
_STATUS_CLIENT_GONE: Final = 499

#: Maximum time for an answer that is streamed: it keeps a connection to the database.
STREAM_S_MAX: Final = 600.0

#: Answers a server's startup and shutdown messages, and closes websockets.
_no_other_protocol: Final = Router()


_NO_PEER: Final = Peer("")
_READS: Final = frozenset(("GET", "HEAD", "OPTIONS"))


class Found(NamedTuple):
    """The endpoint of a request. With a `refusal`, that is the answer, once the gate has let the request in."""

    endpoint: Endpoint
    path_params: dict[str, str]
    refusal: Refused | None = None


class Routes:
    """Method and path -> endpoint. If several templates fit a path, one without parameters wins."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        #: Path -> the endpoint that takes a `POST`, of paths without parameters.
        self.posted = {
            e.template: Found(e, {}) for e in endpoints if e.method == "POST" and "{" not in e.template
        }
        self._by_template: dict[str, dict[str, Endpoint]] = {}
        for endpoint in endpoints:
            methods = self._by_template.setdefault(endpoint.template, {})
            methods[endpoint.method] = endpoint
            if endpoint.method == "GET":
                methods["HEAD"] = endpoint
        literal_first = sorted(self._by_template.items(), key=lambda item: item[0].count("{"))
        self._patterns: list[tuple[re.Pattern[str], dict[str, Endpoint]]] = [
            (compile_path(template)[0], methods) for template, methods in literal_first
        ]

    def __repr__(self) -> str:
        return f"<Routes {len(self._patterns)}>"

    def find(self, scope: Scope) -> Found:
        # Matched on the path as sent; the handler decodes it. An id with an encoded slash is then a malformed id,
        # not another path, and no proxy in front sees another path than this process.
        raw_path: bytes = scope.get("raw_path") or quote(scope["path"]).encode()
        method, path = scope["method"], raw_path.decode("latin-1")
        found = self.posted.get(path) if method == "POST" else None
        return found or self._match(method, path)

    def _match(self, method: str, path: str) -> Found:
        for pattern, methods in self._patterns:
            match = pattern.match(path)
            if match is None:
                continue
            if method in methods:
                return Found(methods[method], match.groupdict())
            allowed = ", ".join(sorted(methods))
            allow = ((b"allow", allowed.encode()),)
            refusal = Refused("method_not_allowed", f"this path takes {allowed}", headers=allow)
            return Found(next(iter(methods.values())), {}, refusal)
        return Found(_NOWHERE, {}, Refused("not_found", "this interface has no such path; see /openapi.json"))


async def _nothing(request: Request) -> Answer:
    raise NotImplementedError


_NOWHERE: Final = Endpoint("", "unmatched", _nothing, "", {}, bounded=False)


class Application:
    """The ASGI application, and `direct` for requests that need no ASGI. Both pass the gate."""

    def __init__(self, services: Services, gate: Gate, endpoints: Sequence[Endpoint]) -> None:
        self.gate = gate
        self._services = services
        self._routes = Routes(endpoints)
        self.direct = Direct(services.wallet, gate, services.calls, self._routes.posted, self._answer_whole)

    def __repr__(self) -> str:
        return f"<Application {self.gate!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _no_other_protocol(scope, receive, send)
            return
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        headers = answer.headers
        if answer.position:
            headers = (*headers, (b"wallet-position", answer.position.encode()))
        start = {"type": "http.response.start", "status": answer.status, "headers": headers}
        if answer.stream is not None:
            async with aclosing(answer.stream) as chunks:
                await send(start)
                again = partial(self.gate.check_again, _authorization(scope), scope.get(PEER_KEY, _NO_PEER))
                if scope["method"] != "HEAD" and not await _streamed(chunks, receive, send, again):
                    return
        else:
            await send(start)
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        """The answer to any request. Raises `ClientGone`."""
        return await self._serve(self._routes.find(scope), _authorization(scope), scope, receive)

    async def _answer_whole(self, head: Head, scope: Scope, receive: Receive) -> Answer:
        """The answer to a complete request whose head is known and whose media type is accepted."""
        found = self._routes.posted[head.path]
        return await self._serve(found, head.authorization, scope, receive, media_known=True)

    async def _serve(
        self,
        found: Found,
        authorization: bytes | None,
        scope: Scope,
        receive: Receive,
        *,
        media_known: bool = False,
    ) -> Answer:
        peer: Peer = scope.get(PEER_KEY, _NO_PEER)
        asked: Asked = scope.get(ASKED_KEY) or new_number()
        log_with(request_id_of(asked).decode())
        try:
            visit = self.gate.enter(found.endpoint, authorization, peer, asked)
        except Refused as refused:
            return failure(refused, scope["path"], await self._id_of(scope, receive))
        request = Request(visit, self._services, scope, receive, found.path_params)
        status = _STATUS_CLIENT_GONE
        try:
            if scope["method"] in _READS:
                positions: Positions = {}
            else:
                positions = note_positions()
                if not media_known:
                    check_media(scope["headers"], peer)
            if found.refusal is not None:
                raise found.refusal
            request.check_query(found.endpoint)
            if scope["method"] not in _READS:
                await request.check_no_body(found.endpoint)
            answer = await found.endpoint.handler(request)
            if scope["method"] in _READS and not found.endpoint.public:
                # What a write has done is told in any case.
                await self._check_if_long(visit, answer, authorization, peer)
            if positions and not answer.position:
                answer = answer._replace(position=text_of(positions))
            status = answer.status
        except ClientGone:
            raise
        except Exception as error:
            answer = failure(error, scope["path"], request.transaction_id)
            status = answer.status
        finally:
            visit.leave(status)
        return answer

    async def _check_if_long(
        self, visit: Visit, answer: Answer, authorization: bytes | None, peer: Peer
    ) -> None:
        """Raises `Refused` if the request took so long that its key may have ended meanwhile, and it has."""
        if time.perf_counter() - visit.began_s < FORGET_S:
            return
        try:
            self.gate.check_again(authorization, peer)
        except Refused:
            if answer.stream is not None:
                await answer.stream.aclose()
            raise

    async def _id_of(self, scope: Scope, receive: Receive) -> str | None:
        """The transaction id of a request that the gate refuses. Only a small body is read for it."""
        fields = dict(scope["headers"])
        body, length = b"", fields.get(b"content-length", b"")
        if length.isdigit() and int(length) <= NAMED_BYTES_MAX:
            with suppress(Refused):
                body = await self._services.bodies.read(scope, receive)
        key = fields.get(b"idempotency-key")
        return id_in(body, None if key is None else key.decode("latin-1").strip())


async def _streamed(
    chunks: AsyncGenerator[bytes, None], receive: Receive, send: Send, check_again: Callable[[], None]
) -> bool:
    """Send all chunks. False to close the connection: the client has gone, took too long, or its key ended."""
    gone = asyncio.create_task(_hung_up(receive))
    try:
        async with asyncio.timeout(STREAM_S_MAX):
            async for chunk in chunks:
                if gone.done():
                    return False
                check_again()
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except (TimeoutError, Refused):
        return False
    finally:
        gone.cancel()
    return True


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _authorization(scope: Scope) -> bytes | None:
    values: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    # Two headers are as invalid as a wrong one.
    return None if not values else values[0] if len(values) == 1 else b""


@cache
def _described() -> tuple[bytes, bytes]:
    document = openapi_document(ENDPOINTS)
    return document, reference_page(document)


def create_app(
    wallet: Wallet,
    *,
    metrics: Metrics | None = None,
    gate: Gate | None = None,
    events: GuardedEvents | None = None,
    history: GuardedHistory | None = None,
) -> Application:
    """Offers `wallet`, and if given `events` and `history`, over HTTP, through `gate`; counts into `metrics`.

    It has no startup or shutdown of its own.
    """
    metrics = Metrics() if metrics is None else metrics
    gate = Gate(metrics) if gate is None else gate
    turns = Turns(gate.keyring.shares)
    services = Services(
        GuardedWallet(ObservedWallet(wallet, metrics), turns),
        BodyReader(),
        Uncancelled(),
        metrics,
        turns,
        gate,
        _described,
        events,
        history,
    )
    return Application(services, gate, ENDPOINTS)
