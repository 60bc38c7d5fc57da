"""Groups on a real cluster: all or nothing within one partition and across several, once each."""

import asyncio
import json
import time
from typing import Any

import pytest
from support.http_client import HttpClient, Reply
from support.wallet_api import WalletApi, check_success, new_id

PARTITIONS_OF = pytest.mark.parametrize(
    "at", [(3, 3, 3), (0, 1, 0), (2, 14, 7)], ids=["one-partition", "one-shard", "three-shards"]
)


def leg(payer: str, receiver: str, amount: str, currency: str = "USD", **more: str) -> dict[str, str]:
    return {"from_account": payer, "to_account": receiver, "amount": amount, "currency": currency, **more}


def group(api: WalletApi, *legs: dict[str, str], transaction_id: str | None = None, **more: Any) -> Reply:
    body = {"transaction_id": transaction_id or new_id(), "legs": list(legs), **more}
    return api.post("/v1/transfers/group", body)


def refused(reply: Reply, status: int, code: str, at: int | None = None, *, replayed: bool = False) -> None:
    document = reply.json()
    assert (reply.status, document["code"], document.get("leg")) == (status, code, at), reply
    assert document["transaction_id"]
    assert (reply.headers.get("idempotent-replayed") == "true") == replayed


def figures(api: WalletApi, account: str) -> tuple[str, ...]:
    """Balance, available, held, pending."""
    found = api.get(f"/v1/accounts/{account}/balance?currency=USD").json()
    return tuple(found[name] for name in ("balance", "available", "held", "pending"))


def stands(api: WalletApi, **cents: Any) -> None:
    """Check balances; nothing is set aside or pending any more."""
    for account, balance in cents.items():
        assert figures(api, account) == (balance, balance, "0.00", "0.00"), account


@PARTITIONS_OF
def test_g1_all_legs_happen_once(api: WalletApi, at: tuple[int, int, int]) -> None:
    a, b, c = (api.account(p, "10.00") for p in at)
    legs = [leg(a, b, "4.00"), leg(a, c, "1.00"), leg(b, c, "10.00"), leg(c, "@fees", "0.30")]
    legs += [leg("@bank", a, "2.00")]
    id_ = new_id()
    check_success(group(api, *legs, transaction_id=id_), id_)
    expected = {a: "7.00", b: "4.00", c: "20.70"}
    stands(api, **expected)
    again = group(api, *legs, transaction_id=id_.upper())
    check_success(again, id_, replayed=True)
    refused(group(api, *legs[:-1], transaction_id=id_), 409, "idempotency_conflict")
    refused(group(api, *legs, transaction_id=id_, reference="rent"), 409, "idempotency_conflict")
    assert api.pay(a, b, "1.00", transaction_id=id_).json()["code"] == "idempotency_conflict"
    stands(api, **expected)
    found = api.find(a, id_).json()
    assert (found["status"], "leg" in found) == ("success", False)
    assert found["legs"] == legs


@PARTITIONS_OF
def test_g1_a_leg_that_cannot_be_leaves_nothing(api: WalletApi, at: tuple[int, int, int]) -> None:
    """A group that fails commits no prefix, in whichever partition it fails; the answer names the leg."""
    a, b, c = (api.account(p, "10.00") for p in at)
    frozen = api.account(at[2], "1.00")
    api.flag(frozen, "freeze")
    cases = [
        ([leg(a, b, "1.00"), leg(a, c, "9.01")], 422, "insufficient_funds", 1),
        ([leg(a, b, "1.00"), leg(b, a, "5.00"), leg(b, c, "5.01")], 422, "insufficient_funds", 2),
        ([leg(a, b, "1.00"), leg(c, b, "10.01")], 422, "insufficient_funds", 1),
        (
            [leg(a, b, "1.00"), leg(b, frozen, "1.00"), leg(a, api.name(at[1]), "1.00")],
            422,
            "account_frozen",
            1,
        ),
        ([leg(a, api.name(at[1]), "1.00"), leg(b, frozen, "1.00")], 404, "account_not_found", 0),
        ([leg(a, b, "1.00"), leg(a, b, "1.00", "EUR")], 404, "account_not_found", 1),
        ([leg(a, b, "1.00"), leg(api.name(at[2]), a, "1.00")], 404, "account_not_found", 1),
    ]
    for legs, status, code, at_leg in cases:
        id_ = new_id()
        refused(group(api, *legs, transaction_id=id_), status, code, at_leg)
        stands(api, **{a: "10.00", b: "10.00", c: "10.00"})
        refused(group(api, *legs, transaction_id=id_), status, code, at_leg, replayed=True)
        found = api.find(a, id_).json()
        assert (found["status"], found["code"], found["leg"]) == ("declined", code, at_leg)
        stands(api, **{a: "10.00", b: "10.00", c: "10.00"})


