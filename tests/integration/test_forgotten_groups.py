"""G1, G4: groups that are repeated after some of their partitions have forgotten them, and others have not.

Each partition forgets by its own windows, so a retention after a group its home may remember it and a part may not, or
the other way round.
"""

from collections.abc import Iterator

import pytest
from integration.test_api_groups import group, leg, stands
from support.dev_process import DevCluster
from support.forgetting import forgotten, no_group_is_open, rotated
from support.redis_peek import node_of
from support.replicated import command, wait_until
from support.verification import verified
from support.wallet_api import WalletApi, check_success, new_id

PARTITIONS = 16
HOME, NEAR, FAR = 2, 7, 13
#: A service takes a node that is silent for this long for lost.
SILENT_MS = 8_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(tmp_path_factory.mktemp("forgotten") / "dev", shards=2, partitions=PARTITIONS)
    try:
        yield started.start()
        verified(started)
    finally:
        started.kill_all()


@pytest.mark.parametrize(
    "forgetful",
    [(NEAR,), (NEAR, FAR), (HOME,), (HOME, NEAR)],
    ids=["a part", "all parts", "home", "home and a part"],
)
def test_g4_a_group_that_some_partitions_have_forgotten_is_not_paid_twice(
    cluster: DevCluster, forgetful: tuple[int, ...]
) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        a, b, c = (api.account(partition, "10.00") for partition in (HOME, NEAR, FAR))
        legs = [leg(a, b, "4.00"), leg(b, c, "1.00"), leg(c, a, "2.00")]
        id_ = new_id()
        check_success(group(api, *legs, transaction_id=id_), id_)
        no_group_is_open(cluster, api, HOME)
        forgotten(cluster, api, forgetful)
        for _ in range(2):
            check_success(group(api, *legs, transaction_id=id_), id_, replayed=True)
            stands(api, **{a: "8.00", b: "13.00", c: "9.00"})


def test_a_group_that_all_partitions_have_forgotten_is_another_one(cluster: DevCluster) -> None:
    with WalletApi(cluster.url, PARTITIONS) as api:
        a, b = api.account(HOME, "10.00"), api.account(FAR, "10.00")
        id_ = new_id()
        check_success(group(api, leg(a, b, "4.00"), transaction_id=id_), id_)
        no_group_is_open(cluster, api, HOME)
        forgotten(cluster, api, (HOME, FAR))
        check_success(group(api, leg(a, b, "4.00"), transaction_id=id_), id_)
        check_success(group(api, leg(a, b, "4.00"), transaction_id=id_), id_, replayed=True)
        stands(api, **{a: "2.00", b: "18.00"})


def test_a_group_that_was_interrupted_in_the_window_before_is_found_and_refunded(cluster: DevCluster) -> None:
    """Home remembers the attempt that was void in one window, and in the next one that the group was paid."""
    with WalletApi(cluster.url, PARTITIONS) as api:
        a, b = api.account(HOME, "10.00"), api.account(FAR, "10.00")
        id_, legs = new_id(), [leg(a, b, "4.00")]
        command(node_of(cluster, FAR, PARTITIONS), "CLIENT", "PAUSE", SILENT_MS)
        assert group(api, *legs, transaction_id=id_).status == 503
        cluster.wait_ready()
        rotated(cluster, api, HOME)
        wait_until(lambda: group(api, *legs, transaction_id=id_).status == 200, "it is paid")
        found = api.find(a, id_)
        assert (found.status, found.json().get("status")) == (200, "success"), found
        given_back = {"from_account": a, "transaction_id": new_id(), "leg": 0}
        assert api.post(f"/v1/transfers/{id_}/refunds", given_back).json()["refunded_total"] == "4.00"
        stands(api, **{a: "10.00", b: "10.00"})
