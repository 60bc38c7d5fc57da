"""A refusal says which of the two accounts is the cause, for every payment with payer and receiver, repeats too."""

from typing import Any

import pytest
from support.wallet_api import WalletApi, new_id

ROUTES = pytest.mark.parametrize(("p", "q"), [(3, 3), (2, 14)], ids=["same-partition", "across-shards"])


def detail_of(api: WalletApi, path: str, body: dict[str, Any], code: str) -> str:
    """The detail of a refusal, which must be the same when the request is repeated."""
    first, again = (api.post(path, body).json() for _ in range(2))
    assert (first["code"], first) == (code, again)
    return str(first["detail"])


@ROUTES
def test_of_a_group(api: WalletApi, p: int, q: int) -> None:
    payer, receiver = api.account(p, "5.00"), api.account(q, "5.00")
    api.flag(receiver, "freeze")
    for sides, said in (
        ((payer, receiver), "the receiver's account is frozen"),
        ((receiver, payer), "the payer's"),
    ):
        leg = {"from_account": sides[0], "to_account": sides[1], "amount": "1.00", "currency": "USD"}
        body = {"transaction_id": new_id(), "legs": [leg]}
        assert said in detail_of(api, "/v1/transfers/group", body, "account_frozen")


@ROUTES
def test_of_a_capture(api: WalletApi, p: int, q: int) -> None:
    payer, receiver = api.account(p, "5.00"), api.account(q)
    hold_id = new_id()
    placed = {
        "account_id": payer,
        "amount": "2.00",
        "currency": "USD",
        "expires_in_s": 600,
        "transaction_id": hold_id,
    }
    assert api.post("/v1/holds", placed).status == 201
    for account, said in (
        (receiver, "the receiver's account is frozen"),
        (payer, "the payer's account is frozen"),
    ):
        api.flag(account, "freeze")
        body = {"account_id": payer, "to_account": receiver, "transaction_id": new_id()}
        assert detail_of(api, f"/v1/holds/{hold_id}/capture", body, "account_frozen") == said
        api.flag(account, "unfreeze")


@ROUTES
def test_of_a_refund(api: WalletApi, p: int, q: int) -> None:
    payer, receiver = api.account(p, "5.00"), api.account(q)
    original = new_id()
    api.paid(payer, receiver, "2.00", transaction_id=original)
    for account, said in ((receiver, "that received the transfer"), (payer, "that paid the transfer")):
        api.flag(account, "freeze")
        body = {"from_account": payer, "transaction_id": new_id()}
        assert said in detail_of(api, f"/v1/transfers/{original}/refunds", body, "account_frozen")
        api.flag(account, "unfreeze")
