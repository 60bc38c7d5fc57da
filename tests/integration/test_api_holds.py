"""Holds on a real cluster: what is set aside, captured, given back, and that each happens once."""

import asyncio
import time
from datetime import datetime
from typing import Any

import pytest
from support.http_client import HttpClient, Reply
from support.wallet_api import WalletApi, check_problem, new_id

ROUTES = pytest.mark.parametrize(
    ("p", "q"), [(3, 3), (0, 1), (2, 14)], ids=["same-partition", "same-shard", "across-shards"]
)
#: An expired hold is released within 5 s; the rest is for a machine that is busy with other tests.
RELEASED_S_MAX = 30.0
#: 2^53 - 1 cents.
MOST = "90071992547409.91"


def refused(reply: Any, status: int, code: str) -> None:
    """The problem names the id of the request, if it has one."""
    check_problem(reply, status, code, transaction_id=reply.json().get("transaction_id"))


def place(api: WalletApi, account: str, amount: str, **more: Any) -> dict[str, Any]:
    body = {"account_id": account, "amount": amount, "currency": "USD", "transaction_id": new_id(), **more}
    reply = api.post("/v1/holds", body)
    assert reply.status == 201, reply
    return reply.json()


def capture(api: WalletApi, hold: dict[str, Any], to: str | None, **more: Any) -> Any:
    body = {"account_id": hold["account_id"], "transaction_id": new_id(), **more}
    if to is not None:
        body["to_account"] = to
    return api.post(f"/v1/holds/{hold['hold_id']}/capture", body)


def figures(api: WalletApi, account: str) -> tuple[str, ...]:
    """Balance, available, held, pending."""
    found = api.get(f"/v1/accounts/{account}/balance?currency=USD").json()
    return tuple(found[name] for name in ("balance", "available", "held", "pending"))


def expired_after_s(hold: dict[str, Any]) -> float:
    """Seconds until the hold's expiry has surely passed."""
    return datetime.fromisoformat(hold["expires_at"]).timestamp() + 0.05 - time.time()


def look(api: WalletApi, hold: dict[str, Any]) -> dict[str, Any]:
    found = api.get(f"/v1/holds/{hold['hold_id']}?account_id={hold['account_id']}").json()
    cents = {
        name: round(float(found[name]) * 100) for name in ("amount", "captured", "released", "remaining")
    }
    assert cents["amount"] == cents["captured"] + cents["released"] + cents["remaining"]
    return found


@ROUTES
def test_a_hold_is_placed_once_and_captured_once(api: WalletApi, p: int, q: int) -> None:
    """G4. What the capture leaves is available once the capture is answered."""
    payer, receiver = api.account(p, "10.00"), api.account(q, None)
    body = {
        "account_id": payer,
        "amount": "4.00",
        "currency": "USD",
        "transaction_id": new_id(),
        "reference": "Zimmer 7",
    }
    first, again = api.post("/v1/holds", body), api.post("/v1/holds", body)
    assert (first.status, again.status, again.headers["idempotent-replayed"]) == (201, 200, "true")
    assert first.json() == again.json()
    assert first.json()["reference"] == "Zimmer 7"
    refused(api.post("/v1/holds", body | {"amount": "4.01"}), 409, "idempotency_conflict")
    assert figures(api, payer) == ("10.00", "6.00", "4.00", "0.00")
    refused(api.pay(payer, receiver, "6.01"), 422, "insufficient_funds")

    taken = {"account_id": payer, "transaction_id": new_id(), "to_account": receiver, "amount": "1.50"}
    path = f"/v1/holds/{body['transaction_id']}/capture"
    paid, repeated = api.post(path, taken), api.post(path, taken)
    assert (paid.status, repeated.status, repeated.headers["idempotent-replayed"]) == (200, 200, "true")
    assert paid.json()["hold"]["status"] == "captured"
    assert (paid.json()["hold"]["captured"], paid.json()["hold"]["released"]) == ("1.50", "2.50")
    assert figures(api, payer) == ("8.50", "8.50", "0.00", "0.00")
    assert api.balance(receiver) == "1.50"
    assert api.find(payer, taken["transaction_id"]).json()["status"] == "success"
    refused(api.find(payer, body["transaction_id"]), 404, "transfer_not_found")
    refused(capture(api, first.json(), receiver), 422, "hold_not_open")


