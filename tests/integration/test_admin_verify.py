"""`wallet-admin verify` on a real Redis: what it proves, what it notices, and that traffic does not disturb it."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from lua.random_batches import RandomBatches
from support.clusters import RedisClusterFactory
from unit.admin.live import LiveCluster, some_of_everything
from unit.admin.made import admin, answer, refusal

from wallet_engine.admin.proof import cluster as proof
from wallet_engine.admin.proof.image import PartitionImage
from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.memory import transfer_field, transfer_fingerprint
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import from_stream

Spoil = Callable[[LiveCluster, PartitionKeys], object]


@pytest.fixture
def cluster(redis_cluster: RedisClusterFactory, tmp_path: Path) -> Iterator[LiveCluster]:
    """Two shards."""
    with some_of_everything(redis_cluster(2), tmp_path) as live:
        yield live


def test_everything_agrees(cluster: LiveCluster) -> None:
    """G2, G6."""
    document = answer("verify", "--map-file", cluster.map_file)
    assert document == {
        "ok": True,
        "offline": False,
        "partitions": 4,
        "entries": 9,
        "accounts": 6,
        "open_entries": 2,
        "mismatches": [],
        "mismatches_total": 0,
        "in_transit": {"JPY": "0", "USD": "0.01"},
        "journal": {"journal_id": "j1", "directory": str(cluster.writer.directory)},
    }
    result = admin("verify", "--map-file", cluster.map_file)
    assert result.exit_code == 0
    assert "ok: Redis holds what the journal says" in result.stdout
    assert result.stderr == "", "no progress bars where nobody looks"


def test_each_part_is_one_transaction(cluster: LiveCluster) -> None:
    """Otherwise the fields of a part need not belong to its sequence number."""
    calls = []
    for _ in range(2):
        stats = cluster.clients[1].info("commandstats")
        calls.append(
            {name: stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("exec", "hscan", "zscan")}
        )
        answer("verify", "--map-file", cluster.map_file)
    hashes, sets = (calls[1][name] - calls[0][name] for name in ("hscan", "zscan"))
    assert hashes > 0
    assert sets > 0, "what is open"
    scans = hashes + sets
    assert calls[1]["exec"] - calls[0]["exec"] == scans + 2, "and one for each of the shard's partitions"


def field(kind: str, name: str, value: str | None) -> Spoil:
    def spoil(cluster: LiveCluster, keys: PartitionKeys) -> None:
        key = f"{kind}{{{keys.tag}}}"
        if value is None:
            assert cluster.clients[1].hdel(key, name) == 1
        else:
            cluster.clients[1].hset(key, name, value)

    return spoil


ANSWER = transfer_field("alice", "3")
FINGERPRINT = transfer_fingerprint("alice", "bob 250 USD")


def command(*words: str) -> Spoil:
    return lambda cluster, keys: cluster.clients[1].execute_command(
        *(word.format(tag=f"{{{keys.tag}}}") for word in words)
    )


@pytest.mark.parametrize(
    ("spoil", "what", "key", "journal", "redis"),
    [
        (field("balance:USD", "alice", "756"), "balance", "alice USD", "7.55", "7.56"),
        (field("balance:USD", "bob", None), "balance", "bob USD", "2.49", None),
        (field("balance:JPY", "eve", "1"), "balance", "eve JPY", None, "1"),
        (field("balance:USD", "@transit", "0"), "balance", "@transit USD", "-0.04", "0.00"),
        (field("flags", "bob", "A USD=500"), "flags", "bob", "F USD=500", "A USD=500"),
        (field("flags", "alice", "C"), "flags", "alice", None, "C"),
        (
            field("seen:1", ANSWER, f"iD{FINGERPRINT}AA"),
            *("dedupe", f"{ANSWER} (window 1)", f"+D{FINGERPRINT}AA", f"iD{FINGERPRINT}AA"),
        ),
        (field("seen:1", "2.", None), "dedupe", "2. (window 1)", "dAB+", None),
        (field("meta", "nonce", "f" * 16), "meta", "nonce", f"{4:016x}", "f" * 16),
        (field("meta", "seq", None), "meta", "seq", "4", None),
        (field("meta", "seq", "5"), "journal", "last seq", "4", "5"),
        (command("ZREM", "open{tag}", "3.1"), "open", "3.1", "3", None),
        (command("ZADD", "open{tag}", "2", "2"), "open", "2", None, "2"),
        (command("DEL", "meta{tag}"), "meta", "seq", "4", None),
        (command("DEL", "balance:JPY{tag}"), "balance", "alice JPY", "7", None),
        (command("SET", "rubbish{tag}", "x"), "key", "rubbish", None, "present"),
        (command("RENAME", "seen:1{tag}", "seen:7{tag}"), "key", "seen:7", None, "present"),
    ],
)
def test_one_difference(
    cluster: LiveCluster,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Spoil,
    what: str,
    key: str,
    journal: str | None,
    redis: str | None,
) -> None:
    monkeypatch.setattr("wallet_engine.admin.proof.cluster.JOURNAL_WAIT_S_MAX", 0.2)
    monkeypatch.setattr("wallet_engine.admin.proof.cluster._ROUND_PAUSE_S", 0.0)
    spoil(cluster, cluster.partitions[1].keys)
    document = answer("verify", "--map-file", cluster.map_file, status=1)
    assert document["ok"] is False
    expected = {"partition": 1, "what": what, "key": key, "journal": journal, "redis": redis}
    assert expected in document["mismatches"]
    assert {mismatch["partition"] for mismatch in document["mismatches"]} == {1}
    assert document["mismatches_total"] == len(document["mismatches"])


def test_g1_a_credit_without_a_debit(cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis equals the journal, every partition's books balance, and yet money was created."""
    monkeypatch.setattr("wallet_engine.admin.proof.cluster.JOURNAL_WAIT_S_MAX", 0.2)
    cluster.apply(0, "c 2.9 bob 0 5 USD")
    for words in (("verify",), ("verify", "--offline")):
        (mismatch,) = answer(*words, "--map-file", cluster.map_file, status=1)["mismatches"]
        assert mismatch == {
            "partition": 0,
            "what": "transit",
            "key": "2.9.0",
            "journal": "credit to bob of 5 USD, and there is no such debit",
            "redis": None,
        }
    shown = admin("verify", "--map-file", cluster.map_file)
    assert shown.exit_code == 1
    assert "NOT OK: 1 mismatches" in shown.stdout


