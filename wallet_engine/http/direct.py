"""Serves requests that arrive in one piece without ASGI; a single transfer in plain calls, from body to answer.

The parser, the messages and the task that ASGI needs per request took half of the API's CPU for a single transfer,
and a third for a batch of ten. All other requests go through ASGI (`protocol.py`) and get the same answers.
"""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final

from starlette.types import Message, Receive, Scope

from wallet_engine.domain.errors import Outage
from wallet_engine.http.fastparse import parse_transfer
from wallet_engine.http.gate import Gate, Peer, Visit
from wallet_engine.http.heads import TRANSFER_PATH, Head, Heads
from wallet_engine.http.parse import id_in
from wallet_engine.http.problems import Answer, Refused, failure
from wallet_engine.http.request_ids import Asked
from wallet_engine.http.transfers import TRANSFER, transfer_answer
from wallet_engine.http.uncancelled import Uncancelled
from wallet_engine.service.api import TransferAnswer
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.telemetry.logging import logged_with

Send = Callable[[Answer], None]
#: Takes a function to run when nothing more urgent is left.
Later = Callable[[Callable[[], None]], None]

#: Keys in a scope: the other end of the connection, and the id that the request asks for. Only our server sets them.
PEER_KEY: Final = "wallet.peer"
ASKED_KEY: Final = "wallet.asked"


class Direct:
    """Takes a `POST` to a path without parameters that arrived in one piece; `heads` recognises such requests."""

    def __init__(
        self,
        wallet: GuardedWallet,
        gate: Gate,
        calls: Uncancelled,
        paths: Iterable[str],
        answer: Callable[[Head, Scope, Receive], Awaitable[Answer]],
    ) -> None:
        """`paths`: those of the endpoints; `answer`: makes the application's answer to such a request."""
        self.wallet = wallet
        self.gate = gate
        self.heads = Heads(paths)
        self._calls = calls
        self._answer = answer

    def __repr__(self) -> str:
        return f"<Direct {self._calls!r} {self.gate!r}>"

    def begin(self, head: Head, body: bytes, peer: Peer, asked: Asked, send: Send, later: Later) -> None:
        """Start the request; `send` is called once with the answer.

        A transfer that is refused is answered at once; one that is decided, when `later` runs the function it got.
        """
        if head.path != TRANSFER_PATH:
            self._calls.start(self._handle(head, body, peer, asked, send))
            return
        try:
            visit = self.gate.enter(TRANSFER, head.authorization, peer, asked)
        except Refused as refused:
            send(failure(refused, TRANSFER_PATH, id_in(body, head.idempotency_key)))
        else:
            _Transfer(visit, send, later).begin(self.wallet, body, head.idempotency_key)

    async def _handle(self, head: Head, body: bytes, peer: Peer, asked: Asked, send: Send) -> None:
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": head.path,
            "query_string": b"",
            "headers": head.headers,
            PEER_KEY: peer,
            ASKED_KEY: asked,
        }

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        send(await self._answer(head, scope, receive))


class _Transfer:
    """One transfer, until it is answered."""

    __slots__ = ("_later", "_send", "_transaction_id", "_visit")

    def __init__(self, visit: Visit, send: Send, later: Later) -> None:
        self._visit = visit
        self._send: Send | None = send
        self._later = later
        self._transaction_id: str | None = None

    def begin(self, wallet: GuardedWallet, body: bytes, idempotency_key: str | None) -> None:
        try:
            command, self._transaction_id = parse_transfer(body, idempotency_key, self._visit.principal.id)
            wallet.begin_transfer(self._visit.principal, command, self._decided)
        except Exception as error:
            self._answer(self._failure(error))

    def _decided(self, decision: TransferAnswer | Outage) -> None:
        self._later(partial(self._tell, decision))

    def _tell(self, decision: TransferAnswer | Outage) -> None:
        try:
            if isinstance(decision, Outage):
                raise decision
            answer = transfer_answer(decision, self._transaction_id or "")
        except Exception as error:
            answer = self._failure(error)
        self._answer(answer)

    def _failure(self, error: Exception) -> Answer:
        with logged_with(self._visit.request_id):
            return failure(error, TRANSFER_PATH, self._transaction_id)

    def _answer(self, answer: Answer) -> None:
        send, self._send = self._send, None
        if send is None:
            return
        self._visit.leave(answer.status)
        send(answer)
