"""G6, G7: every write of a recovery is refused when another recovery has taken the partition."""

from collections.abc import Callable
from typing import Any, Final

import pytest
from lua.partition import LuaPartition

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.redis_store.scripts import load_script

EPOCH, NONCE = 7, "loading-1"
Call = Callable[[LuaPartition, int], Any]


def run(partition: LuaPartition, script: str, keys: tuple[str, ...], *words: str | int) -> Any:
    names = (partition.keys.meta, *keys)
    return partition.client.eval(load_script(script).text, len(names), *names, *words)


def balance(partition: LuaPartition) -> str:
    return partition.keys.balance("USD")


#: Each changes something, and returns 1, or 0 when it is refused.
WRITES: Final[dict[str, Call]] = {
    "clear": lambda p, epoch: run(p, "clear", (balance(p),), epoch, "another"),
    "restore_part": lambda p, epoch: run(
        p, "restore_part", (balance(p),), epoch, NONCE, "HSET", "alice", 9000
    ),
    "restored": lambda p, epoch: run(p, "restored", (balance(p),), epoch, NONCE, 2, "seq", 99),
    "unstream": lambda p, epoch: run(p, "unstream", (p.keys.journal,), epoch),
    "restream": lambda p, epoch: run(p, "restream", (p.keys.journal,), epoch, "9-0", "header", "x"),
    "certify": lambda p, epoch: run(p, "certify", (), 2, NONCE, epoch, "f" * 40),
    "turn": lambda p, epoch: run(p, "turn", (), 2, "state", "recovering", "epoch", epoch, "state", "stopped")[
        0
    ],
}


def everything(partition: LuaPartition) -> dict[str, Any]:
    client, keys = partition.client, partition.keys
    hashes = {name: client.hgetall(name) for name in client.keys("*") if client.type(name) == "hash"}
    return {**hashes, "stream": client.xrange(keys.journal)}


@pytest.fixture
def taken(partition: LuaPartition) -> LuaPartition:
    """In the hands of the recovery of this epoch, which is loading it."""
    partition.empty("live")
    partition.apply(["o - alice - 0 USD"])
    partition.apply(["t 1 @bank alice 500 USD"])
    partition.meta(state="recovering", epoch=EPOCH, nonce=NONCE)
    return partition


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_recovery_writes_to_what_is_in_its_hands(taken: LuaPartition, write: Call) -> None:
    before = everything(taken)
    assert write(taken, EPOCH) == 1
    assert everything(taken) != before


@pytest.mark.parametrize(
    ("state", "epoch"),
    [
        ("live", EPOCH + 1),
        ("moving", EPOCH + 1),
        ("recovering", EPOCH + 1),
        ("recovering", EPOCH - 1),
        ("live", EPOCH),
    ],
)
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_g7_and_to_nothing_else(taken: LuaPartition, write: Call, state: str, epoch: int) -> None:
    taken.meta(state=state, epoch=epoch)
    before = everything(taken)
    assert write(taken, EPOCH) == 0
    assert everything(taken) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nor_to_a_node_that_has_lost_it(taken: LuaPartition, write: Call) -> None:
    taken.client.flushall()
    assert write(taken, EPOCH) == 0
    assert not taken.client.keys("*")


def test_g6_a_replay_of_another_recovery_changes_nothing(partition: LuaPartition) -> None:
    """It may have an entry that the chain of the newer epoch lacks: no caller was ever answered for that."""
    partition.empty("live")
    partition.apply(["o - alice - 0 USD"])
    (payload,) = partition.payloads()
    partition.empty("recovering")
    partition.meta(epoch=EPOCH + 1)
    before = everything(partition)
    assert partition.replay(payload, recovery=EPOCH) == ["EPOCH", str(EPOCH + 1)]
    assert everything(partition) == before
    assert partition.replay(payload, recovery=EPOCH + 1)[0] == "OK"


@pytest.mark.parametrize(("found", "answer"), [(EPOCH - 1, 1), (EPOCH, 1), (EPOCH + 1, 0)])
def test_a_recovery_takes_what_has_no_newer_epoch(partition: LuaPartition, found: int, answer: int) -> None:
    partition.empty("live")
    partition.meta(epoch=found)
    assert run(partition, "claim", (), EPOCH) == answer
    state = partition.client.hmget(partition.keys.meta, "state", "epoch")
    assert state == (["recovering", str(EPOCH)] if answer else ["live", str(found)])


def test_a_recovery_takes_what_is_absent_and_nobody_takes_that_for_a_partition(
    partition: LuaPartition,
) -> None:
    partition.client.flushall()
    assert run(partition, "claim", (), EPOCH) == 1
    assert partition.client.hgetall(partition.keys.meta) == {
        "state": "recovering",
        "epoch": str(EPOCH),
        "owner": "",
    }


def test_what_is_half_dropped_is_known_as_such(taken: LuaPartition) -> None:
    """G6: `meta` loses seq and nonce before any other key goes. A fault stays: the partition is still condemned."""
    taken.meta(nonce=ZERO_NONCE, seq=0, fault="entry 1: not so")
    assert run(taken, "clear", (balance(taken),), EPOCH, NONCE) == 1
    left = {"state": "recovering", "epoch": str(EPOCH), "nonce": NONCE, "fault": "entry 1: not so"}
    assert taken.client.hgetall(taken.keys.meta) == left
    assert not taken.client.exists(balance(taken))
    assert taken.client.exists(taken.keys.journal)
    assert run(taken, "restored", (), EPOCH, NONCE, "seq", 0) == 1
    assert run(taken, "clear", (taken.keys.journal,), EPOCH, NONCE) == 1
    assert not taken.client.exists(taken.keys.journal)


def test_a_key_is_deleted_from_replicas_only_if_the_node_lacks_it(taken: LuaPartition) -> None:
    """It may have been made after a recovery has looked. SET and UNLINK were two steps once."""
    text, key = load_script("forget").text, balance(taken)
    assert taken.client.eval(text, 1, key) == 0
    assert taken.client.hget(key, "alice") == "500"
    assert taken.client.eval(text, 1, taken.keys.balance("JPY")) == 1
    assert not taken.client.exists(taken.keys.balance("JPY"))
