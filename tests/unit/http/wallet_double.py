"""A wallet with scripted answers, which records its calls, for tests of HTTP alone."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from starlette.types import ASGIApp

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.hold_commands import CaptureCommand, HoldCommand, IncreaseCommand
from wallet_engine.domain.holds import Hold
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.refund_command import Original, RefundCommand
from wallet_engine.service.api import (
    AccountView,
    BalanceView,
    CurrencyBalance,
    GroupAnswer,
    GroupCommand,
    GroupView,
    HoldAnswer,
    LimitsCommand,
    Money,
    Readiness,
    RefundAnswer,
    TransferAnswer,
    TransferCommand,
)

ALICE = AccountView(
    "alice", "active", (CurrencyBalance("JPY", Money(7), 0), CurrencyBalance("USD", Money(-1234), 5000))
)


HOLD = Hold("O", "alice", "-", "USD", 400, 100, 50, 1, 1_700_000_000_000, "AAAAAA", "5.0", "-", "rent")


class WalletDouble:
    """A method returns `answers[method]`, or raises it when it is an exception. `calls` has (method, arguments)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, Any] = {
            "open_account": ("+", ALICE),
            "account": ALICE,
            "balance": BalanceView(Money(-1234), 3, 99),
            "set_flags": ("+", ALICE),
            "set_limits": ("+", ALICE),
            "transfer": TransferAnswer("+", False),
            "transfer_many": None,
            "find_transfer": "+",
            "transfer_group": GroupAnswer("+"),
            "find_group": None,
            "place_hold": HoldAnswer("+", False, HOLD),
            "increase_hold": HoldAnswer("+", False, HOLD),
            "capture_hold": HoldAnswer("+", False, HOLD),
            "void_hold": HoldAnswer("+", False, HOLD),
            "hold": HOLD,
            "refund": RefundAnswer("", False, 150, 250, "USD"),
            "request_of": None,
        }
        self.ready = Readiness("ready", "ok")

    def _answer(self, method: str, *arguments: Any) -> Any:
        self.calls.append((method, arguments))
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def open_account(
        self,
        account_id: str,
        currency: str,
        overdraft_limit_minor: int | None,
        by: str = "",
        max_balance_minor: int | None = None,
        note: str = "",
    ) -> tuple[str, AccountView | None]:
        more = () if max_balance_minor is None and not note else (max_balance_minor, note)
        return self._answer("open_account", account_id, currency, overdraft_limit_minor, *more)

    async def set_limits(self, command: LimitsCommand, by: str = "") -> tuple[str, AccountView | None]:
        return self._answer("set_limits", command)

    async def account(self, account_id: str) -> AccountView | None:
        return self._answer("account", account_id)

    async def balance(self, account_id: str, currency: str) -> BalanceView | None:
        return self._answer("balance", account_id, currency)

    async def set_flags(self, account_id: str, action: str, by: str = "") -> tuple[str, AccountView | None]:
        return self._answer("set_flags", account_id, action)

    async def transfer(self, command: TransferCommand) -> TransferAnswer:
        return self._answer("transfer", command)

    def begin_transfer(
        self, command: TransferCommand, answer: Callable[[TransferAnswer | Outage], None]
    ) -> None:
        try:
            answer(self._answer("transfer", command))
        except Outage as outage:
            answer(outage)

    async def transfer_many(self, commands: Sequence[TransferCommand]) -> list[str]:
        answer = self._answer("transfer_many", list(commands))
        return ["+"] * len(commands) if answer is None else answer

    async def find_transfer(self, from_account: str, transaction: str) -> str | None:
        return self._answer("find_transfer", from_account, transaction)

    async def transfer_group(self, command: GroupCommand) -> GroupAnswer:
        return self._answer("transfer_group", command)

    async def find_group(self, from_account: str, transaction: str) -> GroupView | None:
        return self._answer("find_group", from_account, transaction)

    async def place_hold(self, command: HoldCommand) -> HoldAnswer:
        return self._answer("place_hold", command)

    async def increase_hold(self, command: IncreaseCommand) -> HoldAnswer:
        return self._answer("increase_hold", command)

    async def capture_hold(self, command: CaptureCommand) -> HoldAnswer:
        return self._answer("capture_hold", command)

    async def void_hold(self, account_id: str, hold: str, by: str = "") -> HoldAnswer:
        return self._answer("void_hold", account_id, hold)

    async def hold(self, account_id: str, hold: str) -> Hold | None:
        return self._answer("hold", account_id, hold)

    async def original(self, from_account: str, transaction: str, leg: int | None) -> Original | str:
        """The original of a refund; not recorded, since it only decides about rights.

        By default a transfer between shop-1 and the other account.
        """
        if "original" in self.answers:
            return self.answers["original"]
        receiver = "u-1" if from_account == "shop-1" else "shop-1"
        return Original(from_account, "F", receiver, 400, "USD", 1, 2, 3, 4, "c", 0)

    async def refund(self, command: RefundCommand, original: Original) -> RefundAnswer:
        return self._answer("refund", command, original)

    async def request_of(self, from_account: str, transaction: str) -> Operation | None:
        return self._answer("request_of", from_account, transaction)

    def readiness(self) -> Readiness:
        return self.ready


def call(app: ASGIApp, method: str, path: str, **request: Any) -> httpx.Response:
    """Send one request to the application, without a network."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
        async with httpx.AsyncClient(transport=transport, base_url="http://wallet") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check the properties that all problems have, and return the body."""
    body = response.json()
    assert (response.status_code, body["code"], body["status"]) == (status, code, status), body
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "retryable"} <= body.keys()
    assert body["type"]
    assert body["title"]
    assert body["detail"]
    assert body["retryable"] is (status >= 500 and status != 501)
    assert ("retry-after" in response.headers) is (status == 503)
    return body
