"""Refunds on a real cluster: money goes back once, never more than was paid; a refund cannot be refunded."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from support.http_client import HttpClient, Reply
from support.wallet_api import WalletApi, check_problem, new_id, transfer_body

ROUTES = pytest.mark.parametrize(
    ("p", "q"), [(3, 3), (0, 1), (2, 14)], ids=["same-partition", "same-shard", "across-shards"]
)
CALLERS = 24


def refused(reply: Reply, status: int, code: str, *, retryable: bool = False) -> None:
    """The problem names the id of the refund, whatever the reason."""
    document = reply.json()
    assert (reply.status, document["code"], document["retryable"]) == (status, code, retryable), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert document["detail"]


def refund(api: WalletApi, payer: str, original: str, amount: str | None = None, **more: Any) -> Reply:
    body = {"from_account": payer, "transaction_id": new_id(), **more}
    if amount is not None:
        body["amount"] = amount
    return api.post(f"/v1/transfers/{original}/refunds", body)


def paid(api: WalletApi, payer: str, receiver: str, amount: str) -> str:
    original = new_id()
    api.paid(payer, receiver, amount, transaction_id=original)
    return original


@ROUTES
def test_a_refund_happens_once_and_is_found(api: WalletApi, p: int, q: int) -> None:
    """G4: a repeat with the same id is the same refund; with another body it is a conflict."""
    payer, receiver = api.account(p, "10.00"), api.account(q, "1.00")
    original, refund_id = paid(api, payer, receiver, "4.00"), new_id()
    body = {"transaction_id": refund_id, "reference": "zurück: beschädigt"}
    first, again = (refund(api, payer, original, "1.50", **body) for _ in range(2))
    assert (first.status, again.status, again.headers["idempotent-replayed"]) == (200, 200, "true"), again
    assert "idempotent-replayed" not in first.headers
    success = {"status": "success", "transaction_id": refund_id}
    assert first.json() == again.json() == {**success, "refunded_total": "1.50", "refundable": "2.50"}
    refused(refund(api, payer, original, "1.51", **body), 409, "idempotency_conflict")
    refused(refund(api, payer, original, "1.50", transaction_id=refund_id), 409, "idempotency_conflict")
    assert (api.balance(payer), api.balance(receiver)) == ("7.50", "3.50")
    refunds = {"from_account": payer, "transaction_id": original}
    noted = {"reference": body["reference"]}
    assert api.find(receiver, refund_id).json() == {**success, **noted, "refunds": refunds}
    assert api.find(payer, original).json() == {"status": "success", "transaction_id": original}


@ROUTES
def test_refunds_add_up_to_no_more_than_the_original(api: WalletApi, p: int, q: int) -> None:
    payer, receiver = api.account(p, "10.00"), api.account(q, "10.00")
    original, other = paid(api, payer, receiver, "4.00"), paid(api, payer, receiver, "1.00")
    refused(refund(api, payer, original, "4.01"), 422, "refund_exceeds")
    assert refund(api, payer, original, "1.00").json()["refundable"] == "3.00"
    refused(refund(api, payer, original, "3.01"), 422, "refund_exceeds")
    rest = refund(api, payer, original)
    assert (rest.json()["refunded_total"], rest.json()["refundable"]) == ("4.00", "0.00")
    for amount in (None, "0.01"):
        refused(refund(api, payer, original, amount), 422, "refund_exceeds")
    assert refund(api, payer, other).json()["refunded_total"] == "1.00"
    assert (api.balance(payer), api.balance(receiver)) == ("10.00", "10.00")


@ROUTES
def test_a_refund_cannot_be_refunded(api: WalletApi, p: int, q: int) -> None:
    payer, receiver, declined, refund_id = (
        api.account(p, "10.00"),
        api.account(q, "10.00"),
        new_id(),
        new_id(),
    )
    original = paid(api, payer, receiver, "4.00")
    assert refund(api, payer, original, "1.00", transaction_id=refund_id).status == 200
    for _ in range(2):
        refused(refund(api, receiver, refund_id), 422, "not_refundable")
    api.pay(payer, receiver, "99.00", transaction_id=declined)
    refused(refund(api, payer, declined), 422, "not_refundable")
    for stranger, unknown in ((payer, new_id()), (receiver, original), (payer, refund_id)):
        refused(refund(api, stranger, unknown), 404, "transfer_not_found")
    assert (api.balance(payer), api.balance(receiver)) == ("7.00", "13.00")


@ROUTES
def test_a_refund_that_either_side_refuses_changes_nothing(api: WalletApi, p: int, q: int) -> None:
    """G1. A refund that the payer's side refused can be made under another id once it no longer refuses."""
    payer, receiver, third = api.account(p, "4.00"), api.account(q, None), api.account(q, None)
    original = paid(api, payer, receiver, "4.00")
    api.paid(receiver, third, "1.00")
    refused(refund(api, payer, original), 422, "insufficient_funds")
    api.paid("@bank", receiver, "1.00")
    for account in (receiver, payer):
        assert api.flag(account, "freeze").status == 200
        body = {"transaction_id": new_id()}
        for _ in range(2):
            refused(refund(api, payer, original, **body), 422, "account_frozen")
        assert api.flag(account, "unfreeze").status == 200
    assert (api.balance(payer), api.balance(receiver)) == ("0.00", "4.00")
    assert api.flag(payer, "close").status == 200
    refused(refund(api, payer, original, "1.00"), 422, "account_closed")
    assert (api.balance(payer), api.balance(receiver), api.balance("@transit")) == ("0.00", "4.00", "0.00")