@ROUTES
def test_a_capture_that_the_receiver_refuses_leaves_the_hold_as_it_was(
    api: WalletApi, p: int, q: int
) -> None:
    """G1: the money is in the hold again, and can be captured for another receiver."""
    payer, frozen, other = api.account(p, "10.00"), api.account(q, None), api.account(q, None)
    hold = place(api, payer, "4.00")
    api.flag(frozen, "freeze")
    refused(capture(api, hold, frozen), 422, "account_frozen")
    refused(capture(api, hold, api.name(q)), 404, "account_not_found")
    assert look(api, hold) == hold
    assert figures(api, payer) == ("10.00", "6.00", "4.00", "0.00")
    assert capture(api, hold, other).status == 200
    assert (api.balance(other), api.balance(payer)) == ("4.00", "6.00")


def test_parts_increase_and_void(api: WalletApi) -> None:
    payer, receivers = api.account(2, "10.00"), [api.account(q, None) for q in (2, 3, 14)]
    hold = place(api, payer, "4.00")
    for receiver in receivers:
        assert capture(api, hold, receiver, amount="1.00", final=False).json()["hold"]["status"] == "open"
    path = f"/v1/holds/{hold['hold_id']}"
    more = {"account_id": payer, "transaction_id": new_id(), "amount": "2.00"}
    assert api.post(f"{path}/increase", more).json()["remaining"] == "3.00"
    assert api.post(f"{path}/increase", more).json()["remaining"] == "3.00"
    refused(capture(api, hold, receivers[0], amount="3.01"), 422, "amount_exceeds_hold")
    refused(api.flag(payer, "close"), 422, "balance_not_zero")
    api.flag(payer, "freeze")
    refused(capture(api, hold, receivers[0]), 422, "account_frozen")
    for _ in range(2):  # a void that is repeated is the same void
        voided = api.post(f"{path}/void", {"account_id": payer}).json()
        assert (voided["status"], voided["captured"], voided["released"]) == ("voided", "3.00", "3.00")
    assert figures(api, payer) == ("7.00", "7.00", "0.00", "0.00")
    assert [api.balance(receiver) for receiver in receivers] == ["1.00"] * 3


def test_a_receiver_that_was_named_is_the_only_one(api: WalletApi) -> None:
    payer, named, other = api.account(0, "10.00"), api.account(14, None), api.account(1, None)
    hold = place(api, payer, "4.00", to_account=named)
    refused(capture(api, hold, other), 422, "destination_mismatch")
    assert capture(api, hold, None).status == 200
    assert (api.balance(named), api.balance(other)) == ("4.00", "0.00")


def test_a_receiver_with_an_odd_name_is_the_only_one_too(api: WalletApi) -> None:
    """A hold for the account `-` was one for nobody: a capture could pay it to anybody."""
    payer, other = api.account(0, "10.00"), api.account(1, None)
    for named in ("-", "."):
        api.post("/v1/accounts", {"account_id": named, "currency": "USD"})
        hold = place(api, payer, "4.00", to_account=named)
        assert hold["to_account"] == look(api, hold)["to_account"] == named
        refused(capture(api, hold, other), 422, "destination_mismatch")
        assert capture(api, hold, None, amount="1.00", final=False).status == 200
        assert capture(api, hold, named).json()["hold"]["captured"] == "4.00"
    assert (api.balance("-"), api.balance(other)) == ("4.00", "0.00")


def test_an_expired_hold_is_released_by_itself(api: WalletApi) -> None:
    payer, receiver = api.account(0, "10.00"), api.account(14, None)
    hold = place(api, payer, "4.00", expires_in_s=1)
    deadline_s = time.monotonic() + RELEASED_S_MAX
    while figures(api, payer)[1] != "10.00" and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert figures(api, payer) == ("10.00", "10.00", "0.00", "0.00")
    assert look(api, hold)["status"] == "expired"
    refused(capture(api, hold, receiver), 422, "hold_expired")


