"""G3 and G4 when many callers come at once."""

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest
from support.http_client import HttpClient, Reply
from support.wallet_api import WalletApi, new_id, transfer_body

IDENTICAL = 200
SPENDERS = 50

ROUTES = pytest.mark.parametrize(("p", "q"), [(2, 2), (2, 12)], ids=["same-partition", "across-shards"])


def ask_all(api: WalletApi, bodies: Sequence[dict[str, str]]) -> list[Reply]:
    """All at once, each on a connection of its own; the replies in order."""

    async def run() -> list[Reply]:
        async with HttpClient() as http:
            url = f"{api.url}/v1/wallet/balance_transfer"
            return await asyncio.gather(*(http.post(url, body) for body in bodies))

    return asyncio.run(run())


@ROUTES
def test_g4_identical_requests_at_once_move_money_once(api: WalletApi, p: int, q: int) -> None:
    """G4: all get the same answer, and all but one say that it is a repeat."""
    sender, receiver = api.account(p, "100.00"), api.account(q)
    replies = ask_all(api, [transfer_body(sender, receiver, "1.00", new_id())] * IDENTICAL)
    assert Counter(reply.status for reply in replies) == {200: IDENTICAL}
    assert sum("idempotent-replayed" not in reply.headers for reply in replies) == 1
    assert (api.balance(sender), api.balance(receiver)) == ("99.00", "1.00")


@ROUTES
def test_g4_one_id_with_two_bodies_at_once(api: WalletApi, p: int, q: int) -> None:
    """G4: whichever comes first is the transfer; the other is refused every time."""
    sender, receiver, transaction_id = api.account(p, "100.00"), api.account(q), new_id()
    bodies = [transfer_body(sender, receiver, amount, transaction_id) for amount in ("1.00", "2.00")]
    replies = ask_all(api, bodies * (IDENTICAL // 2))
    won = 0 if replies[0].status == 200 else 1
    assert [reply.status for reply in replies[won::2]] == [200] * (IDENTICAL // 2)
    assert [reply.status for reply in replies[1 - won :: 2]] == [409] * (IDENTICAL // 2)
    assert api.balance(receiver) == bodies[won]["amount"]


@ROUTES
def test_g4_a_refund_at_once_with_its_repeats(api: WalletApi, p: int, q: int) -> None:
    """G4: a repeat that meets its transfer half-way neither pays nor refunds a second time."""
    sender, nobody = api.account(p, "100.00"), api.name(q)
    replies = ask_all(api, [transfer_body(sender, nobody, "1.00", new_id())] * IDENTICAL)
    assert Counter(reply.json()["code"] for reply in replies) == {"account_not_found": IDENTICAL}
    assert api.balance(sender) == "100.00"


@ROUTES
def test_g3_spenders_of_one_balance_never_overdraw(api: WalletApi, p: int, q: int) -> None:
    """G3: exactly as many succeed as the balance carries."""
    sender = api.account(p, "10.00")
    receivers = [api.account(q) for _ in range(SPENDERS)]
    replies = ask_all(api, [transfer_body(sender, r, "1.00", new_id()) for r in receivers])
    assert Counter(reply.status for reply in replies) == {200: 10, 422: SPENDERS - 10}
    assert {reply.json()["code"] for reply in replies if reply.status == 422} == {"insufficient_funds"}
    assert api.balance(sender) == "0.00"
    paid = ["1.00" if reply.status == 200 else "0.00" for reply in replies]
    assert [api.balance(receiver) for receiver in receivers] == paid


def test_g1_money_in_a_circle_comes_back(api: WalletApi) -> None:
    """G1: many transfers between the same few accounts, in all directions at once."""
    accounts = [api.account(partition, "10.00") for partition in (0, 5, 10, 15)]
    pairs = [(a, b) for a in accounts for b in accounts if a != b]
    replies = ask_all(api, [transfer_body(a, b, "0.50", new_id()) for a, b in pairs * 10])
    assert {reply.status for reply in replies} <= {200, 422}
    cents = dict.fromkeys(accounts, 1000)
    for (sender, receiver), reply in zip(pairs * 10, replies, strict=True):
        if reply.status == 200:
            cents[sender] -= 50
            cents[receiver] += 50
    assert {a: api.balance(a) for a in accounts} == {a: f"{c // 100}.{c % 100:02d}" for a, c in cents.items()}
