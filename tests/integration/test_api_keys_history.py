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
