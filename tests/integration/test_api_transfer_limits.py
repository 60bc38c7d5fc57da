"""G3 and G12 through HTTP: spending to the exact limit, and money to the last unit that can be held exactly.

Every test has a currency of its own, so that it knows the balances of the system accounts.
"""

import pytest
from support.owned import owned
from support.wallet_api import WalletApi, check_problem, new_id

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.routing.slots import partition_of

MOST = 2**53 - 1

ROUTES = pytest.mark.parametrize(("p", "q"), [(6, 6), (6, 15)], ids=["same-partition", "across-shards"])


@ROUTES
def test_g3_a_balance_can_be_spent_to_zero_and_no_further(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, "1.00"), api.account(q)
    assert api.pay(sender, receiver, "1.01").json()["code"] == "insufficient_funds"
    api.paid(sender, receiver, "1.00")
    assert api.pay(sender, receiver, "0.01").json()["code"] == "insufficient_funds"
    assert (api.balance(sender), api.balance(receiver)) == ("0.00", "1.00")


@ROUTES
def test_g3_an_overdraft_can_be_used_to_its_limit_and_no_further(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, "1.00", overdraft="10.00"), api.account(q)
    api.paid(sender, receiver, "10.99")
    assert api.pay(sender, receiver, "0.02").json()["code"] == "insufficient_funds"
    api.paid(sender, receiver, "0.01")
    assert api.pay(sender, receiver, "0.01").json()["code"] == "insufficient_funds"
    assert (api.balance(sender), api.balance(receiver)) == ("-10.00", "11.00")
    assert api.get(f"/v1/accounts/{sender}").json()["balances"][0]["overdraft_limit"] == "10.00"


@ROUTES
def test_g3_the_limit_belongs_to_one_currency(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, overdraft="10.00"), api.account(q)
    assert api.open(sender, "EUR").status == 201
    assert api.open(receiver, "EUR").status == 201
    assert api.pay(sender, receiver, "0.01", "EUR").json()["code"] == "insufficient_funds"
    api.paid(sender, receiver, "0.01")


@pytest.mark.parametrize(
    ("p", "q", "currency"), [(6, 6, "KRW"), (6, 15, "CLP")], ids=["same-partition", "across-shards"]
)
def test_g12_the_largest_balance_is_exact(api: WalletApi, p: int, q: int, currency: str) -> None:
    """G12: 2^53 - 1 minor units are held to the last one; one more is declined and changes nothing."""
    source = api.account(p, currency=currency, overdraft=str(MOST))
    sender, receiver = api.account(p, "5", currency), api.account(q, None, currency)
    api.paid(source, receiver, str(MOST - 1), currency)
    api.paid(sender, receiver, "1", currency)
    assert [api.balance(n, currency) for n in (source, sender, receiver)] == [f"-{MOST - 1}", "4", f"{MOST}"]
    transaction_id = new_id()
    for replayed in (False, True):
        reply = api.pay(sender, receiver, "1", currency, transaction_id=transaction_id)
        check_problem(reply, 422, "balance_limit", transaction_id=transaction_id, replayed=replayed)
    assert [api.balance(n, currency) for n in (sender, receiver)] == ["4", f"{MOST}"]
    api.paid(receiver, sender, "1", currency)
    reply = api.pay(sender, receiver, "1", currency, transaction_id=transaction_id)
    check_problem(reply, 422, "balance_limit", transaction_id=transaction_id, replayed=True)
    api.paid(sender, receiver, "1", currency)
    assert [api.balance(n, currency) for n in (sender, receiver)] == ["4", f"{MOST}"]
    assert api.balance("@transit", currency) == "0"


@pytest.mark.parametrize(
    ("p", "q", "currency"), [(6, 6, "ISK"), (6, 15, "UGX")], ids=["same-partition", "across-shards"]
)
def test_g12_the_deepest_debt_is_exact(api: WalletApi, p: int, q: int, currency: str) -> None:
    sender = api.account(p, currency=currency, overdraft=str(MOST))
    receivers = [api.account(q, None, currency) for _ in range(2)]
    odd = MOST // 2 + 2
    api.paid(sender, receivers[0], str(odd), currency)
    api.paid(sender, receivers[1], str(MOST - odd), currency)
    assert api.pay(sender, receivers[1], "1", currency).json()["code"] == "insufficient_funds"
    balances = [api.balance(name, currency) for name in (sender, *receivers)]
    assert balances == [f"-{MOST}", f"{odd}", f"{MOST - odd}"]


def test_g12_what_is_above_the_largest_number_is_malformed(api: WalletApi) -> None:
    sender, receiver = api.account(1, currency="XAF", overdraft=str(MOST)), api.account(2, currency="XAF")
    for amount in (MOST + 1, MOST + 2, 10**16, 10**17):
        assert api.pay(sender, receiver, str(amount), "XAF").json()["code"] == "invalid_amount"
    assert api.open(api.name(), "XAF", str(MOST + 1)).json()["code"] == "invalid_amount"
    assert (api.balance(sender, "XAF"), api.balance(receiver, "XAF")) == ("0", "0")


def test_g12_digits_of_the_currency_are_exact_too(api: WalletApi) -> None:
    """The same largest number, in thousandths."""
    most = f"{MOST // 1000}.{MOST % 1000:03d}"
    sender, receiver = api.account(1, currency="TND", overdraft=most), api.account(13, currency="TND")
    api.paid(sender, receiver, most, "TND")
    assert (api.balance(sender, "TND"), api.balance(receiver, "TND")) == (f"-{most}", most)


@pytest.mark.parametrize(
    ("p", "q", "currency"), [(6, 6, "PYG"), (6, 15, "VND")], ids=["same-partition", "across-shards"]
)
def test_g12_only_accounts_have_limits(api: WalletApi, p: int, q: int, currency: str) -> None:
    """A partition's part of `@mint`, `@sink` and `@transit` goes past the largest number, and every sum stays exact."""
    ids = [uuid for uuid in (new_id() for _ in range(1000)) if _home(api, uuid) == p]
    receivers = [api.account(q, None, currency) for _ in range(3)]
    for receiver, transaction_id in zip(receivers, ids, strict=False):
        api.paid("@mint", receiver, str(MOST), currency, transaction_id=transaction_id)
    assert [api.balance(name, currency) for name in receivers] == [str(MOST)] * 3
    assert api.balance("@mint", currency) == str(-3 * MOST)
    declined = api.pay("@mint", receivers[0], "1", currency, transaction_id=ids[3])
    check_problem(declined, 422, "balance_limit", transaction_id=ids[3])
    for receiver in receivers:
        api.paid(receiver, "@sink", str(MOST - 1), currency)
    shown = [api.balance(name, currency) for name in ("@mint", "@sink", "@transit", receivers[0])]
    assert shown == [str(-3 * MOST), str(3 * (MOST - 1)), "0", "1"]
    document = api.get("/v1/accounts/@sink").json()
    assert {"currency": currency, **owned(str(3 * (MOST - 1))), "overdraft_limit": "0"} in document[
        "balances"
    ]


def _home(api: WalletApi, transaction_id: str) -> int:
    """The partition in which a system account posts a transfer with this id."""
    return partition_of(pack_transaction_id(transaction_id), api.partitions)
