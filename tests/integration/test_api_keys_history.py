"""Keys and the past on a real cluster (G13): a limited key sees what touches its accounts, until it ends."""

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from integration.test_api_keys import admin, call, created, keys_of
from support.dev_process import DevCluster

from wallet_engine.dev.process import wait_until
from wallet_engine.http.parse_history import LIMIT_MAX

ARRIVES_S_MAX = 30.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    extra = ["--auth", "--history"]
    started = DevCluster(tmp_path_factory.mktemp("past") / "dev", partitions=4, extra=extra)
    try:
        yield started.start()
    finally:
        started.kill_all()


@pytest.fixture(scope="module")
def who(cluster: DevCluster) -> dict[str, str]:
    """Accounts with 100.00 each; `shop` and `till` are those of the key `key`."""
    run, keys = uuid.uuid4().hex[:8], keys_of(cluster)
    made = {name: f"{name}-{run}" for name in ("alice", "bob", "carol", "shop", "till")}
    for account in made.values():
        opening = {"account_id": account, "currency": "USD"}
        assert call(cluster.url, "/v1/accounts", keys["admin"], opening)[0] == 201
        assert paid(cluster, "@bank", account, "100.00")
    key = created(cluster, f"n-{run}", "--role", "payer", "--accounts", f"{made['shop']},{made['till']}")
    assert wait_until(lambda: call(cluster.url, f"/v1/accounts/{made['shop']}", key["key"])[0] == 200, 10)
    return {**made, "key": key["key"], "key_id": key["id"]}


def paid(cluster: DevCluster, payer: str, receiver: str, amount: str = "1.00", **more: Any) -> str:
    body = {"from_account": payer, "to_account": receiver, "amount": amount, "currency": "USD", **more}
    body["transaction_id"] = str(uuid.uuid4())
    status, told = call(cluster.url, "/v1/wallet/balance_transfer", keys_of(cluster)["admin"], body)
    assert status == 200, told
    return str(body["transaction_id"])


def refund(cluster: DevCluster, key: str, of: str, payer: str, **more: Any) -> tuple[int, dict[str, Any]]:
    """The answer; the call is repeated while the history is behind, as on a busy machine."""
    body = {"from_account": payer, "transaction_id": str(uuid.uuid4()), **more}
    told: list[tuple[int, dict[str, Any]]] = []

    def answered() -> bool:
        told.append(call(cluster.url, f"/v1/transfers/{of}/refunds", key, body))
        return told[-1][1].get("code") != "history_behind"

    assert wait_until(answered, ARRIVES_S_MAX, poll_s=0.1), told[-1]
    return told[-1]


def grouped(cluster: DevCluster, *legs: tuple[str, str, str], **more: Any) -> str:
    body: dict[str, Any] = {"transaction_id": str(uuid.uuid4()), **more}
    body["legs"] = [
        {
            "from_account": payer,
            "to_account": receiver,
            "amount": amount,
            "currency": "USD",
            "reference": payer,
        }
        for payer, receiver, amount in legs
    ]
    status, told = call(cluster.url, "/v1/transfers/group", keys_of(cluster)["admin"], body)
    assert status == 200, told
    return str(body["transaction_id"])


def test_a_refusal_tells_nothing_of_a_transfer_of_others(cluster: DevCluster, who: dict[str, str]) -> None:
    foreign = paid(cluster, who["alice"], who["bob"])
    group = grouped(cluster, (who["alice"], who["bob"], "1.00"), (who["carol"], who["bob"], "2.00"))
    asked: list[tuple[str, dict[str, Any]]] = [
        *((foreign, more) for more in ({}, {"amount": "1.00"}, {"amount": "1.001"}, {"leg": 0})),
        *((group, more) for more in ({}, {"leg": 0}, {"leg": 1}, {"leg": 9})),
    ]
    for of, more in asked:
        status, told = refund(cluster, who["key"], of, who["alice"], **more)
        assert (status, told["code"]) == (403, "forbidden"), (more, told)
        for word in (who["bob"], who["carol"], "USD", "leg", "group"):
            assert word not in told["detail"], told
    # What touches its accounts it may give back, and is told what is wrong.
    own = paid(cluster, who["alice"], who["shop"])
    assert refund(cluster, who["key"], own, who["alice"], amount="1.001")[1]["code"] == "invalid_amount"
    assert refund(cluster, who["key"], own, who["alice"], leg=0)[1]["code"] == "invalid_request"
    assert refund(cluster, who["key"], own, who["alice"])[0] == 200
    assert refund(cluster, who["key"], str(uuid.uuid4()), who["alice"])[1]["code"] == "transfer_not_found"


