"""The apply script against the oracle on random batches, and its replay against itself (G2, G3, G6, G12)."""

import random
import time

import pytest
from lua.partition import LuaPartition
from lua.random_batches import RandomBatches
from lua.reused_ids import ReusedIds

from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload, decide
from wallet_engine.domain.oracle_state import PartitionState, redis_image

IMAGE_EVERY = 50


def agree(partition: LuaPartition, batches: RandomBatches, seconds: float, least: int = 0) -> PartitionState:
    """Random batches, at least so many, until the time is up; returns the state both came to."""
    state = batches.state
    end = time.monotonic() + seconds
    number = operations = 0
    while time.monotonic() < end or number < least:
        number += 1
        rotates = batches.rotates()
        lines = batches.batch()
        operations += len(lines)
        reply = partition.apply(lines, rotate=rotates)
        assert reply[0] == "OK", (reply, lines)
        nonce = f"{partition.nonces:016x}"
        outcomes = decide(
            state, [parse_operation(line) for line in lines], reply[3], state.window + rotates, nonce=nonce
        )
        assert list(zip(reply[4], lines, strict=True)) == list(zip(outcomes, lines, strict=True)), number
        assert reply[1:3] == [state.seq, state.nonce]
        batches.note(lines, outcomes)
        if number % IMAGE_EVERY == 0:
            assert partition.image() == redis_image(state), number
    state.check()
    assert partition.image() == redis_image(state)
    print(f"{number} batches, {operations} operations, {state.seq} entries, {state.window} windows")
    return state


def replay_gives_the_same(partition: LuaPartition, state: PartitionState) -> None:
    """G6: the entries of the stream, into an emptied partition and into a fresh oracle."""
    payloads = partition.payloads()
    assert len(payloads) == state.seq
    image = partition.image()
    folded = PartitionState()
    partition.empty("recovering")
    for payload in payloads:
        header = apply_payload(folded, payload)
        reply = partition.replay(payload)
        assert reply[:5] == ["OK", header.seq, header.nonce, header.time_ms, header.outcomes]
    assert partition.image() == image
    assert redis_image(folded) == image
    assert partition.payloads() == []


@pytest.mark.parametrize("partition", ["system", "bundled"], indirect=True)
def test_random_batches(partition: LuaPartition) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    replay_gives_the_same(partition, agree(partition, RandomBatches(seed), 2.5))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_random_batches_for_long(partition: LuaPartition) -> None:
    for _ in range(12):
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        partition.empty("live")
        replay_gives_the_same(partition, agree(partition, RandomBatches(seed), 15))


def test_ids_that_are_used_again(partition: LuaPartition) -> None:
    """G4: what is undone of the first use changes nothing that is remembered of the second."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    batches = ReusedIds(seed)
    replay_gives_the_same(partition, agree(partition, batches, 2.5, 300))
    print(batches.overtaken)
    assert batches.overtaken["r"] > 0
