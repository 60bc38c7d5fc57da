"""G6, G14: who may serve after a recovery: the very partition that was compared, and none condemned meanwhile."""

from typing import Any

import pytest
from lua.partition import LuaPartition

from wallet_engine.redis_store.scripts import load_script

EPOCH, OWNER, OTHER = "7", "f" * 40, "e" * 16


def call(partition: LuaPartition, script: str, *words: str | int) -> Any:
    return partition.client.eval(load_script(script).text, 1, partition.keys.meta, *words)


@pytest.fixture
def compared(partition: LuaPartition) -> LuaPartition:
    """It has entries, and a recovery has just compared it with the journal."""
    partition.empty("live")
    partition.apply(["o - alice - 0 USD"])
    partition.meta(state="recovering", epoch=EPOCH)
    return partition


def found(partition: LuaPartition) -> dict[str, str]:
    meta: dict[str, str] = partition.client.hgetall(partition.keys.meta)
    return meta


def certified(partition: LuaPartition, **other: str) -> Any:
    seen = found(partition) | other
    return call(partition, "certify", seen["seq"], seen["nonce"], EPOCH, OWNER)


def test_what_was_compared_serves(compared: LuaPartition) -> None:
    assert certified(compared) == 1
    assert found(compared).items() >= {"state": "live", "epoch": EPOCH, "owner": OWNER}.items()


@pytest.mark.parametrize("other", [{"seq": "0"}, {"nonce": OTHER}], ids=str)
def test_what_has_changed_since_does_not(compared: LuaPartition, other: dict[str, str]) -> None:
    """A node may lose its memory, or take an entry, between the comparison and the certificate."""
    before = found(compared)
    assert certified(compared, **other) == 0
    compared.client.delete(compared.keys.meta)
    assert call(compared, "certify", before["seq"], before["nonce"], EPOCH, OWNER) == 0
    assert found(compared) == {}


def test_what_is_condemned_meanwhile_serves_only_when_it_is_to_be_made_anew(compared: LuaPartition) -> None:
    assert call(compared, "condemn", "entry 1: not so") == "recovering"
    assert certified(compared) == 0
    assert found(compared).items() >= {"state": "recovering", "fault": "entry 1: not so"}.items()
    assert call(compared, "set_aside") == "entry 1: not so"
    assert found(compared).items() >= {"state": "stopped", "fault": "entry 1: not so"}.items()
    assert call(compared, "distrust", OTHER) == [1, EPOCH]
    assert "fault" not in found(compared)
    assert call(compared, "set_aside") is None
    assert found(compared)["state"] == "recovering"
    assert certified(compared, nonce="0" * 16) == 0, "it is no more what it was"
    assert certified(compared) == 1


@pytest.mark.parametrize("state", ["live", "moving", "recovering"])
def test_g7_a_recovery_that_was_overtaken_certifies_nothing(compared: LuaPartition, state: str) -> None:
    """G7: it was stopped before its certificate, and another recovery of a newer epoch has done its work since."""
    compared.meta(state=state, epoch="8", owner="a" * 40)
    before = found(compared)
    assert certified(compared) == 0
    assert found(compared) == before


@pytest.mark.parametrize(
    ("state", "after"),
    [("live", "stopped"), ("moving", "moving"), ("copying", "copying"), ("moved", "moved")],
)
def test_who_serves_is_stopped(compared: LuaPartition, state: str, after: str) -> None:
    """But not in the middle of a move: its driver makes the copy live, which then served with a fault."""
    compared.meta(state=state)
    assert call(compared, "condemn", "entry 1: not so") == state
    assert found(compared)["state"] == after
    assert ("fault" in found(compared)) == (state not in ("moving", "copying"))


@pytest.mark.parametrize("state", ["moving", "moved"])
def test_who_is_moved_is_not_distrusted(compared: LuaPartition, state: str) -> None:
    compared.meta(state=state)
    before = found(compared)
    assert call(compared, "distrust", OTHER) == [0, state]
    assert found(compared) == before
