"""One call for several partitions: each is guarded, decided and answered by itself."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import redis
from lua.partition import NEVER_MS, LuaPartition
from support.clusters import RedisClusterFactory
from support.commands import words_of

from wallet_engine.dev.redis_cluster import RedisCluster
from wallet_engine.domain.columns import pack
from wallet_engine.domain.kinds import KINDS
from wallet_engine.domain.operation import parse_operation
from wallet_engine.redis_store.apply_call import apply_command, apply_part
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.refusals import Meaning, refusal_inside
from wallet_engine.routing.slots import slot_of, tag_of

PARTITIONS: Final = 64
OTHER_NODE: Final = 40
FUND: Final = ["o - alice - 0 USD", "t FFFFFFFFFFFFFFFFFFFFFF @bank alice 100 USD"]
REPLICA_S_MAX: Final = 20.0
AMOUNT_MIN: Final = -(2**53 - 1)
#: Operations that begin a key of their partition.
BEGINNERS: Final = (
    "d " + "B" * 22 + " alice bob 1 USD",
    "h " + "B" * 22 + " alice -|60000 1 USD",
    "o - carol 500 0 USD",
)


class Node:
    """The first of two nodes, with three live partitions in three slots."""

    def __init__(self, cluster: RedisCluster) -> None:
        self.cluster = cluster
        self.client = cluster.primary("s1").client()
        self.client.connection_pool.connection_kwargs["decode_responses"] = True
        self.parts = [LuaPartition(self.client, tag_of(p, PARTITIONS)) for p in (1, 2, 3)]
        for part in self.parts:
            assert part.apply(FUND)[0] == "OK"
        self.numbers = 0

    def part(self, keys: PartitionKeys, lines: list[str], epoch: int = 1, window: int = 1) -> bytes:
        self.numbers += 1
        seconds, _ = self.client.time()
        return apply_part(
            *(keys, (), pack([parse_operation(line) for line in lines])),
            epoch=epoch,
            nonce=f"{self.numbers:016x}",
            issued_ms=int(seconds) * 1000,
            window=window,
        )

    def call(self, parts: list[bytes], sha: str = "", stream_entries_max: int = 1_000) -> list[Any]:
        """The answers; of one that passed the outcomes only."""
        command = apply_command(
            sha or self.parts[0].apply_script.sha,
            parts,
            window_ms=NEVER_MS,
            stream_entries_max=stream_entries_max,
            issued_age_ms_max=300_000,
        )
        answers = self.client.execute_command(*words_of(command))
        return [answer if isinstance(answer, list) else answer.split(" ")[6] for answer in answers]

    def debit(self, n: int, number: int = 0) -> bytes:
        return self.part(self.parts[n].keys, [f"d D{number:021} alice bob 1 USD"])

    def balances(self) -> list[str | None]:
        return [self.client.hget(part.keys.balance("USD"), "alice") for part in self.parts]


def held(client: Any, part: LuaPartition) -> dict[str, Any]:
    """What a node has in the keys of a partition."""
    read = {"hash": client.hgetall, "stream": client.xrange, "zset": lambda key: client.zrange(key, 0, -1)}
    return {key: read[client.type(key)](key) for key in client.keys("*{" + part.keys.tag + "}")}


@pytest.fixture(params=["system", pytest.param("bundled", marks=pytest.mark.soak)])
def node(request: pytest.FixtureRequest, redis_cluster: RedisClusterFactory) -> Iterator[Node]:
    found = Node(redis_cluster(2, bundled=request.param == "bundled"))
    try:
        yield found
    finally:
        found.client.close()


def test_partitions_of_one_call_are_decided_each_by_itself(node: Node) -> None:
    """The same id in each is another's; an order that one partition cannot pay stops nobody."""
    parts = [node.part(part.keys, ["d " + "E" * 22 + " alice bob 60 USD"]) for part in node.parts]
    assert node.call(parts) == ["+", "+", "+"]
    again = [
        node.part(node.parts[0].keys, ["d " + "G" * 22 + " alice bob 60 USD"]),
        node.part(node.parts[1].keys, ["d " + "E" * 22 + " alice bob 60 USD", "s 2 - - 0 -"]),
        node.part(node.parts[2].keys, ["t " + "G" * 22 + " alice @bank 40 USD"]),
    ]
    assert node.call(again) == ["i", "=+", "+"]
    assert node.balances() == ["40", "40", "0"]
    for part in node.parts:
        entries = node.client.xrange(part.keys.journal)
        assert [int(entry.partition("-")[0]) for entry, _ in entries] == [*range(1, len(entries) + 1)]
        assert int(node.client.hget(part.keys.meta, "seq")) == len(entries)


