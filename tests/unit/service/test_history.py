"""Rights to read the history: payers for their accounts, auditors for all."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from wallet_engine.domain.errors import Forbidden
from wallet_engine.history.listing import Listing
from wallet_engine.history.reader import AsOf, Page, Position
from wallet_engine.routing.api_keys import ApiKey
from wallet_engine.service.history import GuardedHistory
from wallet_engine.service.policy import Principal


class Reader:
    """A reader with two transfers, one of them between other accounts."""

    async def transactions(self, asked: Listing, positions: Any) -> Page:
        return Page([], False, AsOf(0))

    async def balance_at(self, *asked: Any) -> tuple[list[Any], AsOf]:
        return [], AsOf(0)

    @asynccontextmanager
    async def statement(self, *asked: Any) -> AsyncIterator[None]:
        yield None

    async def holds(self, *asked: Any) -> Page:
        return Page([], False, AsOf(0))

    async def transfers(self, *asked: Any) -> Page:
        rows = [{"payer": "shop-1", "receiver": "bob"}, {"payer": "ann", "receiver": "bob"}]
        accounts = re.compile(asked[-1] or ".*")
        seen = [row for row in rows if any(map(accounts.fullmatch, row.values()))]
        return Page(seen, False, AsOf(0))


class Late(Reader):
    """Knows the account from entry 7 of partition 3 on; one that waits for it has it."""

    async def transactions(self, asked: Listing, positions: Any) -> Any:
        return await super().transactions(asked, positions) if positions == [Position(3, 7)] else None

    @asynccontextmanager
    async def statement(self, *asked: Any) -> AsyncIterator[Any]:
        yield "found" if asked[-1] == [Position(3, 7)] else None

    async def holds(self, *asked: Any) -> Any:
        return await super().holds(*asked) if asked[-1] == [Position(3, 7)] else None


async def open_in_usd(account: str, currency: str | None) -> tuple[int, int] | None:
    return (3, 7) if account == "ann" and currency in (None, "USD") else None


def who(role: str, *accounts: str) -> Principal:
    return Principal(ApiKey(id="k", name="k", role=role, accounts=accounts), ())


async def asked(what: str, by: Principal, account: str) -> None:
    past = GuardedHistory(Reader(), open_in_usd)  # type: ignore[arg-type]
    match what:
        case "transactions":
            await past.transactions(by, Listing(account), [])
        case "balance":
            await past.balance_at(by, account, "USD", 0, [])
        case "statement":
            async with past.statement(by, account, "USD", (None, None), []):
                pass
        case "holds":
            await past.holds(by, account, None, 50, None, [])


@pytest.mark.parametrize("what", ["transactions", "balance", "statement", "holds"])
def test_a_payer_reads_the_accounts_of_its_patterns(what: str) -> None:
    asyncio.run(asked(what, who("payer", "shop-*"), "shop-1"))
    for by in (who("payer", "shop-*"), who("metrics"), who("bank")):
        with pytest.raises(Forbidden):
            asyncio.run(asked(what, by, "ann"))
    asyncio.run(asked(what, who("auditor"), "ann"))


def test_of_a_reference_each_sees_what_touches_its_accounts() -> None:
    def seen(by: Principal) -> list[str]:
        past = GuardedHistory(Reader(), open_in_usd)  # type: ignore[arg-type]
        found = past.transfers(by, "r", (None, None), 50, None, [])
        return [row["payer"] for row in asyncio.run(found).rows]

    assert seen(who("payer", "shop-*")) == ["shop-1"]
    assert seen(who("auditor")) == ["shop-1", "ann"]
    with pytest.raises(Forbidden):
        seen(who("metrics"))


def test_g14_an_account_that_the_history_does_not_know_yet_is_waited_for() -> None:
    """The history said that it was never opened."""

    async def scenario() -> None:
        past, by = GuardedHistory(Late(), open_in_usd), who("auditor")  # type: ignore[arg-type]
        for account, currency, is_open in (
            ("ann", "USD", True),
            ("ann", "EUR", False),
            ("bob", "USD", False),
        ):
            async with past.statement(by, account, currency, (None, None), []) as statement:
                assert (statement is not None) == is_open
            is_there = account == "ann"
            assert (await past.transactions(by, Listing(account), []) is not None) == is_there
            assert (await past.holds(by, account, None, 50, None, []) is not None) == is_there

    asyncio.run(scenario())