def test_of_a_group_each_sees_the_legs_of_its_accounts(cluster: DevCluster, who: dict[str, str]) -> None:
    legs = [
        (who["alice"], who["bob"], "1.00"),
        (who["alice"], who["shop"], "2.00"),
        (who["carol"], who["bob"], "3.00"),
        (who["till"], who["carol"], "4.00"),
    ]
    group, url = grouped(cluster, *legs, reference="split"), cluster.url
    path = f"/v1/transfers/{group}?from_account={who['alice']}"
    events = f"/v1/events?account={who['shop']}&types=group.succeeded"

    def told(key: str) -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = call(url, events, key)[1]["events"]
        return next((e["data"]["legs"] for e in found if e["data"]["transaction_id"] == group), None)

    assert wait_until(lambda: told(who["key"]) is not None, ARRIVES_S_MAX, poll_s=0.1)
    for key, shown in ((who["key"], (1, 3)), (keys_of(cluster)["auditor"], (0, 1, 2, 3))):
        for found in (call(url, path, key)[1]["legs"], told(key)):
            assert found == [
                {
                    **{"from_account": legs[idx][0], "to_account": legs[idx][1], "amount": legs[idx][2]},
                    **{"currency": "USD", "reference": legs[idx][0]},
                    **({} if place == idx else {"leg": idx}),
                }
                for place, idx in enumerate(shown)
            ]
    # Its index is what a refund names.
    assert refund(cluster, who["key"], group, who["alice"], leg=1)[0] == 200
    status, problem = refund(cluster, who["key"], group, who["alice"], leg=2)
    assert (status, who["bob"] in problem["detail"]) == (403, False)


def test_pages_of_a_reference_do_not_tell_of_transfers_of_others(
    cluster: DevCluster, who: dict[str, str]
) -> None:
    reference, admin_key = uuid.uuid4().hex, keys_of(cluster)["admin"]
    sides = [("alice", "shop"), *[("alice", "bob")] * 3, ("till", "bob"), *[("carol", "bob")] * 3]
    ids = [paid(cluster, who[payer], who[to], "0.01", reference=reference) for payer, to in sides]

    def pages(key: str, limit: int) -> list[list[str]]:
        found, cursor = [], ""
        while True:
            path = f"/v1/transfers?reference={reference}&limit={limit}{cursor}"
            status, page = call(cluster.url, path, key)
            assert status == 200, page
            found.append([each["transaction_id"] for each in page["transfers"]])
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    assert wait_until(lambda: len(pages(admin_key, LIMIT_MAX)[0]) == len(ids), ARRIVES_S_MAX, poll_s=0.1)
    assert pages(who["key"], 1) == [[ids[4]], [ids[0]]]
    assert pages(who["key"], 2) == [[ids[4], ids[0]]]
    assert [each for page in pages(admin_key, 3) for each in page] == ids[::-1]
    patterns: list[tuple[str, list[int]]] = [
        ("nobody-*", []),
        (f"*{who['till'][4:]}", [7, 6, 5, 4, 3, 2, 1, 0]),
        (f"t*{who['till'][4:]},c*", [7, 6, 5, 4]),
        ("bo", []),
        ("ob*", []),
    ]
    for pattern, seen in patterns:
        name = f"n-{uuid.uuid4().hex}"
        made = created(cluster, name, "--role", "account-admin", "--accounts", pattern)
        first = [[ids[n] for n in seen]]
        assert wait_until(lambda key=made["key"]: call(cluster.url, "/v1/transfers", key)[0] != 401, 10)
        assert pages(made["key"], LIMIT_MAX) == first, pattern
    treasury = created(
        cluster, f"t-{reference}", "--role", "treasury", "--accounts", "no", "--system", "@fees"
    )
    fee = paid(cluster, who["carol"], "@fees", "0.01", reference=reference)
    assert wait_until(lambda: pages(admin_key, 1)[0] == [fee], ARRIVES_S_MAX, poll_s=0.1)
    assert pages(treasury["key"], LIMIT_MAX) == [[fee]]


def test_a_key_that_has_ended_is_told_nothing_more(cluster: DevCluster, who: dict[str, str]) -> None:
    made = created(cluster, f"n-{uuid.uuid4().hex}", "--role", "auditor")
    assert wait_until(lambda: call(cluster.url, "/v1/events", made["key"])[0] == 200, 10)
    after = ""
    while (page := call(cluster.url, f"/v1/events?limit=200{after}", made["key"])[1])["events"]:
        after = f"&after={page['next']}"
    answers: list[tuple[int, dict[str, Any]]] = []
    path = f"/v1/events?wait_s=30{after}"
    waiting = threading.Thread(target=lambda: answers.append(call(cluster.url, path, made["key"])))
    waiting.start()
    time.sleep(0.5)
    admin(cluster, "key", "revoke", made["id"], "--yes")
    assert wait_until(lambda: call(cluster.url, "/v1/events", made["key"])[0] == 401, 10)
    paid(cluster, who["alice"], who["bob"])  # of which the waiting call must not tell
    waiting.join(35)
    assert [(status, told.get("code")) for status, told in answers] == [(401, "unauthenticated")]
