"""`GET /v1/accounts/{id}/balance` on a real cluster: digits, partition, seq, and the stripes of system accounts."""

import pytest
from support.owned import owned
from support.wallet_api import WalletApi, check_problem


@pytest.mark.parametrize("partition", range(16))
def test_a_balance_names_its_partition_and_entry(api: WalletApi, partition: int) -> None:
    name = api.account(partition, "3.21")
    reply = api.get(f"/v1/accounts/{name}/balance?currency=USD")
    document = reply.json()
    seq = document.pop("seq")
    assert document == {"account_id": name, "currency": "USD", **owned("3.21"), "partition": partition}
    assert seq >= 2  # opened, funded
    api.paid(name, "@bank", "0.01")
    after = api.get(f"/v1/accounts/{name}/balance?currency=USD").json()
    assert (after["balance"], after["seq"] > seq) == ("3.20", True)


@pytest.mark.parametrize(
    ("currency", "funds", "shown"),
    [("JPY", "7", "7"), ("KWD", "0.5", "0.500"), ("USD", "1000000", "1000000.00")],
)
def test_a_balance_has_all_digits_of_its_currency(
    api: WalletApi, currency: str, funds: str, shown: str
) -> None:
    assert api.balance(api.account(8, funds, currency), currency) == shown


def test_a_debt_is_negative(api: WalletApi) -> None:
    name = api.account(9, overdraft="1.00")
    api.paid(name, "@bank", "0.05")
    assert api.balance(name) == "-0.05"


def test_an_account_without_this_currency_is_not_found(api: WalletApi) -> None:
    name = api.account(10)
    check_problem(api.get(f"/v1/accounts/{name}/balance?currency=EUR"), 404, "account_not_found")
    check_problem(api.get(f"/v1/accounts/{api.name()}/balance?currency=USD"), 404, "account_not_found")


def test_a_frozen_account_can_be_read(api: WalletApi) -> None:
    name = api.account(11, "2.00")
    api.flag(name, "freeze")
    assert api.balance(name) == "2.00"


def test_g2_a_system_account_is_the_sum_of_its_stripes(api: WalletApi) -> None:
    """G2: `@bank` is owed what all accounts of a currency have; its balance is the sum over many partitions."""
    currency = "BHD"  # used by this test alone
    names = [api.account(partition, "1.001", currency) for partition in range(0, 16, 3)]
    reply = api.get(f"/v1/accounts/@bank/balance?currency={currency}").json()
    assert reply["balance"] == f"-{len(names)}.00{len(names)}"
    assert (reply["partition"], reply["seq"]) == (None, None)
    api.paid(names[0], "@fees", "0.500", currency)
    api.paid(names[1], "@fees", "0.250", currency)
    assert api.balance("@fees", currency) == "0.750"
    assert api.balance("@transit", currency) == "0.000"
    balances = {b["currency"]: b["balance"] for b in api.get("/v1/accounts/@fees").json()["balances"]}
    assert balances[currency] == "0.750"


def test_malformed_questions(api: WalletApi) -> None:
    name = api.account(12)
    check_problem(api.get(f"/v1/accounts/{name}/balance"), 400, "invalid_request")
    check_problem(api.get(f"/v1/accounts/{name}/balance?currency=XXX"), 400, "invalid_currency")
    check_problem(api.get("/v1/accounts/a%20b/balance?currency=USD"), 400, "invalid_request")