def test_simultaneous_captures_take_no_more_than_is_held(api: WalletApi) -> None:
    """Sixteen callers want all of it, sixteen a part: the hold's total equals the money moved."""
    payer, receiver = api.account(0, "10.00"), api.account(14, None)
    hold = place(api, payer, "4.00")
    body = {"account_id": payer, "to_account": receiver}
    bodies = [body | {"transaction_id": new_id(), "final": False, "amount": "0.50"} for _ in range(16)]
    bodies += [body | {"transaction_id": new_id()} for _ in range(16)]

    async def ask() -> list[Reply]:
        async with HttpClient() as http:
            url = f"{api.url}/v1/holds/{hold['hold_id']}/capture"
            return await asyncio.gather(*(http.post(url, body) for body in bodies))

    replies = asyncio.run(ask())
    codes = {reply.json().get("code") for reply in replies if reply.status != 200}
    assert codes <= {"hold_busy", "hold_not_open", "amount_exceeds_hold", "overloaded"}, codes
    found = look(api, hold)
    assert found["status"] in ("open", "captured")
    assert api.balance(receiver) == found["captured"]
    assert any(reply.status == 200 for reply in replies)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"amount": "1.001"}, "invalid_amount"),
        ({"amount": 1}, "invalid_amount"),
        ({"currency": "usd"}, "invalid_currency"),
        ({"expires_in_s": 0}, "invalid_request"),
        ({"expires_in_s": 2_592_001}, "invalid_request"),
        ({"expires_in_s": True}, "invalid_request"),
        ({"account_id": "@bank"}, "invalid_request"),
        ({"reference": ""}, "invalid_request"),
        ({"reference": " x"}, "invalid_request"),
        ({"reference": "a\nb"}, "invalid_request"),
        ({"reference": "x" * 141}, "invalid_request"),
        ({"metadata": {"A": "b"}}, "invalid_request"),
        ({"metadata": {"a": 1}}, "invalid_request"),
        ({"metadata": {f"k{n}": "v" * 200 for n in range(6)}}, "invalid_request"),
        ({"surprise": 1}, "invalid_request"),
        ({"transaction_id": "x"}, "invalid_request"),
    ],
)
def test_what_is_malformed_is_refused_and_nothing_is_held(
    api: WalletApi, body: dict[str, Any], code: str
) -> None:
    payer = api.account(0, "10.00")
    whole = {"account_id": payer, "amount": "1.00", "currency": "USD", "transaction_id": new_id(), **body}
    refused(api.post("/v1/holds", whole), 400, code)
    assert figures(api, payer) == ("10.00", "10.00", "0.00", "0.00")


def test_none_and_nobody(api: WalletApi) -> None:
    payer = api.account(0, "10.00")
    unknown = {"account_id": payer, "hold_id": new_id()}
    refused(capture(api, unknown, api.account(1, None)), 404, "hold_not_found")
    refused(api.post(f"/v1/holds/{new_id()}/void", {"account_id": payer}), 404, "hold_not_found")
    refused(api.get(f"/v1/holds/{new_id()}?account_id={payer}"), 404, "hold_not_found")
    nobody = {"account_id": api.name(3), "amount": "1.00", "currency": "USD", "transaction_id": new_id()}
    refused(api.post("/v1/holds", nobody), 404, "account_not_found")


def test_what_is_refused_in_any_case_is_refused_without_a_receiver_too(api: WalletApi) -> None:
    """No receiver is named, by hold or capture: that is malformed only if nothing before it refuses the capture."""
    payer = api.account(0, "10.00")
    hold, voided = place(api, payer, "1.00"), place(api, payer, "1.00")
    expired = place(api, payer, "1.00", expires_in_s=1)
    assert api.post(f"/v1/holds/{voided['hold_id']}/void", {"account_id": payer}).status == 200
    refused(capture(api, voided, None), 422, "hold_not_open")
    refused(capture(api, hold, None, transaction_id=voided["hold_id"]), 409, "idempotency_conflict")
    refused(capture(api, hold, None), 400, "invalid_request")
    assert api.flag(payer, "freeze").status == 200
    refused(capture(api, hold, None), 422, "account_frozen")
    assert api.flag(payer, "unfreeze").status == 200
    time.sleep(max(0.0, expired_after_s(expired)))
    refused(capture(api, expired, None), 422, "hold_expired")
    assert look(api, hold)["status"] == "open"


