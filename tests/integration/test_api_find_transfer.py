"""`GET /v1/transfers/{transaction_id}` and the other reads of the contract, on a real cluster."""

import pytest
from support.wallet_api import WalletApi, check_problem, new_id

ROUTES = pytest.mark.parametrize(("p", "q"), [(7, 7), (7, 1)], ids=["same-partition", "across-shards"])


@ROUTES
def test_an_answered_transfer_is_never_pending(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, "1.00"), api.account(q)
    for _ in range(30):
        transaction_id = new_id()
        api.paid(sender, receiver, "0.01", transaction_id=transaction_id)
        reply = api.find(sender, transaction_id)
        assert (reply.status, reply.json()) == (200, {"transaction_id": transaction_id, "status": "success"})


@ROUTES
def test_a_declined_transfer_says_why(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, "1.00"), api.account(q)
    for to_account, amount, code in [
        (receiver, "1.01", "insufficient_funds"),
        (api.name(q), "1.00", "account_not_found"),
    ]:
        transaction_id = new_id()
        api.pay(sender, to_account, amount, transaction_id=transaction_id)
        found = api.find(sender, transaction_id).json()
        assert found == {"transaction_id": transaction_id, "status": "declined", "code": code}


@ROUTES
def test_a_transfer_is_found_by_its_sender_only(api: WalletApi, p: int, q: int) -> None:
    sender, receiver, transaction_id = api.account(p, "1.00"), api.account(q), new_id()
    api.paid(sender, receiver, "0.01", transaction_id=transaction_id)
    for stranger in (receiver, api.name(p), "@bank"):
        reply = api.find(stranger, transaction_id)
        check_problem(reply, 404, "transfer_not_found", transaction_id=transaction_id)
    unknown = new_id()
    check_problem(api.find(sender, unknown), 404, "transfer_not_found", transaction_id=unknown)
    upper = api.find(sender, transaction_id.upper())
    assert upper.json() == {"transaction_id": transaction_id, "status": "success"}


def test_a_transfer_of_the_bank_is_found(api: WalletApi) -> None:
    for partition in range(0, 16, 5):
        receiver, transaction_id = api.account(partition), new_id()
        api.paid("@bank", receiver, "1.00", transaction_id=transaction_id)
        assert api.find("@bank", transaction_id).json()["status"] == "success"
        declined = new_id()
        api.pay("@bank", api.name(partition), "1.00", transaction_id=declined)
        assert api.find("@bank", declined).json()["code"] == "account_not_found"


def test_malformed_questions(api: WalletApi) -> None:
    transaction_id = new_id()
    reply = api.get(f"/v1/transfers/{transaction_id}")
    assert (reply.status, reply.json()["code"]) == (400, "invalid_request")
    assert api.get("/v1/transfers/7?from_account=ann").json()["code"] == "invalid_request"
    assert api.find("a%20b", transaction_id).json()["code"] == "invalid_request"


def test_probes_and_unknown_paths(api: WalletApi) -> None:
    assert api.get("/healthz").status == 200
    assert api.get("/readyz").status == 200
    assert api.get("/openapi.json").json()["openapi"].startswith("3.")
    assert b"# TYPE" in api.get("/metrics").body
    for path in ("/", "/v1", "/v1/transfer", "/v2/accounts"):
        check_problem(api.get(path), 404, "not_found")
    for method, path in [("GET", "/v1/accounts"), ("DELETE", "/v1/accounts/ann"), ("POST", "/healthz")]:
        check_problem(api.request(method, path), 405, "method_not_allowed")


@ROUTES
def test_what_the_caller_noted_is_shown(api: WalletApi, p: int, q: int) -> None:
    """Reference and metadata are only in the journal, and are found there for paid and for declined transfers."""
    sender, receiver = api.account(p, "5.00"), api.account(q)
    noted = {"reference": "rent, März ✓", "metadata": {"invoice": "7"}}
    for amount, rest in (
        ("1.00", {"status": "success"}),
        ("9.00", {"status": "declined", "code": "insufficient_funds"}),
    ):
        body = {"from_account": sender, "to_account": receiver, "amount": amount, "currency": "USD"}
        body |= {"transaction_id": new_id()} | noted
        api.post("/v1/wallet/balance_transfer", body)
        found = api.find(sender, body["transaction_id"]).json()
        assert found == {"transaction_id": body["transaction_id"], **rest, **noted}


@ROUTES
def test_of_a_group_each_leg_shows_its_own_reference(api: WalletApi, p: int, q: int) -> None:
    payer, first, second = api.account(p, "5.00"), api.account(q), api.account(p)
    legs = [
        {"from_account": payer, "to_account": first, "amount": "1.00", "currency": "USD"},
        {"from_account": payer, "to_account": second, "amount": "2.00", "currency": "USD", "reference": "b"},
    ]
    body = {"transaction_id": new_id(), "reference": "both", "legs": legs}
    assert api.post("/v1/transfers/group", body).status == 200
    found = api.find(payer, body["transaction_id"]).json()
    assert found == {**body, "status": "success"}