def test_every_key_is_in_its_own_slot(node: Node) -> None:
    """A node that keeps keys by slot must not put those of one partition into another's."""
    node.call([node.debit(n) for n in range(3)])
    for part in node.parts:
        keys = set(node.client.keys("*{" + part.keys.tag + "}"))
        slot = slot_of(part.keys.tag)
        assert set(node.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1_000)) == keys
        assert {part.keys.meta, part.keys.journal, part.keys.open, part.keys.seen(1)} <= keys


def _stale(node: Node, part: LuaPartition) -> list[str]:
    part.meta(epoch=2)
    return ["EPOCH", "2"]


def _recovering(node: Node, part: LuaPartition) -> list[str]:
    part.meta(state="recovering")
    return ["STATE", "recovering"]


def _moved(node: Node, part: LuaPartition) -> list[str]:
    node.client.delete(part.keys.meta)
    return ["STATE", "absent"]


def _promoted(node: Node, part: LuaPartition) -> list[str]:
    part.meta(owner="f" * 40)
    return ["OWNER", "f" * 40]


def _limited(node: Node, part: LuaPartition) -> list[str]:
    part.meta(flagged=2)
    return ["LIMITS", "2"]


def _rotating(node: Node, part: LuaPartition) -> list[str]:
    part.meta(window=2)
    return ["WINDOW", "2"]


@pytest.mark.parametrize("spoil", [_stale, _recovering, _moved, _promoted, _limited, _rotating])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_that_is_refused_holds_up_no_other(
    node: Node, spoil: Callable[[Node, LuaPartition], list[str]], at: int
) -> None:
    spoilt = node.parts[at]
    expected: list[Any] = spoil(node, spoilt)
    before = held(node.client, spoilt)
    answers = node.call([node.debit(n) for n in range(3)])
    code, shown = answers.pop(at)
    assert [code, str(shown)] == expected
    assert answers == ["+", "+"]
    assert held(node.client, spoilt) == before
    assert [balance for n, balance in enumerate(node.balances()) if n != at] == ["99", "99"]


def test_one_that_is_full_or_malformed_holds_up_no_other(node: Node) -> None:
    for number in range(15):  # the length of the stream is looked at now and then
        pays = node.part(node.parts[1].keys, [f"t T{number:021} alice @bank 1 USD"])
        assert node.call([pays]) == ["+"]
    malformed = node.part(node.parts[2].keys, ["d " + "M" * 22 + " @transit bob 1 USD"])
    answers = node.call([node.debit(0), node.debit(1), malformed], stream_entries_max=16)
    assert answers == ["+", ["FULL", 16], ["MALFORMED", "operation 1"]]
    assert node.balances() == ["99", "85", "100"]


def test_one_whose_slot_is_on_another_node_holds_up_no_other(node: Node) -> None:
    elsewhere = PartitionKeys(tag_of(OTHER_NODE, PARTITIONS))
    away = node.part(elsewhere, ["d " + "W" * 22 + " alice bob 1 USD"])
    first, (code, said, begun), last = node.call([node.debit(0), away, node.debit(2)])
    assert (first, code, begun, last) == ("+", "ERROR", 0, "+")
    assert refusal_inside(said, bool(begun)).meaning is Meaning.ELSEWHERE
    assert node.balances() == ["99", "100", "99"]
    (answer,) = node.call([away])
    assert answer[0] == "ERROR"


def test_a_slot_that_somebody_migrates_is_written_whole_or_not(node: Node) -> None:
    """G1: what is not there any more fails before the first write, and no other partition is touched by that."""
    migrated = node.parts[1]
    slot, target = slot_of(migrated.keys.tag), node.cluster.primary("s2").node_id()
    before = migrated.image()
    node.client.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", target)
    try:
        answers = node.call([node.debit(n) for n in range(3)])  # there is no open{tag}
        assert (answers[0], answers[2]) == ("+", "+")
        code, said, begun = answers[1]
        assert (code, begun) == ("ERROR", 0)
        assert refusal_inside(said, False).meaning is Meaning.ELSEWHERE
        for line in BEGINNERS:
            sha = migrated.extended_script.sha if KINDS[line[0]].extended else ""
            (answer,) = node.call([node.part(migrated.keys, [line])], sha)
            assert (answer[0], answer[2]) == ("ERROR", 0), line
        assert migrated.image() == before
        assert node.client.xlen(migrated.keys.journal) == 1
    finally:
        node.client.execute_command("CLUSTER", "SETSLOT", slot, "STABLE")
    assert node.call([node.debit(1)]) == ["+"]


