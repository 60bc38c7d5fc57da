"""Account limits on a real cluster: the most that an account may have, may owe, and the least that it must keep."""

from typing import Any

import pytest
from support.http_client import Reply
from support.wallet_api import WalletApi, check_problem, new_id, transfer_body

ROUTES = pytest.mark.parametrize(
    ("p", "q"), [(3, 3), (0, 1), (2, 14)], ids=["same-partition", "same-shard", "across-shards"]
)


def patch(api: WalletApi, account: str, **body: Any) -> Reply:
    return api.patch(f"/v1/accounts/{account}", body)


def opened(api: WalletApi, partition: int, **more: Any) -> str:
    name = api.name(partition)
    reply = api.post("/v1/accounts", {"account_id": name, "currency": "USD", **more})
    assert reply.status == 201, reply
    return name


@ROUTES
def test_a_receiver_has_no_more_than_it_may(api: WalletApi, p: int, q: int) -> None:
    """G1: a payment above the limit is declined and returned to its payer; the receiver's own payments make room."""
    payer, receiver = (
        api.account(p, "100.00"),
        opened(api, q, max_balance="10.00", metadata={"tier": "basic"}),
    )
    api.paid(payer, receiver, "9.00")
    for _ in range(2):
        transaction_id = new_id()
        refused = api.pay(payer, receiver, "1.01", transaction_id=transaction_id)
        check_problem(refused, 422, "balance_limit", transaction_id=transaction_id)
    api.paid(payer, receiver, "1.00")
    assert (api.balance(payer), api.balance(receiver)) == ("90.00", "10.00")
    hold = {"account_id": receiver, "amount": "4.00", "currency": "USD", "transaction_id": new_id()}
    assert api.post("/v1/holds", hold).status == 201
    assert api.pay(payer, receiver, "0.01").json()["code"] == "balance_limit", "what is held is its own"
    api.paid(receiver, payer, "6.00")
    api.paid(payer, receiver, "6.00")
    results = api.batch([transfer_body(payer, receiver, "0.01", new_id())] * 2).json()["results"]
    assert {result["code"] for result in results} == {"balance_limit"}
    shown = api.get(f"/v1/accounts/{receiver}").json()["balances"][0]
    assert (shown["max_balance"], shown["balance"], shown["held"]) == ("10.00", "10.00", "4.00")
    assert "max_balance" not in api.get(f"/v1/accounts/{payer}").json()["balances"][0]


def test_opening_again_asks_for_the_same(api: WalletApi) -> None:
    account = opened(api, 5, max_balance="10.00")
    body = {"account_id": account, "currency": "USD"}
    assert api.post("/v1/accounts", body | {"max_balance": "10.00"}).status == 200
    assert api.post("/v1/accounts", body).json()["max_balance"] == "10.00"
    check_problem(api.post("/v1/accounts", body | {"max_balance": "10.01"}), 409, "idempotency_conflict")


@ROUTES
def test_limits_change_and_stop_only_what_is_new(api: WalletApi, p: int, q: int) -> None:
    account, other = api.account(p, "5.00", overdraft="20.00"), api.account(q, "50.00")
    api.paid(account, other, "20.00")
    changed = patch(
        api, account, currency="USD", overdraft_limit="10.00", max_balance="-0".replace("-0", "0")
    )
    assert (changed.status, changed.json()["balances"][0]["overdraft_limit"]) == (200, "10.00"), changed
    assert changed.json()["balances"][0]["balance"] == "-15.00"
    assert api.pay(account, other, "0.01").json()["code"] == "insufficient_funds"
    api.paid(other, account, "14.00")
    assert api.pay(other, account, "1.01").json()["code"] == "balance_limit"
    assert patch(api, account, max_balance="90.00", overdraft_limit="30.00").status == 200
    api.paid(other, account, "1.01")
    api.paid(account, other, "30.00")
    assert api.balance(account) == "-29.99"
    assert patch(api, account, metadata={"tier": "gold"}).json() == api.get(f"/v1/accounts/{account}").json()


def metadata_of(api: WalletApi, account: str) -> dict[str, str] | None:
    found: dict[str, str] | None = api.get(f"/v1/accounts/{account}").json().get("metadata")
    return found


