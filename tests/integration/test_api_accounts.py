"""`POST /v1/accounts`, `GET /v1/accounts/{id}`, and freeze, unfreeze and close, on a real cluster."""

import pytest
from support.owned import owned
from support.wallet_api import WalletApi, check_problem

OPENED = [
    ("USD", "0.00", "12.34", "12.34"),
    ("JPY", "0", "12", "12"),
    ("KWD", "0.000", "12.345", "12.345"),
    ("CLF", "0.0000", "12.3456", "12.3456"),
]


@pytest.mark.parametrize(("currency", "zero", "funds", "shown"), OPENED, ids=[row[0] for row in OPENED])
def test_opening_in_currencies_of_every_number_of_digits(
    api: WalletApi, currency: str, zero: str, funds: str, shown: str
) -> None:
    name = api.name(5)
    opened = api.open(name, currency)
    assert opened.status == 201
    assert opened.json() == {"account_id": name, "currency": currency, **owned(zero), "status": "active"}
    api.paid("@bank", name, funds, currency)
    again = api.open(name, currency)
    assert again.status == 200
    assert again.json() == {"account_id": name, "currency": currency, **owned(shown), "status": "active"}


def test_one_account_holds_several_currencies(api: WalletApi) -> None:
    name = api.account(0, "5.00", "USD")
    assert api.open(name, "KWD", "1.500").status == 201
    assert api.open(name, "JPY").status == 201
    assert api.get(f"/v1/accounts/{name}").json() == {
        "account_id": name,
        "status": "active",
        "balances": [
            {"currency": "JPY", **owned("0"), "overdraft_limit": "0"},
            {"currency": "KWD", **owned("0.000"), "overdraft_limit": "1.500"},
            {"currency": "USD", **owned("5.00"), "overdraft_limit": "0.00"},
        ],
    }


def test_opening_again_with_another_limit_is_a_conflict(api: WalletApi) -> None:
    name = api.name(1)
    assert api.open(name, overdraft_limit="10.00").status == 201
    assert api.open(name, overdraft_limit="10.00").status == 200
    assert api.open(name, overdraft_limit="10").status == 200
    assert api.open(name).status == 200  # a field that is not given is not compared
    check_problem(api.open(name, overdraft_limit="10.01"), 409, "idempotency_conflict")
    check_problem(api.open(name, overdraft_limit="0"), 409, "idempotency_conflict")
    assert api.get(f"/v1/accounts/{name}").json()["balances"][0]["overdraft_limit"] == "10.00"


def test_an_account_without_limit_has_limit_zero(api: WalletApi) -> None:
    name = api.account(2)
    assert api.open(name, overdraft_limit="0.00").status == 200
    check_problem(api.open(name, overdraft_limit="1.00"), 409, "idempotency_conflict")


def test_opening_and_showing_a_frozen_and_a_closed_account(api: WalletApi) -> None:
    name = api.account(3)
    assert api.flag(name, "freeze").json()["status"] == "frozen"
    again = api.open(name)
    assert (again.status, again.json()["status"]) == (200, "frozen")
    assert api.open(name, "EUR").status == 201  # no money moves: an account can be prepared while frozen
    assert api.flag(name, "close").json()["status"] == "closed"
    assert api.get(f"/v1/accounts/{name}").json()["status"] == "closed"
    check_problem(api.open(name, "GBP"), 422, "account_closed")


@pytest.mark.parametrize("action", ["freeze", "unfreeze", "close"])
def test_unknown_accounts(api: WalletApi, action: str) -> None:
    check_problem(api.flag(api.name(), action), 404, "account_not_found")
    check_problem(api.get(f"/v1/accounts/{api.name()}"), 404, "account_not_found")


def test_freeze_and_unfreeze_may_be_repeated(api: WalletApi) -> None:
    name = api.account(4, "1.00")
    for action, status in [
        ("unfreeze", "active"),
        ("freeze", "frozen"),
        ("freeze", "frozen"),
        ("unfreeze", "active"),
    ]:
        reply = api.flag(name, action)
        assert reply.status == 200
        assert reply.json() == {
            "account_id": name,
            "status": status,
            "balances": [{"currency": "USD", **owned("1.00"), "overdraft_limit": "0.00"}],
        }


def test_close_needs_every_balance_to_be_zero(api: WalletApi) -> None:
    name = api.account(6, "1.00")
    assert api.open(name, "EUR", "5.00").status == 201
    check_problem(api.flag(name, "close"), 422, "balance_not_zero")
    api.paid(name, "@bank", "1.00")
    api.paid(name, "@bank", "0.01", "EUR")
    check_problem(api.flag(name, "close"), 422, "balance_not_zero")  # a debt is not zero either
    api.paid("@bank", name, "0.01", "EUR")
    assert api.flag(name, "close").json()["status"] == "closed"
    assert api.flag(name, "close").status == 200
    check_problem(api.flag(name, "freeze"), 422, "account_closed")
    check_problem(api.flag(name, "unfreeze"), 422, "account_closed")
    assert api.get(f"/v1/accounts/{name}").json()["status"] == "closed"


def test_system_accounts_are_there_without_being_opened_and_cannot_be_changed(api: WalletApi) -> None:
    api.account(7, "1.00")
    document = api.get("/v1/accounts/@bank").json()
    assert (document["account_id"], document["status"]) == ("@bank", "active")
    check_problem(api.open("@bank"), 400, "invalid_request")
    for action in ("freeze", "unfreeze", "close"):
        check_problem(api.flag("@bank", action), 400, "invalid_request")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"currency": "USD"}, "invalid_request"),
        ({"account_id": "a b", "currency": "USD"}, "invalid_request"),
        ({"account_id": "x" * 65, "currency": "USD"}, "invalid_request"),
        ({"account_id": "ann", "currency": "usd"}, "invalid_currency"),
        ({"account_id": "ann", "currency": "JPY", "overdraft_limit": "1.0"}, "invalid_amount"),
        ({"account_id": "ann", "currency": "USD", "colour": "red"}, "invalid_request"),
    ],
)
def test_malformed_bodies(api: WalletApi, body: dict[str, str], code: str) -> None:
    check_problem(api.post("/v1/accounts", body), 400, code)
