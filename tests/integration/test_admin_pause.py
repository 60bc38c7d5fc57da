"""`wallet-admin pause` and `unpause`: every payment is refused, open transfers end, and everything else goes on."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from support.dev_process import DevCluster
from support.verification import verified
from support.wallet_api import WalletApi, check_success, new_id, transfer_body
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.waiting import wait_until
from wallet_engine.http.endpoints import ENDPOINTS

PARTITIONS = 16
WHY = "bank closed until 06:00"
PAYING = {
    "/v1/wallet/balance_transfer",
    "/v1/transfers/batch",
    "/v1/transfers/group",
    "/v1/transfers/{transaction_id}/refunds",
    "/v1/holds",
    "/v1/holds/{hold_id}/capture",
    "/v1/holds/{hold_id}/increase",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path_factory.mktemp("pause") / "dev", partitions=PARTITIONS, apis=2, embedded=True
    )
    try:
        yield started.start()
        verified(started)
    finally:
        started.kill_all()


@pytest.fixture
def flags(cluster: DevCluster) -> Iterator[list[str]]:
    flags = cluster.coordination_flags()
    yield flags
    answer("unpause", "--yes", *flags)


@pytest.fixture
def apis(cluster: DevCluster) -> Iterator[list[WalletApi]]:
    with WalletApi(cluster.urls[0], PARTITIONS) as one, WalletApi(cluster.urls[1], PARTITIONS) as two:
        yield [one, two]


def payments(account: str, hold_id: str) -> dict[str, dict[str, Any]]:
    """Path -> body, for every request that moves money."""
    one = transfer_body("@bank", account, "1.00", new_id())
    leg = {name: one[name] for name in ("from_account", "to_account", "amount", "currency")}
    held = {"account_id": account, "amount": "1.00", "transaction_id": new_id()}
    return {
        "/v1/wallet/balance_transfer": one,
        "/v1/transfers/batch": {"transfers": [one]},
        "/v1/transfers/group": {"legs": [leg], "transaction_id": new_id()},
        f"/v1/transfers/{new_id()}/refunds": {"from_account": account, "transaction_id": new_id()},
        "/v1/holds": {**held, "currency": "USD"},
        f"/v1/holds/{hold_id}/capture": {**held, "to_account": "@fees"},
        f"/v1/holds/{hold_id}/increase": held,
    }


def test_what_moves_money_is_marked_so() -> None:
    assert {endpoint.template for endpoint in ENDPOINTS if endpoint.pays} == PAYING


def test_nothing_is_paid_and_all_else_goes_on(apis: list[WalletApi], flags: list[str]) -> None:
    ann = apis[0].account(0, "10.00")
    hold_id = new_id()
    held = {"account_id": ann, "amount": "4.00", "currency": "USD", "transaction_id": hold_id}
    assert apis[0].post("/v1/holds", held).status == 201
    assert answer("pause", "--reason", WHY, "--yes", *flags)["paused"] is True
    for api in apis:
        for path, body in payments(ann, hold_id).items():
            reply = api.post(path, body)
            assert (reply.status, reply.json()["code"], reply.json()["detail"]) == (503, "maintenance", WHY)
            assert reply.json()["retryable"]
            assert reply.json().get("transaction_id") == body.get("transaction_id")
            assert reply.headers["retry-after"] == "5"
        ready = api.get("/readyz")
        assert (ready.status, ready.json()["status"]) == (200, "degraded")
        assert WHY in ready.json()["reason"]
        assert api.balance(ann) == "10.00"
        assert b"wallet_paused 1.0" in api.get("/metrics").body
        assert api.flag(ann, "freeze").status == api.flag(ann, "unfreeze").status == 200
    assert apis[0].post(f"/v1/holds/{hold_id}/void", {"account_id": ann}).status == 200
    assert answer("status", *flags)["paused"] == WHY
    assert answer("pending", *flags)["entries"] == []
    assert f"no new payments are taken: {WHY}" in admin("status", *flags).stdout
    assert WHY in refusal(admin("pause", "--reason", "another", "--yes", *flags))
    assert answer("unpause", "--yes", *flags) == {"paused": False, "was": WHY}
    for api in apis:
        assert api.get("/readyz").json()["status"] == "ready"


def test_the_same_id_pays_when_it_is_over(apis: list[WalletApi], flags: list[str]) -> None:
    ann, paid = apis[0].account(3), new_id()
    answer("pause", "--reason", WHY, "--yes", *flags)
    assert apis[0].pay("@bank", ann, "2.00", transaction_id=paid).status == 503
    answer("unpause", "--yes", *flags)
    check_success(apis[1].pay("@bank", ann, "2.00", transaction_id=paid), paid)
    check_success(apis[0].pay("@bank", ann, "2.00", transaction_id=paid), paid, replayed=True)
    assert apis[0].balance(ann) == "2.00"


def test_a_process_that_starts_meanwhile_is_paused_too(cluster: DevCluster, flags: list[str]) -> None:
    answer("pause", "--reason", WHY, "--yes", *flags)
    cluster.restart("api-1")
    url = cluster.urls[0].removeprefix("http://")
    wait_until(lambda: answered(cluster.urls[0]), f"{url} does not answer", 60)
    with WalletApi(cluster.urls[0], PARTITIONS) as api:
        assert api.pay("@bank", "@fees", "1.00").json()["code"] == "maintenance"
    answer("unpause", "--yes", *flags)
    cluster.wait_ready()


def answered(url: str) -> bool:
    with contextlib.suppress(OSError), WalletApi(url, PARTITIONS) as api:
        return api.get("/healthz").status == 200
    return False


def test_the_plan_says_who_will_refuse(cluster: DevCluster, flags: list[str]) -> None:
    plan = answer("pause", "--reason", WHY, "--dry-run", *flags)["plan"]
    assert sorted(plan["api_processes"]) == sorted(url.removeprefix("http://") for url in cluster.urls)
    assert answer("unpause", "--yes", *flags)["was"] is None


@pytest.mark.parametrize("reason", ["", " ", "x" * 201, "two\nlines"])
def test_a_reason_is_a_line_of_text(flags: list[str], reason: str) -> None:
    refusal(admin("pause", "--reason", reason, "--yes", *flags), 2)
