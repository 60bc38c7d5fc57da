"""Single transfers without ASGI: from the body of a request to its answer in plain calls.

The scope, the messages and the task that ASGI needs for each request were half of what the API spent on a single
transfer. What is not whole, or no ordinary request of this one kind, goes the general way (`application.py`) and
gets the same answers.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from wallet_engine.domain.errors import Outage
from wallet_engine.http.fastparse import parse_transfer
from wallet_engine.http.heads import TRANSFER_PATH, Heads
from wallet_engine.http.problems import Answer, failure, problem
from wallet_engine.http.request_metrics import RequestMetrics
from wallet_engine.http.transfers import transfer_answer
from wallet_engine.service.api import TransferAnswer, Wallet

OVERLOADED: Final = problem("overloaded", "too many requests are in flight")

Send = Callable[[Answer], None]
#: Takes what is to be done when there is nothing more urgent.
Later = Callable[[Callable[[], None]], None]


class Admission:
    """Bounds the requests under `/v1/` that were begun and not yet answered, whichever way they came (G10)."""

    __slots__ = ("in_flight", "in_flight_max")

    def __init__(self, in_flight_max: int) -> None:
        self.in_flight = 0
        self.in_flight_max = in_flight_max

    def __repr__(self) -> str:
        return f"<Admission in_flight={self.in_flight}>"

    @property
    def is_full(self) -> bool:
        return self.in_flight >= self.in_flight_max


class DirectTransfers:
    """`POST /v1/wallet/balance_transfer` for whoever has the whole request; `heads` tells it from others."""

    def __init__(self, wallet: Wallet, admission: Admission, metrics: RequestMetrics) -> None:
        self.wallet = wallet
        self.admission = admission
        self.metrics = metrics
        self.heads = Heads()

    def __repr__(self) -> str:
        return f"<DirectTransfers {self.admission!r}>"

    def begin(self, body: bytes, idempotency_key: str | None, send: Send, later: Later) -> None:
        """Make the transfer that the body asks for; `send` is called once with the answer.

        Of a request that is refused, at once; of a transfer that was decided, when `later` does what it was given.
        """
        _Request(self, send, later).begin(body, idempotency_key)


class _Request:
    """One request until it is answered."""

    __slots__ = ("_app", "_began_s", "_later", "_send", "_transaction_id")

    def __init__(self, app: DirectTransfers, send: Send, later: Later) -> None:
        self._app = app
        self._began_s = time.perf_counter()
        self._send: Send | None = send
        self._later = later
        self._transaction_id: str | None = None

    def begin(self, body: bytes, idempotency_key: str | None) -> None:
        app = self._app
        app.metrics.in_flight += 1
        full = app.admission.is_full
        app.admission.in_flight += 1
        if full:
            self._answer(OVERLOADED)
            return
        try:
            command, self._transaction_id = parse_transfer(body, idempotency_key)
            app.wallet.begin_transfer(command, self._decided)
        except Exception as error:
            self._answer(failure(error, TRANSFER_PATH, self._transaction_id))

    def _decided(self, decision: TransferAnswer | Outage) -> None:
        self._later(partial(self._tell, decision))

    def _tell(self, decision: TransferAnswer | Outage) -> None:
        try:
            if isinstance(decision, Outage):
                raise decision
            answer = transfer_answer(decision, self._transaction_id or "")
        except Exception as error:
            answer = failure(error, TRANSFER_PATH, self._transaction_id)
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        send, self._send = self._send, None
        if send is None:
            return
        app = self._app
        app.admission.in_flight -= 1
        send(answer)
        app.metrics.ended(TRANSFER_PATH, answer.status, time.perf_counter() - self._began_s)
