"""Counts transfers in a decorator of the wallet, below the handlers."""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Any

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.group_commands import GroupAnswer, GroupCommand, GroupView
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import Hold
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import WIRE_CODES, Outcome
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.service.api import (
    OF_RECEIVER,
    AccountView,
    BalanceView,
    HoldAnswer,
    LimitsCommand,
    Readiness,
    RefundAnswer,
    TransferAnswer,
    TransferCommand,
    Wallet,
)
from wallet_engine.telemetry.metrics import Metrics


class ObservedWallet:
    """Counts transfers by outcome, and passes every call on to the wallet that it wraps."""

    def __init__(self, wallet: Wallet, metrics: Metrics) -> None:
        self._wallet = wallet
        self._call_transfers = metrics.http_call_transfers.labels()
        names: dict[Any, str] = {Outcome.APPLIED.value: "success", **WIRE_CODES}
        self._counters = {str(outcome): metrics.transfers.labels(name) for outcome, name in names.items()}
        self._transfers = metrics.transfers
        self._refunds = metrics.refunds
        self._groups, self._group_legs, self._names = metrics.groups, metrics.group_legs, names

    def _count(self, outcome: str, transfers: int) -> None:
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = self._transfers.labels(outcome.partition(OF_RECEIVER)[0])
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
        self,
        account_id: str,
        currency: str,
        overdraft_limit_minor: int | None,
        by: str = "",
        max_balance_minor: int | None = None,
        note: str = "",
    ) -> tuple[str, AccountView | None]:
        limits = (overdraft_limit_minor, by, max_balance_minor, note)
        return await self._wallet.open_account(account_id, currency, *limits)

    async def set_limits(self, command: LimitsCommand, by: str = "") -> tuple[str, AccountView | None]:
        return await self._wallet.set_limits(command, by)

    async def account(self, account_id: str) -> AccountView | None:
        return await self._wallet.account(account_id)

    async def balance(self, account_id: str, currency: str) -> BalanceView | None:
        return await self._wallet.balance(account_id, currency)

    async def set_flags(self, account_id: str, action: str, by: str = "") -> tuple[str, AccountView | None]:
        return await self._wallet.set_flags(account_id, action, by)

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        return await self._wallet.find_transfer(from_account, transaction)

    async def transfer_group(self, command: GroupCommand) -> GroupAnswer:
        self._group_legs.observe(len(command.transfers))
        try:
            answer = await self._wallet.transfer_group(command)
        except Outage as outage:
            self._groups.labels(outage.code).inc()
            raise
        self._groups.labels(self._names[answer.outcome]).inc()
        return answer

    async def find_group(self, from_account: str, transaction: str) -> GroupView | None:
        return await self._wallet.find_group(from_account, transaction)

    async def place_hold(self, command: HoldCommand) -> HoldAnswer:
        return await self._wallet.place_hold(command)

    async def increase_hold(self, command: IncreaseCommand) -> HoldAnswer:
        return await self._wallet.increase_hold(command)

    async def capture_hold(self, command: CaptureCommand) -> HoldAnswer:
        return await self._wallet.capture_hold(command)

    async def void_hold(self, account_id: str, hold: str, by: str = "") -> HoldAnswer:
        return await self._wallet.void_hold(account_id, hold, by)

    async def hold(self, account_id: str, hold: str) -> Hold | None:
        return await self._wallet.hold(account_id, hold)

    async def original(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        found = await self._wallet.original(from_account, transaction, leg)
        if isinstance(found, str):
            self._refunds.labels(found).inc()
        return found

    async def refund(self, command: RefundCommand, original: Original) -> RefundAnswer:
        try:
            answer = await self._wallet.refund(command, original)
        except Outage as outage:
            self._refunds.labels(outage.code).inc()
            raise
        self._refunds.labels(answer.code or "success").inc()
        return answer

    async def request_of(self, from_account: str, transaction: str) -> Operation | None:
        return await self._wallet.request_of(from_account, transaction)

    def readiness(self) -> Readiness:
        return self._wallet.readiness()