def test_captures_and_system_accounts(api: WalletApi) -> None:
    for q in (2, 14):
        payer, receiver, capture_id = api.account(2, "10.00"), api.account(q, None), new_id()
        placed = {"account_id": payer, "amount": "4.00", "currency": "USD", "transaction_id": new_id()}
        assert api.post("/v1/holds", placed).status == 201
        captured = {
            "account_id": payer,
            "to_account": receiver,
            "transaction_id": capture_id,
            "amount": "3.00",
        }
        assert api.post(f"/v1/holds/{placed['transaction_id']}/capture", captured).status == 200
        refused(refund(api, payer, placed["transaction_id"]), 404, "transfer_not_found")
        assert refund(api, payer, capture_id, "1.00").json()["refundable"] == "2.00"
        assert (api.balance(payer), api.balance(receiver)) == ("8.00", "2.00")
        fee = paid(api, payer, "@fees", "5.00")
        assert refund(api, payer, fee).json()["refunded_total"] == "5.00"
        assert api.balance(payer) == "8.00"
        deposit = paid(api, "@bank", payer, "7.00")
        assert refund(api, "@bank", deposit, "6.00").json()["refundable"] == "1.00"
        assert api.balance(payer) == "9.00"


def test_g4_a_refund_by_a_system_account_is_found_and_takes_its_id(api: WalletApi) -> None:
    """It is decided where its original is, which its id does not tell: it was not found, and its id refunded twice."""
    ann, bob = api.account(2, "10.00"), api.account(14, "10.00")
    of_ann, of_bob, refund_id = paid(api, ann, "@fees", "4.00"), paid(api, bob, "@fees", "4.00"), new_id()
    for _ in range(2):
        assert refund(api, ann, of_ann, "1.00", transaction_id=refund_id).json()["refunded_total"] == "1.00"
    found = api.find("@fees", refund_id).json()
    refunds = {"from_account": ann, "transaction_id": of_ann}
    assert found == {"status": "success", "transaction_id": refund_id, "refunds": refunds}
    refused(refund(api, bob, of_bob, "1.00", transaction_id=refund_id), 409, "idempotency_conflict")
    refused(refund(api, "@fees", refund_id), 422, "not_refundable")
    refused(refund(api, ann, of_ann, "9.00", transaction_id=(exceeds := new_id())), 422, "refund_exceeds")
    assert api.find("@fees", exceeds).json()["code"] == "refund_exceeds"
    check_problem(api.find("@fees", absent := new_id()), 404, "transfer_not_found", transaction_id=absent)
    assert (api.balance(ann), api.balance(bob)) == ("7.00", "6.00")


def test_g4_a_system_account_uses_an_id_for_a_refund_or_for_something_else(api: WalletApi) -> None:
    """Whichever comes first, or both at once: a refund is decided in another partition than other payments."""
    payers = [api.account(p, "10.00") for p in range(6)]
    fees = [paid(api, payer, "@fees", "4.00") for payer in payers]
    first, fee, id_ = payers[0], fees[0], new_id()
    assert refund(api, first, fee, "1.00", transaction_id=id_).status == 200
    check_problem(
        api.pay("@fees", payers[5], "1.00", transaction_id=id_),
        409,
        "idempotency_conflict",
        transaction_id=id_,
    )
    legs = {"legs": [{"from_account": "@fees", "to_account": first, "amount": "1.00", "currency": "USD"}]}
    for _ in range(2):
        refused(api.post("/v1/transfers/group", {"transaction_id": id_, **legs}), 409, "idempotency_conflict")
        assert refund(api, first, fee, "1.00", transaction_id=id_).json()["refunded_total"] == "1.00"
    assert api.find("@fees", id_).json()["refunds"]["transaction_id"] == fee
    api.paid("@fees", first, "1.00", transaction_id=(taken := new_id()))
    refused(refund(api, first, fee, "1.00", transaction_id=taken), 409, "idempotency_conflict")
    assert api.balance(first) == "8.00"

    async def all_at_once(id_: str) -> list[int]:
        async with HttpClient() as http:
            body = {"transaction_id": id_, "amount": "1.00"}
            asked = [
                http.post(f"{api.url}/v1/transfers/{fee}/refunds", {"from_account": payer, **body})
                for payer, fee in zip(payers, fees, strict=True)
            ]
            pay = transfer_body("@fees", first, "1.00", id_)
            asked.append(http.post(f"{api.url}/v1/wallet/balance_transfer", pay))
            return [reply.status for reply in await asyncio.gather(*asked)]

    for _ in range(5):
        assert sorted(asyncio.run(all_at_once(new_id()))) == [200] + 6 * [409]


