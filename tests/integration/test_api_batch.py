"""`POST /v1/transfers/batch` on a real cluster: order, repeats; only a malformed call is refused as a whole."""

import random
import uuid
from itertools import pairwise

from support.wallet_api import WalletApi, check_problem, new_id, transfer_body

from wallet_engine.domain.currencies import MINOR_DIGITS

BATCH_MAX = 10_000


def results(api: WalletApi, transfers: list[dict[str, str]]) -> list[str]:
    """`success` or the code of each transfer; ids must come back in the order given."""
    reply = api.batch(transfers)
    assert reply.status == 200, reply
    answers = reply.json()["results"]
    assert [a["transaction_id"] for a in answers] == [t["transaction_id"].lower() for t in transfers]
    for answer in answers:
        assert ("code" in answer) == (answer["status"] != "success")
        assert answer["status"] in ("success", "declined")
    return [answer.get("code", "success") for answer in answers]


def test_g1_ten_thousand_transfers_with_declines_among_them(api: WalletApi) -> None:
    """G1, G4: each transfer is decided on its own; repeating the call gives the same results and moves nothing."""
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    cents = {api.account(number % 16, "1000.00"): 100_000 for number in range(48)}
    accounts = list(cents)
    frozen, nobody = api.account(3, "1.00"), api.name(9)
    api.flag(frozen, "freeze")
    transfers, expected = [], []
    for _ in range(BATCH_MAX):
        sender, receiver = rng.sample(accounts, 2)
        amount, answer = rng.randrange(1, 100), "success"
        roll = rng.random()
        if roll < 0.04:
            receiver, answer = nobody, "account_not_found"
        elif roll < 0.08:
            receiver, answer = frozen, "account_frozen"
        elif roll < 0.12:
            amount, answer = 10**9, "insufficient_funds"
        else:
            cents[sender] -= amount
            cents[receiver] += amount
        transaction_id = str(uuid.UUID(int=rng.getrandbits(128)))
        text = f"{amount // 100}.{amount % 100:02d}"
        transfers.append(transfer_body(sender, receiver, text, transaction_id))
        expected.append(answer)
    assert min(cents.values()) > 50_000  # no order of execution could have run out of funds
    for _ in range(2):
        assert results(api, transfers) == expected
        shown = {account: int(api.balance(account).replace(".", "")) for account in accounts}
        assert shown == cents
    assert api.balance(frozen) == "1.00"


def test_g4_one_id_twice_in_a_batch_has_one_result(api: WalletApi) -> None:
    """G4: the id is repeated within one call, with the same and with another body, in one partition and across two."""
    for p, q in ((1, 1), (1, 11)):
        sender, receiver, nobody = api.account(p, "10.00"), api.account(q), api.name(q)
        same = transfer_body(sender, receiver, "1.00", new_id())
        upper = same | {"transaction_id": same["transaction_id"].upper()}
        other = same | {"amount": "2.00"}
        refunded = transfer_body(sender, nobody, "1.00", new_id())
        declined = transfer_body(sender, receiver, "99.00", new_id())
        got = results(api, [same, declined, refunded, upper, other, same, refunded, declined])
        assert got == [
            "success",
            "insufficient_funds",
            "account_not_found",
            "success",
            "idempotency_conflict",
            "success",
            "account_not_found",
            "insufficient_funds",
        ]
        assert (api.balance(sender), api.balance(receiver)) == ("9.00", "1.00")


def test_transfers_of_one_sender_are_decided_in_the_order_given(api: WalletApi) -> None:
    sender, near, far = api.account(8, "1.00"), api.account(8), api.account(0)
    amounts = [(near, "0.60"), (far, "0.50"), (far, "0.40"), (near, "0.01")]
    got = results(api, [transfer_body(sender, to, amount, new_id()) for to, amount in amounts])
    assert got == ["success", "insufficient_funds", "success", "insufficient_funds"]
    assert [api.balance(name) for name in (sender, near, far)] == ["0.00", "0.60", "0.40"]


