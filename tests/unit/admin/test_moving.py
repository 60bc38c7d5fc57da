"""The decisions of a move without a network: the fields that an entry touches, and which partitions move where."""

import random

import pytest
from lua.random_batches import RandomBatches

from wallet_engine.admin.moving.placing import balance_steps, drain_steps
from wallet_engine.admin.moving.touched import touched_fields
from wallet_engine.domain.entry import RULES, parse_entry
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import decide
from wallet_engine.domain.oracle_state import redis_image
from wallet_engine.routing.model import PartitionEntry, PartitionMap, spread


def placed(*shards: str) -> PartitionMap:
    return PartitionMap(0, tuple(PartitionEntry(shard, 1) for shard in shards))


def test_drain_spreads_evenly() -> None:
    assert drain_steps(spread(8, ["s1", "s2"]), "s1", ["s1", "s2", "s3"]) == [
        *((0, "s3"), (1, "s3"), (2, "s3"), (3, "s3")),
    ]
    with pytest.raises(ConfigError, match="the only shard"):
        drain_steps(spread(8, ["s1"]), "s1", ["s1"])


def test_rebalance_takes_the_fewest_moves() -> None:
    names = ["s1", "s2", "s3"]
    assert balance_steps(spread(64, names), names) == []
    steps = balance_steps(spread(64, names), [*names, "s4"])
    assert len(steps) == 16
    assert {target for _, target in steps} == {"s4"}


def test_rebalance_by_weight() -> None:
    by_weight = balance_steps(placed("s1", "s1", "s1", "s2"), ["s1", "s2"], {0: 50, 1: 30, 2: 30, 3: 10})
    assert by_weight == [(0, "s2")]
    assert balance_steps(placed("s1", "s1", "s2", "s2"), ["s1", "s2"], {0: 100, 1: 1, 2: 50, 3: 51}) == []


def test_no_changed_field_is_missed() -> None:
    """A copy reads again every field that an entry changes in a hash."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    batches = RandomBatches(seed)
    state = batches.state
    missed = changed = 0
    for number in range(200):
        seq, old, prev_nonce, nonce = state.seq, redis_image(state), state.nonce, f"{number:016x}"
        lines = batches.batch()
        window = state.window + batches.rotates()
        outcomes = decide(state, [parse_operation(line) for line in lines], number, window, nonce=nonce)
        batches.note(lines, outcomes)
        if state.seq == seq or window != state.window:
            continue
        text = "".join(f"{line}\n" for line in lines)
        entry = parse_entry(
            f"{state.seq} {prev_nonce} {nonce} 1 {number} {window} {outcomes} {RULES}\n{text}".encode()
        )
        touched = {(kind.decode(), name.decode()) for kind, name in touched_fields(entry)}
        new = redis_image(state)
        for kind in new.keys() - {"meta", "open"}:
            names = {name for name, value in new[kind].items() if old.get(kind, {}).get(name) != value}
            changed += len(names)
            missed += len({(kind, name) for name in names} - touched)
    assert changed > 1000
    assert missed == 0