def test_an_id_of_something_else_is_no_id_for_a_hold_that_is_not_known(api: WalletApi) -> None:
    """The id is remembered for another request: a conflict, whatever the outcome of that request was."""
    payer, receiver = api.account(3, "10.00"), api.account(1)
    paid, held = new_id(), place(api, payer, "1.00")["hold_id"]
    api.paid(payer, receiver, "1.00", transaction_id=paid)
    for known in (paid, held):
        body = {"account_id": payer, "transaction_id": known}
        unknown = f"/v1/holds/{new_id()}"
        refused(api.post(f"{unknown}/increase", {**body, "amount": "9.00"}), 409, "idempotency_conflict")
        refused(api.post(f"{unknown}/capture", {**body, "to_account": receiver}), 409, "idempotency_conflict")


@ROUTES
def test_g4_what_was_done_is_answered_again_when_the_account_is_closed(
    api: WalletApi, p: int, q: int
) -> None:
    """Repeats are recognised before the account is checked: a caller that lost an answer learns that it was paid."""
    payer, receiver = api.account(p, "10.00"), api.account(q, None)
    held = {"account_id": payer, "amount": "4.00", "currency": "USD", "transaction_id": new_id()}
    path = f"/v1/holds/{held['transaction_id']}"
    more = {"account_id": payer, "amount": "1.00", "transaction_id": new_id()}
    taken = {"account_id": payer, "to_account": receiver, "transaction_id": new_id()}
    legs = [{"from_account": payer, "to_account": receiver, "amount": "5.00", "currency": "USD"}]
    done = [
        ("/v1/holds", held),
        (f"{path}/increase", more),
        (f"{path}/capture", taken),
        ("/v1/transfers/group", {"transaction_id": new_id(), "legs": legs}),
    ]
    firsts = [api.post(*call) for call in done]
    assert [first.status for first in firsts] == [201, 200, 200, 200]
    assert api.flag(payer, "close").status == 200
    for call, first in zip(done, firsts, strict=True):
        again = api.post(*call)
        assert (again.status, again.headers.get("idempotent-replayed")) == (200, "true"), again
        assert again.json().get("status") == ("captured" if "hold_id" in first.json() else "success")
    refused(api.post(f"{path}/void", {"account_id": payer}), 422, "hold_not_open")
    refused(api.post("/v1/holds", held | {"transaction_id": new_id()}), 422, "account_closed")


@ROUTES
def test_a_refund_of_a_part_leaves_the_rest_held(api: WalletApi, p: int, q: int) -> None:
    payer, receiver, taken = api.account(p, "10.00"), api.account(q, None), new_id()
    hold = place(api, payer, "4.00")
    assert capture(api, hold, receiver, amount="1.00", final=False, transaction_id=taken).status == 200
    wanted = {"from_account": payer, "transaction_id": new_id(), "amount": "0.40"}
    assert api.post(f"/v1/transfers/{taken}/refunds", wanted).json()["refundable"] == "0.60"
    found = look(api, hold)
    assert (found["status"], found["captured"], found["remaining"]) == ("open", "1.00", "3.00")
    assert figures(api, payer) == ("9.40", "6.40", "3.00", "0.00")
    assert capture(api, hold, receiver).status == 200
    assert (api.balance(payer), api.balance(receiver)) == ("6.40", "3.60")


