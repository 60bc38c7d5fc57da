"""Single transfers of many coroutines sent as batches: each gets its own answer, independent of the others."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from wallet_engine import client
from wallet_engine.client import AsyncWallet, asynchronous, gathering
from wallet_engine.client.testing import AsyncFakeWallet

Answers = Callable[[str, dict[str, Any]], httpx.Response]


async def funded(wallet: AsyncWallet, accounts: int, funds: str) -> list[str]:
    names = [f"a{number}" for number in range(accounts)]
    for name in names:
        await wallet.open_account(name, "USD")
        await wallet.transfer("@bank", name, funds, "USD")
    return names


def counted(wallet: AsyncFakeWallet) -> Counter[str]:
    """Counts the requests to each path from now on."""
    paths: Counter[str] = Counter()

    async def count(request: httpx.Request) -> None:
        paths[request.url.path] += 1

    wallet._http.event_hooks["request"].append(count)
    return paths


def test_many_go_as_one_and_each_gets_its_own() -> None:
    async def run() -> None:
        async with AsyncFakeWallet(batching=True) as wallet:
            names = await funded(wallet, 20, "10")
            paths = counted(wallet)
            payments = [
                wallet.transfer(name, "@fees", number, "USD") for number, name in enumerate(names[1:], 1)
            ]
            results = await asyncio.gather(*payments, return_exceptions=True)
            assert [type(result) for result in results] == (
                [client.Transfer] * 10 + [client.InsufficientFunds] * 9
            )
            assert paths == {"/v1/transfers/batch": 1}
            ids = [getattr(result, "transaction_id", None) for result in results]
            assert len(set(ids)) == 19
            assert (await wallet.balance("@fees", "USD")).balance == 55

    asyncio.run(run())


def test_one_that_is_wrong_spoils_no_other() -> None:
    async def run() -> None:
        async with AsyncFakeWallet(batching=True) as wallet:
            (ann,) = await funded(wallet, 1, "10")
            right = [wallet.transfer(ann, "@fees", 1, "USD") for _ in range(3)]
            results = await asyncio.gather(
                *right, wallet.transfer(ann, "@fees", "1.234", "USD"), return_exceptions=True
            )
            assert [type(result) for result in results] == [client.Transfer] * 3 + [client.Malformed]
            assert (await wallet.balance(ann, "USD")).available == 7

    asyncio.run(run())


@pytest.mark.parametrize(("still_s", "alone"), [(0.0, 2), (86_400.0, 0)])
def test_g4_who_stood_still_until_the_answer_came_sends_none_alone(
    monkeypatch: pytest.MonkeyPatch, still_s: float, alone: int
) -> None:
    """What became of it is not known, and by then the service may have forgotten that it was paid."""
    clock_s, paths = [1.0], Counter[str]()

    def answer(request: httpx.Request) -> httpx.Response:
        paths[request.url.path] += 1
        body = json.loads(request.content)
        if "transfers" not in body:
            return httpx.Response(200, json={"status": "success", "transaction_id": body["transaction_id"]})
        clock_s[0] += still_s
        ids = [transfer["transaction_id"] for transfer in body["transfers"]]
        return httpx.Response(
            200, json={"results": [{"transaction_id": id_, "status": "unknown"} for id_ in ids]}
        )

    async def run() -> list[Any]:
        for module in (gathering, asynchronous):
            monkeypatch.setattr(module, "now_s", lambda: clock_s[0])
        async with AsyncWallet(
            "http://wallet.test", batching=True, transport=httpx.MockTransport(answer)
        ) as wallet:
            paying = (wallet.transfer("ann", "bob", 1, "USD") for _ in range(2))
            return await asyncio.gather(*paying, return_exceptions=True)

    results = asyncio.run(run())
    assert (paths["/v1/transfers/batch"], paths["/v1/wallet/balance_transfer"]) == (1, alone)
    assert [type(result) for result in results] == [client.Transfer if alone else client.OutcomeUnknown] * 2


def test_a_thousand_leave_at_once() -> None:
    async def run() -> None:
        async with AsyncFakeWallet(batching=True) as wallet:
            paths = counted(wallet)
            await asyncio.gather(*(wallet.transfer("@bank", "@fees", 1, "USD") for _ in range(2_500)))
            assert paths == {"/v1/transfers/batch": 3}

    asyncio.run(run())


def scripted(answers: Answers) -> httpx.MockTransport:
    return httpx.MockTransport(lambda request: answers(request.url.path, json.loads(request.content)))


def test_one_whose_outcome_is_unknown_is_asked_for_again() -> None:
    def answers(path: str, body: dict[str, Any]) -> httpx.Response:
        if path.endswith("/batch"):
            ids = [t["transaction_id"] for t in body["transfers"]]
            results = [{"transaction_id": ids[0], "status": "unknown", "code": "outcome_unknown"}]
            results += [{"transaction_id": i, "status": "success"} for i in ids[1:]]
            return httpx.Response(200, json={"results": results})
        return httpx.Response(200, json={"status": "success", "transaction_id": body["transaction_id"]})

    async def run() -> None:
        async with AsyncWallet("http://w.test", batching=True, transport=scripted(answers)) as wallet:
            paid = await asyncio.gather(*(wallet.transfer("a", "b", 1, "USD") for _ in range(3)))
            assert len({p.transaction_id for p in paid}) == 3

    asyncio.run(run())


@pytest.mark.parametrize("refused", [0, 2, 4])
def test_batch_and_single_calls_are_five_tries_together(refused: int) -> None:
    """They had five each, and a deadline each."""
    tried = Counter[str]()

    def answers(path: str, body: dict[str, Any]) -> httpx.Response:
        ids = [t["transaction_id"] for t in body.get("transfers", [body])]
        tried.update(ids)
        if len(ids) == 1 or tried["0"] <= refused:
            return httpx.Response(503, json={"code": "overloaded", "detail": "", "retryable": True})
        return httpx.Response(
            200, json={"results": [{"transaction_id": i, "status": "unknown"} for i in ids]}
        )

    async def run() -> None:
        async with AsyncWallet("http://w.test", batching=True, transport=scripted(answers)) as wallet:
            assert wallet._gatherer is not None
            wallet._gatherer._policy = wallet._policy._replace(random=lambda: 0.0)
            calls = [wallet.transfer("a", "b", 1, "USD", transaction_id=f"{n}") for n in range(2)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(r) for r in results} == {client.OutcomeUnknown}

    asyncio.run(run())
    assert tried == {"0": 5, "1": 5}


def test_a_refusal_does_not_tell_what_a_batch_has_done() -> None:
    """The key was revoked after a batch whose result for the transfer is unknown."""

    def answers(path: str, body: dict[str, Any]) -> httpx.Response:
        if path.endswith("/batch"):
            ids = [t["transaction_id"] for t in body["transfers"]]
            return httpx.Response(
                200, json={"results": [{"transaction_id": i, "status": "unknown"} for i in ids]}
            )
        return httpx.Response(401, json={"code": "unauthenticated", "detail": "", "retryable": False})

    async def run() -> None:
        async with AsyncWallet("http://w.test", batching=True, transport=scripted(answers)) as wallet:
            calls = [wallet.transfer("a", "b", 1, "USD", transaction_id=f"{n}") for n in range(2)]
            results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(r) for r in results} == {client.OutcomeUnknown}
            assert [(r.transaction_id, r.status) for r in results] == [("0", 401), ("1", 401)]

    asyncio.run(run())


def test_an_answer_with_too_few_results_leaves_no_caller_waiting() -> None:
    """It is unknown whose result is missing. So each transfer is sent again alone, with the same id."""

    def answers(path: str, body: dict[str, Any]) -> httpx.Response:
        if path.endswith("/batch"):
            known = body["transfers"][0]["transaction_id"]
            return httpx.Response(200, json={"results": [{"transaction_id": known, "status": "success"}]})
        return httpx.Response(200, json={"status": "success", "transaction_id": body["transaction_id"]})

    async def run() -> None:
        async with AsyncWallet("http://w.test", batching=True, transport=scripted(answers)) as wallet:
            calls = [wallet.transfer("a", "b", 1, "USD", transaction_id=f"{n}") for n in range(3)]
            async with asyncio.timeout(10):
                paid = await asyncio.gather(*calls)
            assert [p.transaction_id for p in paid] == ["0", "1", "2"]

    asyncio.run(run())


def test_when_nobody_answers_each_has_a_question_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(path: str, body: dict[str, Any]) -> httpx.Response:
        raise httpx.ConnectError("refused")

    async def run() -> None:
        async with AsyncWallet(
            "http://w.test", batching=True, transport=scripted(down), deadline_s=0.2
        ) as wallet:
            calls = [wallet.transfer("a", "b", 1, "USD", transaction_id=f"{n}") for n in range(3)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert [getattr(r, "transaction_id", r) for r in results] == ["0", "1", "2"]
            assert {type(r) for r in results} == {client.OutcomeUnknown}

    asyncio.run(run())


def test_an_error_of_all_is_of_each_with_the_request_by_which_the_service_knows_it() -> None:
    def unknown_key(path: str, body: dict[str, Any]) -> httpx.Response:
        problem = {"code": "unauthenticated", "detail": "", "retryable": False}
        return httpx.Response(401, json=problem, headers={"x-request-id": "r-1"})

    async def run() -> None:
        async with AsyncWallet("http://w.test", batching=True, transport=scripted(unknown_key)) as wallet:
            calls = [wallet.transfer("a", "b", 1, "USD", transaction_id=f"{n}") for n in range(2)]
            results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
            assert [(r.transaction_id, r.status, r.request_id) for r in results] == [
                ("0", 401, "r-1"),
                ("1", 401, "r-1"),
            ]

    asyncio.run(run())


def test_a_caller_that_gives_up_takes_nobody_along() -> None:
    async def run() -> None:
        async with AsyncFakeWallet(batching=True) as wallet:
            (ann,) = await funded(wallet, 1, "10")
            given_up = asyncio.ensure_future(wallet.transfer(ann, "@fees", 1, "USD"))
            stays = asyncio.ensure_future(wallet.transfer(ann, "@fees", 2, "USD"))
            await asyncio.sleep(0)
            given_up.cancel()
            assert isinstance(await stays, client.Transfer)
            assert (await wallet.balance(ann, "USD")).available == 7

    asyncio.run(run())


def test_closing_sends_what_waits() -> None:
    async def run() -> None:
        async with AsyncFakeWallet(batching=True) as wallet:
            waiting = asyncio.ensure_future(wallet.transfer("@bank", "@fees", 1, "USD"))
            await asyncio.sleep(0)
        assert isinstance(await waiting, client.Transfer)

    asyncio.run(run())
