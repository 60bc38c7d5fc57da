"""Measuring from outside: an ASGI layer around the application and a decorator of the wallet below it."""

import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.http.direct import DirectTransfers
from wallet_engine.http.request_metrics import RequestMetrics
from wallet_engine.service.api import (
    AccountView,
    BalanceView,
    Readiness,
    TransferAnswer,
    TransferCommand,
    Wallet,
)
from wallet_engine.telemetry.metrics import Metrics

#: Where the application leaves the template of the route that it took.
ROUTE_KEY: Final = "wallet.route"

#: Status counted for a client that hung up before it could be answered.
_STATUS_CLIENT_GONE: Final = 499


class ObservedApp:
    """Observes the requests to an ASGI application; those to `direct` are observed by itself."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics, direct: DirectTransfers) -> None:
        self._app = app
        self._metrics = metrics
        self.direct = direct

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = _STATUS_CLIENT_GONE

        async def observing_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, observing_send)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.ended(scope.get(ROUTE_KEY, "unmatched"), status, seconds)


class ObservedWallet:
    """Counts transfers by outcome; otherwise the wallet it wraps."""

    def __init__(self, wallet: Wallet, metrics: Metrics) -> None:
        self._wallet = wallet
        self._call_transfers = metrics.http_call_transfers
        names: dict[Any, str] = {Outcome.APPLIED.value: "success", **WIRE_CODES}
        self._counters = {str(outcome): metrics.transfers.labels(name) for outcome, name in names.items()}
        self._transfers = metrics.transfers

    def _count(self, outcome: str, transfers: int) -> None:
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = self._transfers.labels(outcome)
        counter.inc(transfers)

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        try:
            answer = await self._wallet.transfer(command)
        except Outage as outage:
            self._count(outage.code, 1)
            raise
        self._count(answer.outcome, 1)
        return answer

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        def counted(decision: TransferAnswer | Outage) -> None:
            self._count(decision.code if isinstance(decision, Outage) else decision.outcome, 1)
            answer(decision)

        self._wallet.begin_transfer(command, counted)

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        self._call_transfers.observe(len(commands))
        try:
            outcomes = await self._wallet.transfer_many(commands)
        except Outage as outage:
            self._count(outage.code, len(commands))
            raise
        for outcome, transfers in Tally(outcomes).items():
            self._count(outcome, transfers)
        return outcomes

    async def open_account(
        self, account_id: str, currency: str, overdraft_limit_minor: int | None
    ) -> tuple[str, AccountView | None]:
        return await self._wallet.open_account(account_id, currency, overdraft_limit_minor)

    async def account(self, account_id: str) -> AccountView | None:
        return await self._wallet.account(account_id)

    async def balance(self, account_id: str, currency: str) -> BalanceView | None:
        return await self._wallet.balance(account_id, currency)

    async def set_flags(self, account_id: str, action: str) -> tuple[str, AccountView | None]:
        return await self._wallet.set_flags(account_id, action)

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        return await self._wallet.find_transfer(from_account, transaction)

    def readiness(self) -> Readiness:
        return self._wallet.readiness()