def test_g8_what_is_available_and_what_is_held_are_of_one_moment(api: WalletApi) -> None:
    payer, other = api.account(5, "10.00"), api.account(5, "10.00")

    async def ask() -> list[Reply]:
        async with HttpClient() as http:
            url = f"{api.url}/v1/holds"

            async def hold_and_void(account: str) -> None:
                for _ in range(15):
                    body = {"account_id": account, "amount": "4.00", "currency": "USD"}
                    held = await http.post(url, body | {"transaction_id": (hold_id := new_id())})
                    assert held.status == 201, held
                    assert (await http.post(f"{url}/{hold_id}/void", {"account_id": account})).status == 200

            async def read() -> list[Reply]:
                shown = f"{api.url}/v1/accounts/{payer}"
                return [
                    await http.get(f"{shown}/balance?currency=USD" if n % 2 else shown) for n in range(60)
                ]

            reads, *_ = await asyncio.gather(read(), *(hold_and_void(each) for each in (payer, payer, other)))
            return reads

    seen = set()
    for reply in asyncio.run(ask()):
        found = reply.json()
        found = found["balances"][0] if "balances" in found else found
        available, held = (round(float(found[name]) * 100) for name in ("available", "held"))
        seen.add(held)
        assert (found["balance"], available + held) == ("10.00", 1000), reply
    assert len(seen) > 1, "nothing was held while it was read"


def test_a_hold_that_is_voided_and_captured_at_once_ends_one_way(api: WalletApi) -> None:
    """Whatever answers the callers get, the money was paid once, or is available again."""
    payer, receiver = api.account(0, "20.00"), api.account(14, None)
    holds = [place(api, payer, "2.00") for _ in range(6)]

    async def ask() -> None:
        async with HttpClient() as http:

            async def end(hold: dict[str, Any], how: str) -> None:
                body = {"account_id": payer}
                if how == "capture":
                    body |= {"transaction_id": new_id(), "to_account": receiver}
                await http.post(f"{api.url}/v1/holds/{hold['hold_id']}/{how}", body)

            await asyncio.gather(*(end(hold, how) for hold in holds for how in ("capture", "void") * 3))

    asyncio.run(ask())
    ends = [look(api, hold) for hold in holds]
    taken = sum(found["status"] == "captured" for found in ends)
    assert {(f["status"], f["captured"]) for f in ends} <= {("captured", "2.00"), ("voided", "0.00")}
    whole, left = f"{taken * 2}.00", f"{20 - taken * 2}.00"
    assert (api.balance(receiver), figures(api, payer)) == (whole, (left, left, "0.00", "0.00"))


def full(api: WalletApi, p: int, **more: Any) -> tuple[str, dict[str, Any]]:
    """An account that holds the largest amount there is, and has got another 1.00 since."""
    account, system = api.account(p), f"@bank:{new_id()[:8]}"
    for source, amount in ((f"{system}-1", MOST), (f"{system}-2", "1.00")):
        if source.endswith("2"):
            hold = place(api, account, MOST, **more)
        assert api.pay(source, account, amount).status == 200
    return account, hold


def test_a_hold_that_would_leave_the_range_of_numbers_is_not_voided_until_there_is_room(
    api: WalletApi,
) -> None:
    """G12. What is available and what is held are in range each for itself; the caller is told at once."""
    account, hold = full(api, 7)
    assert figures(api, account) == ("90071992547410.91", "1.00", MOST, "0.00")
    path, body = f"/v1/holds/{hold['hold_id']}/void", {"account_id": account}
    for _ in range(2):
        refused(api.post(path, body), 422, "balance_limit")
    assert look(api, hold)["status"] == "open"
    api.paid(account, "@fees", "1.00")
    assert api.post(path, body).json()["status"] == "voided"
    assert figures(api, account) == (MOST, MOST, "0.00", "0.00")


def test_a_hold_that_cannot_be_released_writes_nothing_while_it_waits(api: WalletApi) -> None:
    account, hold = full(api, 8, expires_in_s=1)
    path = f"/v1/accounts/{account}/balance?currency=USD"
    time.sleep(2.5)  # the expirer has tried
    before = api.get(path).json()
    time.sleep(2.5)
    assert (api.get(path).json(), before["held"]) == (before, MOST)
    api.paid(account, "@fees", "1.00")
    deadline_s = time.monotonic() + RELEASED_S_MAX
    while look(api, hold)["status"] != "expired":
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert figures(api, account) == (MOST, MOST, "0.00", "0.00")