def test_a_hundred_legs_and_several_currencies(api: WalletApi) -> None:
    payer = api.account(0, "100.00")
    receivers = [api.account(p) for p in range(16)]
    api.open(payer, "EUR")
    api.open(receivers[3], "EUR")
    api.paid("@bank", payer, "1.00", "EUR")
    legs = [leg(payer, receivers[number % 16], "0.01") for number in range(99)]
    legs.append(leg(payer, receivers[3], "1.00", "EUR"))
    assert group(api, *legs).status == 200
    assert api.balance(payer) == "99.01"
    assert sum(round(float(api.balance(receiver)) * 100) for receiver in receivers) == 99
    assert (api.balance(receivers[3], "EUR"), api.balance(payer, "EUR")) == ("1.00", "0.00")


def test_system_accounts_pay_without_limit(api: WalletApi) -> None:
    a, b = api.account(5, "1.00"), api.account(9)
    id_ = new_id()
    legs = [leg("@bank", a, "1000.00"), leg("@bank", b, "5.00"), leg(b, "@fees", "0.00")]
    refused(group(api, *legs), 400, "invalid_amount", 2)
    legs[2] = leg(a, "@fees", "1.00")
    check_success(group(api, *legs, transaction_id=id_), id_)
    stands(api, **{a: "1000.00", b: "5.00"})
    assert api.find("@bank", id_).json()["legs"] == legs


def test_simultaneous_groups_of_one_id_happen_once(api: WalletApi, api_cluster: Any) -> None:
    """Sixteen callers send each of two bodies: one body is decided, once; the other is a conflict."""
    a, b, c = api.account(0, "10.00"), api.account(7, "10.00"), api.account(14, "10.00")
    id_ = new_id()
    bodies = [
        {"transaction_id": id_, "legs": [leg(a, b, "1.00"), leg(b, c, "3.00"), leg(c, a, amount)]}
        for amount in ("4.00", "5.00")
    ]

    async def ask() -> list[Reply]:
        async with HttpClient() as http:
            url = f"{api.url}/v1/transfers/group"
            return await asyncio.gather(*(http.post(url, body) for body in bodies * 16))

    replies = asyncio.run(ask())
    first, second = (group(api, *body["legs"], transaction_id=id_) for body in bodies)
    codes = [reply.json().get("code", "success") for reply in replies]
    paid = {amount: "success" in codes[n::2] for n, amount in enumerate(("4.00", "5.00"))}
    assert set(codes) <= {"success", "idempotency_conflict", "insufficient_funds", "outcome_unknown"}, codes
    assert sum(paid.values()) <= 1
    assert {first.status, second.status} in ({200, 409}, {422, 409})
    expected = {
        (True, False): ("13.00", "8.00", "9.00"),
        (False, True): ("14.00", "8.00", "8.00"),
        (False, False): ("10.00", "10.00", "10.00"),
    }[first.status == 200, second.status == 200]
    stands(api, **dict(zip((a, b, c), expected, strict=True)))


def test_groups_against_each_other_keep_the_sum(api: WalletApi) -> None:
    """G3: money that two groups want at once goes to one of them, or to none; nothing stays set aside."""
    accounts = [api.account(p, "10.00") for p in (0, 7, 14, 3)]
    bodies = []
    for number in range(60):
        a, b, c = (accounts[(number * step + step) % 4] for step in (1, 3, 1))
        c = accounts[(accounts.index(a) + 2) % 4]
        b = b if b not in (a, c) else accounts[(accounts.index(a) + 1) % 4]
        legs = [leg(a, b, "3.00"), leg(b, c, "4.00"), leg(c, a, "2.00")]
        bodies.append({"transaction_id": new_id(), "legs": legs})

    async def ask() -> list[Reply]:
        async with HttpClient() as http:
            url = f"{api.url}/v1/transfers/group"
            return await asyncio.gather(*(http.post(url, body) for body in bodies))

    replies = asyncio.run(ask())
    assert {reply.status for reply in replies} <= {200, 422}, replies
    cents = dict.fromkeys(accounts, 1000)
    for reply, body in zip(replies, bodies, strict=True):
        for one in body["legs"] if reply.status == 200 else ():
            cents[one["from_account"]] -= round(float(one["amount"]) * 100)
            cents[one["to_account"]] += round(float(one["amount"]) * 100)
    stands(api, **{account: f"{minor / 100:.2f}" for account, minor in cents.items()})


def test_a_closed_account_is_refused_and_an_empty_one_closes_after_a_group(api: WalletApi) -> None:
    a, b = api.account(0, "5.00"), api.account(14, "1.00")
    assert group(api, leg(a, b, "5.00"), leg(b, "@fees", "1.00")).status == 200
    assert api.flag(a, "close").status == 200
    refused(group(api, leg(b, a, "1.00")), 422, "account_closed", 0)


def test_references_and_metadata_are_part_of_the_body(api: WalletApi) -> None:
    a, b = api.account(0, "5.00"), api.account(14, "1.00")
    id_, more = new_id(), {"reference": "Löhne 11/26", "metadata": {"run": "7"}}
    legs = [leg(a, b, "1.00", reference="für Ann"), leg(a, "@fees", "0.10")]
    check_success(group(api, *legs, transaction_id=id_, **more), id_)
    check_success(group(api, *legs, transaction_id=id_, **more), id_, replayed=True)
    refused(group(api, *legs, transaction_id=id_), 409, "idempotency_conflict")
    legs[0]["reference"] = "für Bob"
    refused(group(api, *legs, transaction_id=id_, **more), 409, "idempotency_conflict")


