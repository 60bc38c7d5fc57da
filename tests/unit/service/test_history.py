"""Who may read the past: payers what is theirs, auditors all of it."""

import asyncio
from typing import Any

import pytest

from wallet_engine.domain.errors import Forbidden
from wallet_engine.history.reader import AsOf, Listing, Page
from wallet_engine.routing.api_keys import ApiKey
from wallet_engine.service.history import GuardedHistory
from wallet_engine.service.policy import Principal


class Reader:
    """Has two transfers, one of them of others."""

    async def transactions(self, asked: Listing, positions: Any) -> Page:
        return Page([], False, AsOf(0))

    async def transfers(self, *asked: Any) -> Page:
        rows = [{"payer": "shop-1", "receiver": "bob"}, {"payer": "ann", "receiver": "bob"}]
        return Page(rows, False, AsOf(0))


def who(role: str, *accounts: str) -> Principal:
    return Principal(ApiKey(id="k", name="k", role=role, accounts=accounts), ())


def transactions_of(by: Principal, account: str) -> Any:
    return asyncio.run(GuardedHistory(Reader()).transactions(by, Listing(account), []))  # type: ignore[arg-type]


def test_a_payer_reads_the_accounts_of_its_patterns() -> None:
    assert transactions_of(who("payer", "shop-*"), "shop-1") is not None
    for by in (who("payer", "shop-*"), who("metrics"), who("bank")):
        with pytest.raises(Forbidden):
            transactions_of(by, "ann")
    assert transactions_of(who("auditor"), "ann") is not None


def test_of_a_reference_each_sees_what_touches_its_accounts() -> None:
    def seen(by: Principal) -> list[str]:
        found = GuardedHistory(Reader()).transfers(by, "r", (None, None), 50, None, [])  # type: ignore[arg-type]
        return [row["payer"] for row in asyncio.run(found)[1]]

    assert seen(who("payer", "shop-*")) == ["shop-1"]
    assert seen(who("auditor")) == ["shop-1", "ann"]
    with pytest.raises(Forbidden):
        seen(who("metrics"))