def test_what_fails_in_one_says_whether_it_had_written(node: Node) -> None:
    """A key of another type, which nobody makes: before the first write, and behind it."""
    node.client.delete(node.parts[1].keys.seen(1))
    node.client.set(node.parts[1].keys.seen(1), "x")
    first, (code, said, begun), last = node.call([node.debit(n) for n in range(3)])
    assert (first, code, begun, last) == ("+", "ERROR", 0, "+")
    assert refusal_inside(said, bool(begun)).meaning is Meaning.UNKNOWN
    assert node.balances() == ["99", "100", "99"]
    bank = {"@bank": str(AMOUNT_MIN), "@bank+": "x"}  # which is carried there
    node.client.hset(node.parts[2].keys.balance("USD"), mapping=bank)
    pays = node.part(node.parts[2].keys, ["t " + "W" * 22 + " @bank alice 1 USD"])
    first, (code, said, begun) = node.call([node.debit(0, 1), pays])
    assert (first, code, begun) == ("+", "ERROR", 1)
    assert refusal_inside(said, bool(begun)).meaning is Meaning.UNKNOWN


def test_memory_that_is_out_refuses_each_alike(node: Node) -> None:
    before = [part.image() for part in node.parts]
    node.client.config_set("maxmemory", 1)
    try:
        answers = node.call([node.debit(n) for n in range(3)])
    finally:
        node.client.config_set("maxmemory", 0)
    for code, said, begun in answers:
        assert code == "ERROR"
        assert refusal_inside(said, bool(begun)).meaning is Meaning.MEMORY
    assert [part.image() for part in node.parts] == before


def test_the_text_for_limits_serves_several_too(node: Node) -> None:
    sha = node.parts[0].extended_script.sha
    parts = [
        apply_part(
            *(part.keys, (), pack([parse_operation("o - carol -<50 0 USD")])),
            epoch=1,
            nonce=f"{number:016x}",
            issued_ms=part.now_ms(),
            window=1,
        )
        for number, part in enumerate(node.parts, 100)
    ]
    assert node.call(parts, sha) == ["+", "+", "+"]
    assert node.call([node.debit(n) for n in range(3)]) == [["LIMITS", "2"]] * 3


def test_a_partition_with_limits_says_so_beside_one_that_needs_the_text_for_them(node: Node) -> None:
    """A service that does not know of its limits yet sent it in one call with a hold of another partition."""
    limited, held = node.parts[:2]
    assert limited.apply(["o - bob -<50 0 USD"])[0] == "OK"
    parts = [
        node.part(limited.keys, [f"t {'T' * 22} alice bob 1 USD"]),
        node.part(held.keys, [f"h {'H' * 22} alice -|60000 1 USD"]),
    ]
    assert node.call(parts, node.parts[0].extended_script.sha) == [["LIMITS", "2"], "+"]


@pytest.mark.parametrize("bundled", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_replica_gets_what_one_call_has_written_to_many_slots(
    redis_cluster: RedisClusterFactory, bundled: bool
) -> None:
    cluster = redis_cluster(1, 1, bundled=bundled)
    primary, replica = cluster.shard_nodes("s1")
    client, copy = primary.client(), replica.client()
    client.connection_pool.connection_kwargs["decode_responses"] = True
    copy.connection_pool.connection_kwargs["decode_responses"] = True
    parts = [LuaPartition(client, tag_of(p, PARTITIONS)) for p in range(PARTITIONS)]
    lines = [*FUND, "d " + "R" * 22 + " alice bob 7 USD"]
    command = apply_command(
        parts[0].apply_script.sha,
        [
            apply_part(
                *(part.keys, (), pack([parse_operation(line) for line in lines])),
                epoch=1,
                nonce=f"{number:016x}",
                issued_ms=part.now_ms(),
                window=1,
            )
            for number, part in enumerate(parts)
        ],
        window_ms=NEVER_MS,
        stream_entries_max=1_000,
        issued_age_ms_max=300_000,
    )
    answers = client.execute_command(*words_of(command))
    assert all(answer.split(" ")[6] == "+++" for answer in answers)
    until_s = time.monotonic() + REPLICA_S_MAX
    while client.info("replication")["slave0"]["lag"] > 1 or copy.dbsize() != client.dbsize():
        assert time.monotonic() < until_s
        time.sleep(0.05)
    assert client.execute_command("WAIT", 1, 10_000) == 1
    copy.execute_command("READONLY")
    for part in parts:
        assert held(copy, part) == held(client, part)
    client.close()
    copy.close()


def test_an_error_of_the_whole_call_leaves_every_partition_as_it_was(node: Node) -> None:
    before = [part.image() for part in node.parts]
    with pytest.raises(redis.exceptions.NoScriptError):
        node.call([node.debit(n) for n in range(3)], "0" * 40)
    assert [part.image() for part in node.parts] == before