def test_an_idempotency_key_stands_in_for_the_id(api: WalletApi) -> None:
    a, b = api.account(0, "5.00"), api.account(14)
    id_ = new_id()
    reply = api.post("/v1/transfers/group", {"legs": [leg(a, b, "1.00")]}, {"Idempotency-Key": id_})
    check_success(reply, id_)


@pytest.mark.parametrize(
    ("change", "code", "at"),
    [
        ({"amount": "1.001"}, "invalid_amount", 1),
        ({"amount": 1}, "invalid_amount", 1),
        ({"currency": "usd"}, "invalid_currency", 1),
        ({"from_account": "@transit"}, "invalid_request", 1),
        ({"from_account": "b"}, "same_account", 1),
        ({"surprise": "1"}, "invalid_request", 1),
        ({"reference": " x"}, "invalid_request", 1),
    ],
)
def test_a_malformed_leg_is_named_and_nothing_is_done(
    api: WalletApi, change: dict[str, Any], code: str, at: int
) -> None:
    a = api.account(0, "10.00")
    reply = group(api, leg(a, "@fees", "1.00"), {**leg("a", "b", "1.00"), **change})
    refused(reply, 400, code, at)
    assert f"legs[{at}]" in reply.json()["detail"]
    stands(api, **{a: "10.00"})


def test_a_leg_with_a_repeated_field_is_named(api: WalletApi) -> None:
    bad = json.dumps(leg("a", "b", "1.00"))[:-1] + ', "amount": "2.00"}'
    body = f'{{"transaction_id": "{new_id()}", "legs": [{json.dumps(leg("a", "b", "1.00"))}, {bad}]}}'
    reply = api.request("POST", "/v1/transfers/group", body.encode())
    refused(reply, 400, "invalid_request", 1)
    assert reply.json()["detail"] == "legs[1]: field 'amount' is given twice"


def test_the_number_of_legs_is_bounded(api: WalletApi) -> None:
    a = api.account(0, "10.00")
    refused(group(api), 400, "invalid_request")
    refused(group(api, *[leg(a, "@fees", "0.01")] * 101), 413, "request_too_large")
    assert api.post("/v1/transfers/group", {"transaction_id": new_id()}).status == 400
    stands(api, **{a: "10.00"})
    assert group(api, *[leg(a, "@fees", "0.01")] * 100).status == 200


def refund(api: WalletApi, payer: str, id_: str, **more: Any) -> Reply:
    body = {"from_account": payer, "transaction_id": new_id(), **more}
    return api.post(f"/v1/transfers/{id_}/refunds", body)


@PARTITIONS_OF
def test_legs_are_refunded_each_on_its_own(api: WalletApi, at: tuple[int, int, int]) -> None:
    """A leg's refunds are never more than the leg, whichever partition remembers it."""
    a, b, c = (api.account(p, "10.00") for p in at)
    id_ = new_id()
    legs = [leg(a, b, "4.00"), leg(b, c, "1.00"), leg(c, a, "2.00"), leg(a, "@fees", "0.50")]
    check_success(group(api, *legs, transaction_id=id_), id_)
    first = refund(api, a, id_, leg=0, amount="1.50").json()
    assert (first["refunded_total"], first["refundable"]) == ("1.50", "2.50")
    assert refund(api, a, id_, leg=0, amount="2.51").json()["code"] == "refund_exceeds"
    assert refund(api, a, id_, leg=0).json()["refundable"] == "0.00"
    assert refund(api, a, id_, leg=0).json()["code"] == "refund_exceeds"
    for number in (1, 2, 3):
        assert refund(api, a, id_, leg=number).status == 200
    stands(api, **{a: "10.00", b: "10.00", c: "10.00"})
    for wrong in ({}, {"leg": 4}):
        assert refund(api, a, id_, **wrong).json()["code"] == "invalid_request"
    declined = new_id()
    assert group(api, leg(a, b, "10.01"), transaction_id=declined).status == 422
    assert refund(api, a, declined).json()["code"] == "not_refundable"


def test_metrics_count_groups(api: WalletApi) -> None:
    a = api.account(0, "10.00")
    assert group(api, leg(a, "@fees", "1.00")).status == 200
    text = api.get("/metrics").body.decode()
    assert 'wallet_groups_total{outcome="success"}' in text
    assert "wallet_group_legs_bucket" in text


def test_home_forgets_what_every_part_has_done(api: WalletApi, api_cluster: Any) -> None:
    """A group's record is deleted moments after its end: only the memory of ids grows with groups."""
    a, b = api.account(0, "5.00"), api.account(14)
    id_ = new_id()
    check_success(group(api, leg(a, b, "1.00"), transaction_id=id_), id_)
    deadline_s = time.monotonic() + 20
    while (status := api.find(a, id_).json()["status"]) != "success" and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert status == "success"
