"""Serves requests that arrive whole without a cycle of ASGI; a single transfer in plain calls, from body to answer.

The parser, the messages and the task that ASGI needs for each request were half of the API's CPU for a single transfer,
and a third for ten in a batch. All other requests go the general way (`protocol.py`) and get the same answers.
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
#: Takes what is to be done when there is nothing more urgent.
Later = Callable[[Callable[[], None]], None]

#: Where the other end of the connection, and what the request asks to be called, stand in a scope; a server that is not
#: ours leaves nothing there.
PEER_KEY: Final = "wallet.peer"
ASKED_KEY: Final = "wallet.asked"


class Direct:
    """`POST` to a path without parameters for who has the whole request; `heads` tells it from others."""

    def __init__(
        self,
        wallet: GuardedWallet,
        gate: Gate,
        calls: Uncancelled,
        paths: Iterable[str],
        answer: Callable[[Head, Scope, Receive], Awaitable[Answer]],
    ) -> None:
        """`paths`: those of the endpoints; `answer`: what the application says to such a request."""
        self.wallet = wallet
        self.gate = gate
        self.heads = Heads(paths)
        self._calls = calls
        self._answer = answer

    def __repr__(self) -> str:
        return f"<Direct {self._calls!r} {self.gate!r}>"

    def begin(self, head: Head, body: bytes, peer: Peer, asked: Asked, send: Send, later: Later) -> None:
        """Do what the request asks for; `send` is called once with the answer.

        Of a transfer that is refused, at once; of one that was decided, when `later` does what it was given.
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
    """One request until it is answered."""

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