def test_an_original_that_left_the_stream_is_found_in_the_journal(api: WalletApi) -> None:
    payer, receiver = api.account(2, "10.00"), api.account(14, None)
    original, refund_id = paid(api, payer, receiver, "4.00"), new_id()
    assert refund(api, payer, original, "1.00", transaction_id=refund_id).status == 200
    time.sleep(2.5)  # the stream is trimmed once a second; untrimmed, the result would be the same
    assert refund(api, payer, original, "1.00").json()["refunded_total"] == "2.00"
    assert api.find(receiver, refund_id).json()["refunds"]["transaction_id"] == original


@pytest.mark.parametrize(("p", "q"), [(5, 5), (2, 14)], ids=["same-partition", "across-shards"])
def test_simultaneous_refunds_never_overrun(api: WalletApi, p: int, q: int) -> None:
    """Callers want all, a half, or a cent at once: what leaves one side reaches the other, at most what was paid."""
    payer, receiver = api.account(p, "10.00"), api.account(q, "10.00")
    original = paid(api, payer, receiver, "4.00")
    replies = asyncio.run(ask_all([api.url], payer, original, [None, "2.00", "0.01"] * (CALLERS // 3)))
    assert {reply.json()["code"] for reply in replies if reply.status != 200} <= {
        "refund_exceeds",
        "overloaded",
    }
    went_back = 1000 - cents(api.balance(receiver)) + 400
    assert went_back == cents(api.balance(payer)) - 600
    assert went_back <= 400
    exact = refund(api, payer, original)
    if went_back == 400:
        refused(exact, 422, "refund_exceeds")
    else:
        assert exact.json()["refunded_total"] == "4.00"
    assert (api.balance(payer), api.balance(receiver)) == ("10.00", "10.00")


async def ask_all(
    urls: Sequence[str], payer: str, original: str, amounts: Sequence[str | None]
) -> list[Reply]:
    """One refund for each amount, all at once, sent to the processes in turn."""
    async with HttpClient() as http:

        def post(number: int, amount: str | None) -> Any:
            body = {"from_account": payer, "transaction_id": new_id()}
            body |= {} if amount is None else {"amount": amount}
            return http.post(f"{urls[number % len(urls)]}/v1/transfers/{original}/refunds", body)

        return await asyncio.gather(*(post(number, amount) for number, amount in enumerate(amounts)))


def cents(text: str) -> int:
    return round(float(text) * 100)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"amount": "1.001"}, "invalid_amount"),
        ({"amount": "0"}, "invalid_amount"),
        ({"amount": 1}, "invalid_amount"),
        ({"from_account": "@transit"}, "invalid_request"),
        ({"transaction_id": "x"}, "invalid_request"),
        ({"reference": ""}, "invalid_request"),
        ({"metadata": {}}, "invalid_request"),
        ({"leg": -1}, "invalid_request"),
        ({"leg": True}, "invalid_request"),
        ({"leg": 0}, "invalid_request"),
    ],
)
def test_what_is_malformed_is_refused_and_nothing_goes_back(
    api: WalletApi, body: dict[str, Any], code: str
) -> None:
    payer, receiver = api.account(0, "10.00"), api.account(1, None)
    original = paid(api, payer, receiver, "4.00")
    whole = {"from_account": payer, "transaction_id": new_id(), **body}
    refused(api.post(f"/v1/transfers/{original}/refunds", whole), 400, code)
    assert (api.balance(payer), api.balance(receiver)) == ("6.00", "4.00")


def test_other_forms_of_the_id(api: WalletApi) -> None:
    payer, receiver, refund_id = api.account(0, "10.00"), api.account(1, None), new_id()
    original = paid(api, payer, receiver, "4.00")
    path, key = f"/v1/transfers/{original.upper()}/refunds", {"idempotency-key": refund_id}
    first = api.post(path, {"from_account": payer}, key)
    assert (first.status, first.json()["transaction_id"]) == (200, refund_id), first
    assert api.post(path, {"from_account": payer}, key).headers["idempotent-replayed"] == "true"
    check_problem(api.post("/v1/transfers/7/refunds", {"from_account": payer}), 400, "invalid_request")
    missing = api.post(path, {"transaction_id": refund_id})
    check_problem(missing, 400, "invalid_request", transaction_id=refund_id)
