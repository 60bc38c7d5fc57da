"""Single transfers without ASGI: from the body of a request to its answer in plain calls.

The scope, the messages and the task that ASGI needs for each request were half of what the API spent on a single
transfer. What is not whole, or no ordinary request of this one kind, goes the general way (`application.py`) and
gets the same answers.
"""

from collections.abc import Callable
from functools import partial

from wallet_engine.domain.errors import Outage
from wallet_engine.http.fastparse import parse_transfer
from wallet_engine.http.gate import Gate, Peer, Visit
from wallet_engine.http.heads import TRANSFER_PATH, Head, Heads
from wallet_engine.http.problems import Answer, Refused, failure
from wallet_engine.http.request_ids import Asked
from wallet_engine.http.transfers import TRANSFER, transfer_answer
from wallet_engine.service.api import TransferAnswer
from wallet_engine.service.guarded import GuardedWallet
from wallet_engine.telemetry.logging import logged_with

Send = Callable[[Answer], None]
#: Takes what is to be done when there is nothing more urgent.
Later = Callable[[Callable[[], None]], None]


class DirectTransfers:
    """`POST /v1/wallet/balance_transfer` for who has the whole request; `heads` tells it from others."""

    def __init__(self, wallet: GuardedWallet, gate: Gate) -> None:
        self.wallet = wallet
        self.gate = gate
        self.heads = Heads()

    def __repr__(self) -> str:
        return f"<DirectTransfers {self.gate!r}>"

    def begin(self, head: Head, body: bytes, peer: Peer, asked: Asked, send: Send, later: Later) -> None:
        """Make the transfer that the body asks for; `send` is called once with the answer.

        Of a request that is refused, at once; of a transfer that was decided, when `later` does what it was given.
        """
        try:
            visit = self.gate.enter(TRANSFER, head.authorization, peer, asked)
        except Refused as refused:
            send(failure(refused, TRANSFER_PATH))
        else:
            _Transfer(visit, send, later).begin(self.wallet, body, head.idempotency_key)


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
