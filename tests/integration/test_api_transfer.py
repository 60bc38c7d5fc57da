"""`POST /v1/wallet/balance_transfer` on a real cluster: what is paid, what is refused, and what is remembered."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from support.wallet_api import WalletApi, check_problem, check_success, new_id, transfer_body

#: Sender's and receiver's partitions: one, two of one shard, two of different shards.
ROUTES = pytest.mark.parametrize(
    ("p", "q"), [(3, 3), (0, 1), (2, 14)], ids=["same-partition", "same-shard", "across-shards"]
)


@ROUTES
@pytest.mark.parametrize(("currency", "funds", "left"), [("USD", "2.50", "2.49"), ("JPY", "9", "8")])
def test_g1_a_transfer_debits_and_credits(
    api: WalletApi, p: int, q: int, currency: str, funds: str, left: str
) -> None:
    """G1: the payer's balance falls and the receiver's rises by the same amount."""
    sender, receiver = api.account(p, funds, currency), api.account(q, None, currency)
    transaction_id, amount = new_id(), "0.01" if currency == "USD" else "1"
    first = api.pay(sender, receiver, amount, currency, transaction_id=transaction_id)
    check_success(first, transaction_id)
    assert (api.balance(sender, currency), api.balance(receiver, currency)) == (left, amount)
    again = api.pay(sender, receiver, amount, currency, transaction_id=transaction_id)
    check_success(again, transaction_id, replayed=True)
    assert (api.balance(sender, currency), api.balance(receiver, currency)) == (left, amount)


@dataclass(frozen=True)
class Case:
    """A transfer that is declined, and a later change after which it would succeed."""

    code: str
    receiver_at_fault: bool = False
    sender_known: bool = True
    receiver_known: bool = True
    amount: str = "4.00"
    before: Callable[[WalletApi, str, str], object] = lambda api, sender, receiver: None
    heal: Callable[[WalletApi, str, str], object] | None = None

    @property
    def status(self) -> int:
        return 404 if self.code == "account_not_found" else 422


def open_funded(api: WalletApi, account: str) -> None:
    assert api.open(account).status == 201
    api.paid("@bank", account, "5.00")


def empty_and_close(api: WalletApi, account: str) -> None:
    if (balance := api.balance(account)) != "0.00":
        api.paid(account, "@bank", balance)
    assert api.flag(account, "close").status == 200


CASES = {
    "sender-unknown": Case("account_not_found", sender_known=False, heal=lambda a, s, r: open_funded(a, s)),
    "receiver-unknown": Case(
        "account_not_found", receiver_at_fault=True, receiver_known=False, heal=lambda a, s, r: a.open(r)
    ),
    "sender-closed": Case("account_closed", before=lambda a, s, r: empty_and_close(a, s)),
    "receiver-closed": Case(
        "account_closed", receiver_at_fault=True, before=lambda a, s, r: empty_and_close(a, r)
    ),
    "sender-frozen": Case(
        "account_frozen",
        before=lambda a, s, r: a.flag(s, "freeze"),
        heal=lambda a, s, r: a.flag(s, "unfreeze"),
    ),
    "receiver-frozen": Case(
        "account_frozen",
        receiver_at_fault=True,
        before=lambda a, s, r: a.flag(r, "freeze"),
        heal=lambda a, s, r: a.flag(r, "unfreeze"),
    ),
    "insufficient-funds": Case(
        "insufficient_funds", amount="5.01", heal=lambda a, s, r: a.paid("@bank", s, "1.00")
    ),
}


@ROUTES
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_g4_a_decline_moves_nothing_and_is_remembered(api: WalletApi, p: int, q: int, case: Case) -> None:
    """G1, G4: across partitions the debit comes back to the cent; later funds do not change the answer."""
    sender = api.account(p, "5.00") if case.sender_known else api.name(p)
    receiver = api.account(q, "1.00") if case.receiver_known else api.name(q)
    case.before(api, sender, receiver)
    accounts = [
        name for name, known in ((sender, case.sender_known), (receiver, case.receiver_known)) if known
    ]
    balances = [api.balance(name) for name in accounts]
    transaction_id = new_id()

    def ask() -> object:
        return api.pay(sender, receiver, case.amount, transaction_id=transaction_id)

    def check(reply: object, *, replayed: bool) -> None:
        check_problem(reply, case.status, case.code, transaction_id=transaction_id, replayed=replayed)

    check(ask(), replayed=False)
    side = "receiver" if case.receiver_at_fault else "payer"
    assert f"the {side}'s" in ask().json()["detail"]
    (told,) = api.batch([transfer_body(sender, receiver, case.amount, transaction_id=transaction_id)]).json()[
        "results"
    ]
    assert (told["code"], told["detail"]) == (case.code, ask().json()["detail"])
    assert [api.balance(name) for name in accounts] == balances
    check(ask(), replayed=True)
    found = api.find(sender, transaction_id).json()
    assert found == {"transaction_id": transaction_id, "status": "declined", "code": case.code}

    if case.heal is not None:
        case.heal(api, sender, receiver)
        balance = api.balance(sender)
        check(ask(), replayed=True)
        assert api.balance(sender) == balance
        api.paid(sender, receiver, case.amount)  # another id is decided anew
        assert api.balance(sender) != balance


@ROUTES
def test_g4_the_same_id_with_another_body_is_refused(api: WalletApi, p: int, q: int) -> None:
    """G4: a conflict changes nothing, is not remembered, and every field of the body counts."""
    sender, receiver = api.account(p, "9.00"), api.account(q)
    others = [api.account(p), api.account(q), api.account(7)]
    assert api.open(sender, "EUR").status == 201
    assert api.open(receiver, "EUR").status == 201
    transaction_id = new_id()
    api.paid(sender, receiver, "1.00", transaction_id=transaction_id)
    changed = [(other, "1.00", "USD") for other in (*others, "@bank", api.name(q))]
    changed += [(receiver, "1.01", "USD"), (receiver, "0.01", "USD"), (receiver, "1.00", "EUR")]
    for to_account, amount, currency in changed:
        reply = api.pay(sender, to_account, amount, currency, transaction_id=transaction_id)
        check_problem(reply, 409, "idempotency_conflict", transaction_id=transaction_id)
    assert [api.balance(name) for name in (sender, receiver, *others)] == ["8.00", "1.00"] + ["0.00"] * 3
    for same in ("1", "1.0", "1.00"):
        reply = api.pay(sender, receiver, same, transaction_id=transaction_id)
        check_success(reply, transaction_id, replayed=True)
    assert api.balance(sender) == "8.00"


@ROUTES
def test_g4_a_decline_conflicts_too(api: WalletApi, p: int, q: int) -> None:
    """G4: the body of a refunded transfer is remembered too."""
    sender, transaction_id = api.account(p, "9.00"), new_id()
    receiver, nobody = api.account(q), api.name(q)
    assert api.pay(sender, nobody, "1.00", transaction_id=transaction_id).status == 404
    reply = api.pay(sender, receiver, "1.00", transaction_id=transaction_id)
    check_problem(reply, 409, "idempotency_conflict", transaction_id=transaction_id)
    reply = api.pay(sender, nobody, "1.00", transaction_id=transaction_id)
    check_problem(reply, 404, "account_not_found", transaction_id=transaction_id, replayed=True)
    assert (api.balance(sender), api.balance(receiver)) == ("9.00", "0.00")


@ROUTES
def test_g4_the_same_id_of_another_sender_is_another_transfer(api: WalletApi, p: int, q: int) -> None:
    """G4: an id belongs to its sender; no caller can use up the ids of others."""
    one, other, receiver = api.account(p, "1.00"), api.account(p, "1.00"), api.account(q)
    transaction_id = new_id()
    for sender in (one, other, "@bank"):
        check_success(api.pay(sender, receiver, "1.00", transaction_id=transaction_id), transaction_id)
    assert [api.balance(name) for name in (one, other, receiver)] == ["0.00", "0.00", "3.00"]


def test_g4_an_id_of_the_bank_counts_once_whoever_receives(api: WalletApi) -> None:
    """G4: `@bank` is in every partition, but has one memory of ids."""
    receivers = [api.account(partition) for partition in range(16)]
    transaction_id = new_id()
    api.paid("@bank", receivers[0], "1.00", transaction_id=transaction_id)
    for receiver in receivers[1:]:
        reply = api.pay("@bank", receiver, "1.00", transaction_id=transaction_id)
        check_problem(reply, 409, "idempotency_conflict", transaction_id=transaction_id)
    assert [api.balance(name) for name in receivers] == ["1.00"] + ["0.00"] * 15
    again = api.pay("@bank", receivers[0], "1.00", transaction_id=transaction_id)
    check_success(again, transaction_id, replayed=True)


def test_system_accounts_may_be_either_side(api: WalletApi) -> None:
    name = api.account(5, "3.00")
    api.paid(name, "@fees", "1.00")
    api.paid("@fees", name, "0.25")
    api.paid("@bank", "@fees", "7.00")
    assert api.balance(name) == "2.25"
    reply = api.pay("@transit", name, "1.00")
    assert (reply.status, reply.json()["code"]) == (400, "invalid_request")
    nobody, transaction_id = api.name(5), new_id()
    reply = api.pay("@bank", nobody, "1.00", transaction_id=transaction_id)
    check_problem(reply, 404, "account_not_found", transaction_id=transaction_id)
    assert api.open(nobody).status == 201
    reply = api.pay("@bank", nobody, "1.00", transaction_id=transaction_id)
    check_problem(reply, 404, "account_not_found", transaction_id=transaction_id, replayed=True)


@ROUTES
def test_an_account_without_the_currency_is_not_found(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, "5.00"), api.account(q)
    assert api.open(sender, "EUR").status == 201
    api.paid("@bank", sender, "5.00", "EUR")
    assert api.pay(sender, receiver, "1.00", "EUR").json()["code"] == "account_not_found"
    assert api.pay(receiver, sender, "1.00", "EUR").json()["code"] == "account_not_found"
    assert (api.balance(sender, "EUR"), api.balance(sender)) == ("5.00", "5.00")


@ROUTES
def test_an_id_is_compared_in_lower_case(api: WalletApi, p: int, q: int) -> None:
    sender, receiver = api.account(p, "5.00"), api.account(q)
    transaction_id = "ABCDEF" + new_id()[6:].upper()
    first = api.pay(sender, receiver, "1.00", transaction_id=transaction_id)
    check_success(first, transaction_id.lower())
    again = api.pay(sender, receiver, "1.00", transaction_id=transaction_id.lower())
    check_success(again, transaction_id.lower(), replayed=True)
    assert api.balance(sender) == "4.00"


def test_an_idempotency_key_stands_in_for_the_id(api: WalletApi) -> None:
    sender, receiver, key = api.account(4, "5.00"), api.account(9), new_id()
    whole = transfer_body(sender, receiver, "1.00", key)
    without = {name: value for name, value in whole.items() if name != "transaction_id"}
    path = "/v1/wallet/balance_transfer"
    check_success(api.post(path, without, {"Idempotency-Key": key}), key)
    for body, given in [(without, key.upper()), (without, f'"{key}"'), (whole, key.upper())]:
        check_success(api.post(path, body, {"Idempotency-Key": given}), key, replayed=True)
    check_success(api.post(path, whole), key, replayed=True)
    assert api.post(path, whole, {"Idempotency-Key": new_id()}).json()["code"] == "invalid_request"
    assert api.post(path, without, {"Idempotency-Key": "me"}).json()["code"] == "invalid_request"
    assert api.post(path, without).json()["code"] == "invalid_request"
    assert api.balance(sender) == "4.00"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"amount": "1.001"}, "invalid_amount"),
        ({"amount": "0.00"}, "invalid_amount"),
        ({"amount": "-1.00"}, "invalid_amount"),
        ({"amount": "90071992547409.92"}, "invalid_amount"),
        ({"amount": 1}, "invalid_amount"),
        ({"currency": "ABC"}, "invalid_currency"),
        ({"to_account": "a b"}, "invalid_request"),
        ({"memo": "x"}, "invalid_request"),
    ],
)
def test_malformed_transfers_are_not_remembered(
    api: WalletApi, changed: dict[str, object], code: str
) -> None:
    sender, receiver = api.account(4, "5.00"), api.account(9)
    good = transfer_body(sender, receiver, "1.00", new_id())
    transaction_id = good["transaction_id"]
    reply = api.post("/v1/wallet/balance_transfer", good | changed)
    check_problem(reply, 400, code, transaction_id=transaction_id)
    check_problem(
        api.pay(sender, sender, "1.00", transaction_id=transaction_id),
        400,
        "same_account",
        transaction_id=transaction_id,
    )
    assert api.find(sender, transaction_id).status == 404
    check_success(api.post("/v1/wallet/balance_transfer", good), transaction_id)
