"""Conditions are noted where they occur, and summarised per partition in a fixed order."""

import pytest

from wallet_engine.engine.conditions import Condition, Conditions, Report, condition_of, condition_of_error
from wallet_engine.engine.refusals import ScriptRefusal
from wallet_engine.redis_store.refusals import refusal_of

SHARDS = {0: "s1", 1: "s1", 2: "s2", 3: "s2"}


def reports(conditions: Conditions) -> list[Report]:
    return list(conditions.reports(SHARDS))


def test_nothing_holds_at_first() -> None:
    conditions = Conditions()
    assert conditions.stopped(SHARDS) == set()
    assert reports(conditions) == []


def test_of_a_partition_the_newest_counts_until_it_is_cleared() -> None:
    conditions = Conditions()
    conditions.note(3, Condition.MOVING, "state moving")
    conditions.note(3, Condition.FULL, "5 entries")
    assert conditions.stopped(SHARDS) == {3}
    assert reports(conditions) == [Report(Condition.FULL, (3,), "5 entries")]
    conditions.clear(3)
    conditions.clear(3)
    assert conditions.stopped(SHARDS) == set()


def test_a_shard_stops_its_partitions_and_its_conditions_end_one_by_one() -> None:
    conditions = Conditions()
    conditions.note_shard("s2", Condition.MEMORY, "nearly full")
    conditions.note_shard("s2", Condition.UNREACHABLE, "no answer")
    conditions.note(0, Condition.UNREACHABLE, "lost")
    assert conditions.stopped(SHARDS) == {0, 2, 3}
    assert reports(conditions) == [
        Report(Condition.UNREACHABLE, (0, 2, 3), "lost"),
        Report(Condition.MEMORY, (2, 3), "nearly full"),
    ]
    conditions.clear_shard("s2", Condition.UNREACHABLE)
    conditions.clear_shard("s1", Condition.UNREACHABLE)
    assert conditions.stopped(SHARDS) == {0, 2, 3}
    conditions.clear_shard("s2", Condition.MEMORY)
    assert conditions.stopped(SHARDS) == {0}
    assert conditions.of_shard == {}


def test_a_condition_of_the_service_stops_everything() -> None:
    conditions = Conditions()
    conditions.note(1, Condition.NO_QUORUM, "hidden by that of the service")
    conditions.note(2, Condition.FULL, "5 entries")
    conditions.note_service(Condition.NO_QUORUM, "0 of 1 journal copies reachable")
    assert conditions.stopped(SHARDS) == {0, 1, 2, 3}
    assert reports(conditions) == [
        Report(Condition.NO_QUORUM, None, "0 of 1 journal copies reachable"),
        Report(Condition.FULL, (2,), "5 entries"),
    ]
    conditions.clear_service(Condition.NO_QUORUM)
    assert conditions.stopped(SHARDS) == {1, 2}


@pytest.mark.parametrize(
    ("code", "shown", "condition"),
    [
        ("EPOCH", "7", Condition.FENCED),
        ("OWNER", "abc", Condition.FENCED),
        ("STATE", "moving", Condition.MOVING),
        ("STATE", "moved", Condition.MOVING),
        ("STATE", "copying", Condition.MOVING),
        ("STATE", "recovering", Condition.RECOVERING),
        ("STATE", "absent", Condition.RECOVERING),
        ("STATE", "stopped", Condition.STOPPED),
        ("FULL", "100000", Condition.FULL),
        ("EXPIRED", "17", Condition.SKEWED),
        ("MALFORMED", "columns", Condition.REFUSED),
    ],
)
def test_what_a_refusal_says_of_the_partition(code: str, shown: str, condition: Condition) -> None:
    assert condition_of(ScriptRefusal(code, shown)) is condition


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        ("NOSCRIPT No matching script.", Condition.RECOVERING),
        ("LOADING Redis is loading the dataset in memory", Condition.RECOVERING),
        ("MOVED 5 h:1", Condition.UNREACHABLE),
        ("CLUSTERDOWN The cluster is down", Condition.UNREACHABLE),
        ("OOM command not allowed when used memory > 'maxmemory'.", Condition.MEMORY),
        ("MISCONF Redis is configured to save RDB snapshots", Condition.REFUSED),
        ("NOREPLICAS Not enough good replicas to write.", Condition.REFUSED),
        ("NOAUTH Authentication required.", Condition.REFUSED),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Condition.REFUSED),
    ],
)
def test_what_an_error_reply_says_of_the_partition(error: str, condition: Condition) -> None:
    assert condition_of_error(refusal_of(error)) is condition
