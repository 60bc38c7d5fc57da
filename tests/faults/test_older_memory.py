"""G4: Redis remembers ids in an older form, as after an upgrade in place; no remembered id is taken for new."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from zlib import crc32

import pytest
from support.dev_process import DevCluster
from support.redis_peek import node_of
from support.replicated import command, wait_until
from support.verification import verified
from support.wallet_api import WalletApi, check_success, new_id

from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.memory import FORM, transfer_field
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.routing.slots import tag_of

PARTITIONS = 4

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    started = DevCluster(
        tmp_path_factory.mktemp("older") / "dev", shards=2, partitions=PARTITIONS, embedded=True
    )
    try:
        yield started.start()
    finally:
        started.kill_all()


def age(cluster: DevCluster, partition: int, sender: str, transaction_id: str) -> str:
    """Rewrite the partition's memory as an earlier version has it; returns the transfer's field in it."""
    node, keys = (
        node_of(cluster, partition, PARTITIONS),
        PartitionKeys(tag_of(partition, PARTITIONS)),
    )
    packed = pack_transaction_id(transaction_id)
    field, before = transfer_field(sender, packed), f"{packed}{crc32(sender.encode()):08x}"
    record = command(node, "HGET", keys.seen(1), field)
    assert record is not None
    command(node, "HDEL", keys.seen(1), field)
    command(node, "HSET", keys.seen(1), before, record)
    assert command(node, "HGET", keys.meta, "form") == FORM
    command(node, "HDEL", keys.meta, "form")
    return before


def test_g4_a_memory_of_another_form_is_made_anew(cluster: DevCluster) -> None:
    """The process that loads this version's scripts does it, and a service of this version waits for that."""
    with WalletApi(cluster.url, PARTITIONS) as api:
        for partition in range(PARTITIONS):
            sender, receiver = api.account(partition, "5.00"), api.account((partition + 1) % PARTITIONS)
            transaction_id = new_id()
            api.paid(sender, receiver, "1.00", transaction_id=transaction_id)
            before = age(cluster, partition, sender, transaction_id)
            node = node_of(cluster, partition, PARTITIONS)
            command(node, "SCRIPT", "FLUSH")
            reply = api.paid(sender, receiver, "1.00", transaction_id=transaction_id)
            check_success(reply, transaction_id, replayed=True)
            assert (api.balance(sender), api.balance(receiver)) == ("4.00", "1.00")
            keys = PartitionKeys(tag_of(partition, PARTITIONS))
            assert command(node, "HGET", keys.meta, "form") == FORM
            assert not command(node, "HEXISTS", keys.seen(1), before)
    verified(cluster)


def test_g4_a_memory_of_a_later_form_is_left_as_it_is(cluster: DevCluster) -> None:
    """The journal process ends with one line that says what to do; with a form that it knows, all goes on."""
    node, keys = node_of(cluster, 0, PARTITIONS), PartitionKeys(tag_of(0, PARTITIONS))
    log = cluster.data_dir / "logs" / "journal-j1.log"
    read = log.stat().st_size
    said = f"Redis remembers ids in form {int(FORM) + 1}, and this program knows them up to {FORM}"
    with WalletApi(cluster.url, PARTITIONS) as api, ThreadPoolExecutor(1) as caller:
        account = api.account(0, "5.00")
        seq = command(node, "HGET", keys.meta, "seq")
        command(node, "HSET", keys.meta, "form", int(FORM) + 1)
        command(node, "SCRIPT", "FLUSH")
        paying = caller.submit(api.pay, account, "@fees", "1.00")  # the payment asks for the recovery
        wait_until(lambda: f"Error: {said}" in log.read_text()[read:], "the journal process has ended")
        assert command(node, "HMGET", keys.meta, "form", "seq", "state") == [str(int(FORM) + 1), seq, "live"]
        command(node, "HSET", keys.meta, "form", FORM)
        cluster.wait_ready()
        assert paying.result().status in (200, 503)


def test_g4_names_of_one_crc_may_pay_under_one_id(cluster: DevCluster) -> None:
    names = ("plumless", "buckeroo")
    assert len({crc32(name.encode()) for name in names}) == 1
    transaction_id = new_id()
    with WalletApi(cluster.url, PARTITIONS) as api:
        for name in names:
            assert api.open(name).status == 201
            api.paid("@bank", name, "2.00")
            api.paid(name, "@bank", "1.00", transaction_id=transaction_id)
        for name in names:
            check_success(
                api.paid(name, "@bank", "1.00", transaction_id=transaction_id), transaction_id, replayed=True
            )
            assert api.balance(name) == "1.00"