def test_g1_a_debit_behind_the_cut_is_looked_for(
    cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partition 0 is read before the debit, partition 2 after the credit: `verify` looks for the debit beyond it."""
    take = proof.take_image
    paid: list[str] = []

    def take_slowly(client: redis.Redis, partition: int, keys: PartitionKeys) -> PartitionImage:
        image = take(client, partition, keys)
        if partition == 0 and not paid:
            paid.append(cluster.apply(0, "d 7 alice bob 5 USD"))
            paid.append(cluster.apply(2, "c 0.3 bob 0 5 USD"))
        return image

    monkeypatch.setattr(proof, "take_image", take_slowly)
    document = answer("verify", "--map-file", cluster.map_file)
    assert paid == ["+", "+"]
    assert (document["ok"], document["in_transit"]["USD"]) == (True, "0.01")


def test_an_emptied_redis(cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet_engine.admin.proof.cluster._ROUND_PAUSE_S", 0.0)
    cluster.clients[0].flushall()
    document = answer("verify", "--map-file", cluster.map_file, status=1)
    assert [(m["partition"], m["what"], m["journal"]) for m in document["mismatches"]] == [
        (0, "meta", "2"),
        (1, "meta", "4"),
    ]


def test_an_older_redis(cluster: LiveCluster) -> None:
    """It equals the journal at its own sequence number, but lacks later entries: that would break G5."""
    lua = cluster.partitions[0]
    first, second = lua.payloads()
    lua.empty("recovering")
    assert lua.replay(first)[0] == "OK"
    lua.meta(state="live")
    time.sleep(max(0.0, parse_header(second).time_ms / 1000 + 0.2 - time.time()))
    (mismatch,) = answer("verify", "--map-file", cluster.map_file, status=1)["mismatches"]
    assert mismatch == {"partition": 0, "what": "meta", "key": "seq", "journal": "2 or more", "redis": "1"}


def test_an_edited_journal(cluster: LiveCluster) -> None:
    path = cluster.writer.directory / "00000001.wal"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"@transit",1000', b'"@transit",9000', 1))
    (mismatch,) = answer("verify", "--map-file", cluster.map_file, status=1)["mismatches"]
    assert (mismatch["partition"], mismatch["what"]) == (None, "journal")
    assert f"{path} at offset" in mismatch["journal"]


def test_a_journal_that_is_not_there_yet_is_waited_for(cluster: LiveCluster) -> None:
    cluster.apply(2, "t 9 @bank bob 1 USD", drain=False)
    timer = threading.Timer(0.5, cluster.drain, (2,))
    timer.start()
    assert answer("verify", "--map-file", cluster.map_file)["entries"] == 10
    timer.join()


def test_a_partition_that_is_recovered_meanwhile_is_looked_at_again(
    cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery during `verify` is no mismatch."""
    monkeypatch.setattr("wallet_engine.admin.proof.cluster.JOURNAL_WAIT_S_MAX", 0.2)
    lua = cluster.partitions[1]
    payloads = lua.payloads()
    lua.empty("recovering")

    def recover() -> None:
        for payload in payloads:
            assert lua.replay(payload)[0] == "OK"
        lua.meta(state="live")

    timer = threading.Timer(0.6, recover)
    timer.start()
    document = answer("verify", "--map-file", cluster.map_file)
    timer.join()
    assert document["ok"]
    assert document["entries"] == 9, "counted once"


def test_a_slot_that_redis_has_elsewhere(cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet_engine.admin.proof.cluster.PRIMARY_WAIT_S_MAX", 0.3)
    directory = cluster.directory
    placement = directory.partition_map()
    directory.replace_map(placement, placement.with_shard(1, "s2"))
    said = refusal(admin("verify", "--map-file", cluster.map_file))
    (one,), (two,) = (shard.nodes for shard in directory.shards().values())
    assert f"shard s2: slot 4096 is at {one} for Redis, not at {two}: mend that" in said


def test_while_traffic_is_running(cluster: LiveCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` reads many small parts, the partition changes between any two of them, and there is no false alarm."""
    monkeypatch.setattr("wallet_engine.admin.proof.image.FIELDS_PER_PART", 7)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    stop = threading.Event()
    applied = []
    lua = cluster.partitions[2]
    for start in range(0, 3000, 100):  # large enough for HSCAN to return it in pieces
        cluster.apply(2, *(f"o - n{number} - 0 USD" for number in range(start, start + 100)))

    def traffic() -> None:
        batches = RandomBatches(seed)
        for payload in lua.payloads():
            apply_payload(batches.state, payload)
        while not stop.is_set():
            # No operations between partitions: random ones would lack their other side.
            lines = [line for line in batches.batch() if line[0] not in "dcrsqulxzjpgybw"] or [
                "o - alice - 0 USD"
            ]
            reply = lua.apply(lines)
            assert reply[0] == "OK"
            cluster.drain(2)
            for payload in [
                from_stream(*map(str.encode, entry[1].values()))
                for entry in lua.client.xrange(lua.keys.journal, f"{batches.state.seq + 1}-0")
            ]:
                header = apply_payload(batches.state, payload)
                batches.note(lines, header.outcomes)
                applied.append(header.seq)

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        under_traffic, deadline_s = 0, time.monotonic() + 60
        while under_traffic < 3:
            before = len(applied)
            assert answer("verify", "--map-file", cluster.map_file)["ok"]
            under_traffic += len(applied) > before + 10
            assert thread.is_alive()
            assert time.monotonic() < deadline_s, "there was no traffic"
    finally:
        stop.set()
        thread.join()
    assert answer("verify", "--map-file", cluster.map_file)["entries"] == 39 + len(applied)
    lua.client.hincrby(lua.keys.balance("USD"), "n2999", 1)
    (mismatch,) = answer("verify", "--map-file", cluster.map_file, status=1)["mismatches"]
    assert mismatch == {
        "partition": 2,
        "what": "balance",
        "key": "n2999 USD",
        "journal": "0.00",
        "redis": "0.01",
    }