def test_a_chain_within_one_partition_passes_money_on(api: WalletApi) -> None:
    """Each transfer sees the effects of those before it."""
    chain = [api.account(8) for _ in range(20)]
    api.paid("@bank", chain[0], "1.00")
    pairs = list(pairwise(chain))
    assert set(results(api, [transfer_body(a, b, "1.00", new_id()) for a, b in pairs])) == {"success"}
    assert [api.balance(name) for name in chain] == ["0.00"] * 19 + ["1.00"]


def test_a_single_transfer_and_a_batch_share_their_memory(api: WalletApi) -> None:
    sender, receiver = api.account(2, "5.00"), api.account(10)
    body = transfer_body(sender, receiver, "1.00", new_id())
    assert results(api, [body]) == ["success"]
    single = api.post("/v1/wallet/balance_transfer", body)
    assert (single.status, single.headers.get("idempotent-replayed")) == (200, "true")
    assert api.balance(sender) == "4.00"


def test_one_malformed_transfer_refuses_the_whole_batch(api: WalletApi) -> None:
    sender, receiver = api.account(2, "5.00"), api.account(10)
    good = [transfer_body(sender, receiver, "1.00", new_id()) for _ in range(5)]
    for changed, code in [
        ({"amount": "1.001"}, "invalid_amount"),
        ({"currency": "AAA"}, "invalid_currency"),
        ({"to_account": sender}, "same_account"),
        ({"transaction_id": "7"}, "invalid_request"),
    ]:
        bad = transfer_body(sender, receiver, "1.00", new_id()) | changed
        reply = api.batch([*good[:3], bad, *good[3:]])
        assert (reply.status, reply.json()["code"]) == (400, code)
        assert "transfers[3]" in reply.json()["detail"]
    for body in good:
        assert api.find(sender, body["transaction_id"]).status == 404
    assert (api.balance(sender), api.balance(receiver)) == ("5.00", "0.00")
    assert results(api, good) == ["success"] * 5


def test_one_transfer_above_the_limit_is_refused_and_applies_nothing(api: WalletApi) -> None:
    sender, receiver = api.account(2, "200.00"), api.account(10)
    transfers = [transfer_body(sender, receiver, "0.01", new_id()) for _ in range(BATCH_MAX + 1)]
    check_problem(api.batch(transfers), 413, "request_too_large")
    assert api.balance(sender) == "200.00"
    assert set(results(api, transfers[:BATCH_MAX])) == {"success"}
    assert (api.balance(sender), api.balance(receiver)) == ("100.00", "100.00")


def test_a_body_above_4_mib_is_refused(api: WalletApi) -> None:
    reply = api.request("POST", "/v1/transfers/batch", b" " * (4 * 1024 * 1024 + 1))
    check_problem(reply, 413, "request_too_large")


def test_an_empty_batch_has_no_results(api: WalletApi) -> None:
    assert results(api, []) == []


def test_where_accounts_may_have_limits_in_many_currencies_calls_are_cut(api: WalletApi) -> None:
    """The script refuses a call that would read too many flags; it is cut in parts, unseen by the caller."""
    sender, receiver, many = api.account(15, "10.00"), api.account(15), api.account(15)
    for currency in sorted(MINOR_DIGITS)[:100]:
        assert api.open(many, currency).status in (200, 201)
    assert api.flag(many, "freeze").status == 200
    assert (
        results(api, [transfer_body(sender, receiver, "0.01", new_id()) for _ in range(1000)])
        == ["success"] * 1000
    )
    assert (api.balance(sender), api.balance(receiver)) == ("0.00", "10.00")


def test_g10_transfers_with_the_longest_notes_are_paid(api: WalletApi) -> None:
    """G10: together they are longer than one entry of the journal may be."""
    sender, receiver = api.account(5, "10.00"), api.account(5)
    notes = {
        "reference": 140 * "\N{GRINNING FACE}",
        "metadata": dict.fromkeys("abcde", 200 * '"') | {"f": 18 * '"'},
    }
    transfers = [transfer_body(sender, receiver, "0.01", new_id()) | notes for _ in range(400)]
    assert results(api, transfers) == ["success"] * 400
    assert api.balance(receiver) == "4.00"