def test_metadata_are_shown_and_replaced_as_a_whole(api: WalletApi) -> None:
    body = {"account_id": api.name(3), "currency": "USD", "metadata": {"tier": "tin", "region": "Zürich"}}
    account, url = body["account_id"], "/v1/accounts"
    assert api.post(url, body).json()["metadata"] == body["metadata"]
    assert metadata_of(api, account) == body["metadata"]
    assert api.post(url, body).json()["metadata"] == body["metadata"], "repeated"
    assert api.post(url, body | {"metadata": None}).status == 200
    check_problem(api.post(url, body | {"metadata": {"tier": "gold"}}), 409, "idempotency_conflict")
    changed = patch(api, account, metadata={"tier": "gold"})
    assert (changed.json()["metadata"], metadata_of(api, account)) == ({"tier": "gold"}, {"tier": "gold"})
    assert api.flag(account, "freeze").json()["metadata"] == {"tier": "gold"}
    for nothing in ({}, None):
        assert patch(api, account, metadata={"tier": "tin"}).status == 200
        assert "metadata" not in patch(api, account, metadata=nothing).json()
        assert metadata_of(api, account) is None
    assert metadata_of(api, api.account(3)) is None


def test_null_takes_a_limit_back(api: WalletApi) -> None:
    account = opened(api, 6, max_balance="10.00", overdraft_limit="5.00")
    assert api.pay("@bank", account, "10.01").json()["code"] == "balance_limit"
    shown = patch(api, account, max_balance=None).json()["balances"][0]
    assert ("max_balance" in shown, shown["overdraft_limit"]) == (False, "5.00")
    api.paid("@bank", account, "10.01")
    assert patch(api, account, overdraft_limit=None).json()["balances"][0]["overdraft_limit"] == "0.00"
    assert api.pay(account, "@bank", "10.02").json()["code"] == "insufficient_funds"
    assert patch(api, account, max_balance=None, overdraft_limit=None).status == 200, "there are none"
    plain = api.account(7, "1.00")
    assert patch(api, plain, max_balance=None).json() == api.get(f"/v1/accounts/{plain}").json()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"currency": "USD"}, "invalid_request"),
        ({"max_balance": "1.001"}, "invalid_amount"),
        ({"max_balance": 1}, "invalid_amount"),
        ({"overdraft_limit": "-1.00"}, "invalid_amount"),
        ({"currency": "usd", "max_balance": "1.00"}, "invalid_currency"),
        ({"metadata": {"A": "b"}}, "invalid_request"),
        ({"status": "frozen"}, "invalid_request"),
    ],
)
def test_malformed_changes_change_nothing(api: WalletApi, body: dict[str, Any], code: str) -> None:
    account = api.account(0, "1.00")
    before = api.get(f"/v1/accounts/{account}").json()
    check_problem(patch(api, account, **body), 400, code)
    assert api.get(f"/v1/accounts/{account}").json() == before


def test_accounts_that_cannot_change(api: WalletApi) -> None:
    nobody, closed, several = api.name(1), api.account(1), api.account(1)
    for body in ({"max_balance": "1.00"}, {"max_balance": "1.00", "currency": "USD"}):
        check_problem(patch(api, nobody, **body), 404, "account_not_found")
    check_problem(patch(api, several, max_balance="1.00", currency="EUR"), 404, "account_not_found")
    assert api.flag(closed, "close").status == 200
    check_problem(patch(api, closed, max_balance="1.00"), 422, "account_closed")
    check_problem(patch(api, "@bank", max_balance="1.00"), 400, "invalid_request")
    api.open(several, "JPY")
    check_problem(patch(api, several, max_balance="1"), 400, "invalid_request")
    shown = {
        b["currency"]: b for b in patch(api, several, max_balance="7", currency="JPY").json()["balances"]
    }
    assert shown["JPY"]["max_balance"] == "7"
    assert "max_balance" not in shown["USD"]


@ROUTES
def test_what_must_be_left(api: WalletApi, p: int, q: int) -> None:
    payer, receiver = api.account(p, "10.00"), api.account(q)
    body = transfer_body(payer, receiver, "4.00", new_id())
    declined = api.post("/v1/wallet/balance_transfer", body | {"min_balance_after": "6.01"})
    check_problem(declined, 422, "insufficient_funds", transaction_id=body["transaction_id"])
    body["transaction_id"] = new_id()
    assert api.post("/v1/wallet/balance_transfer", body | {"min_balance_after": "6.00"}).status == 200
