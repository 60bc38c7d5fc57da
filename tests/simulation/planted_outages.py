"""Bugs that a long outage shows, with full streams and crowds: work never ends by itself, or stops other partitions."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from simulation.cluster import Cluster
from simulation.directory_tree import Keeper
from simulation.planted import Bug, planted_method, planted_script
from simulation.profile import LOST
from simulation.run import Plant

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.oracle_batch import Batch as OracleBatch
from wallet_engine.domain.oracle_state import PartitionState, RedisImage, redis_image
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.conditions import Condition
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.headroom import Headroom
from wallet_engine.engine.lane import Lane
from wallet_engine.recovery import snapshotting
from wallet_engine.recovery.returning import Returning
from wallet_engine.redis_store.refusals import Meaning, Refusal
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.tree import Node, Unsubscribe
from wallet_engine.saga.sweeper import Sweeper

#: (script, its text, the replacement)
_FULL_STREAM: Final = (
    # An old bug: open entries fill the stream, which then refuses the entries that would end them.
    (
        "apply",
        "find(columns[1], '[^bcgjlrsuwy]') and entries_max or entries_max + ENDING_ENTRIES_MAX",
        "entries_max",
    ),
    ("apply", "entries = entries - call('ZCARD', k_open)", "entries = entries + 0"),
    ("trim", "local last = math.min(keep, newest - PINNED_ENTRIES_MAX)", "local last = 0"),
)
_CLOSE: Final = (
    ("apply", "if not batch.rules_before and (since and closing ~= since", "if false and (since"),
)
SCRIPT_CHANGES: Final = (*_FULL_STREAM, *_CLOSE)


def _scripts(changes: tuple[tuple[str, str, str], ...]) -> Plant:
    return planted_script(*((old, new) for _, old, new in changes))


def _first_page_only(_original: Any) -> Any:
    async def open_seqs(_: Sweeper, accumulator: Accumulator, lane: Lane) -> list[int]:
        words = ("ZRANGEBYSCORE", accumulator.keys.open, "-inf", "+inf", "LIMIT", 0, 8)
        members: list[bytes] = await lane.call(*words)
        return [int(member) for member in members if b"." not in member]

    return open_seqs


def _no_door_at_dead_shards(original: Any) -> Any:
    def close_door(self: Headroom, partition: int, condition: Condition, outage: Outage) -> None:
        if condition is not Condition.UNREACHABLE:
            original(self, partition, condition, outage)

    return close_door


def _refused_may_have_run(original: Any) -> Any:
    def on_error(self: Engine, accumulator: Accumulator, batch: Batch, refusal: Refusal) -> None:
        if refusal.meaning is not Meaning.RETRY:
            original(self, accumulator, batch, refusal)
            return
        self.tracker.forget(batch.nonce)
        self._answered(accumulator)
        batch.fail(Outage("outcome_unknown", refusal.text))

    return on_error


def _one_partition_a_round(original: Any) -> Any:
    async def one_round(self: Returning) -> None:
        waiting = dict(self._behind)
        first = next(iter(waiting))
        self._behind = {first: waiting.pop(first)}
        try:
            await original(self)
        finally:
            self._behind = {**waiting, **self._behind}
        await asyncio.sleep(1.0)

    return one_round


def _sessions_stay_lost(original: Any) -> Any:
    """ZooKeeper refuses clients that have seen newer data for ever, so no process is registered any more."""

    def lose(self: Keeper) -> dict[str, Node]:
        lost: dict[str, Node] = original(self)
        self.nodes.clear()
        self.owners.clear()
        self.changed()
        return lost

    return lose


def _newer_versions_alone(original: Any) -> Any:
    """Versions of a restored tree begin at 0, so its map seems older than the known one."""

    def watch_map(self: Directory, callback: Callable[[PartitionMap], object]) -> Unsubscribe:
        known = [-1]

        def newer(partition_map: PartitionMap) -> None:
            if partition_map.version > known[0]:
                known[0] = partition_map.version
                callback(partition_map)

        watching: Unsubscribe = original(self, newer)
        return watching

    return watch_map


@contextmanager
def _snapshots_without_memory(_: Cluster) -> Iterator[None]:
    def image(state: PartitionState) -> RedisImage:
        return {name: fields for name, fields in redis_image(state).items() if not name.startswith("seen")}

    with patch.object(snapshotting, "redis_image", image):
        yield


@contextmanager
def _close_looks_at_nothing_open(cluster: Cluster) -> Iterator[None]:
    """The bug is in the script and in the oracle, so that the two agree."""
    with (
        _scripts(_CLOSE)(cluster),
        patch.object(OracleBatch, "nothing_comes_back", lambda *_: True),
    ):
        yield


BUGS: Final = (
    Bug(
        "open entries fill the stream, and what ends them is refused",
        "G9 G10",
        _scripts(_FULL_STREAM),
        20,
        outage="shard_stopped",
        rare=True,
    ),
    Bug(
        "money leaves for a shard that does not answer",
        "G10",
        planted_method(Headroom, "close_door", _no_door_at_dead_shards),
        20,
        outage="shard_stopped",
    ),
    Bug(
        "the sweeper reads the oldest open entries alone",
        "G9",
        planted_method(Sweeper, "_open_seqs", _first_page_only),
        40,
        outage="shard_stopped",
    ),
    Bug(
        "close does not look at what is open",
        "G1",
        _close_looks_at_nothing_open,
        40,
        outage="shard_stopped",
        seed_min=30,
    ),
    Bug(
        "what Redis refused may have run",
        "G14",
        planted_method(Engine, "_on_error", _refused_may_have_run),
        20,
        outage="shard_refuses",
    ),
    Bug(
        "a copy that returns catches up with one partition, and waits",
        "G9",
        planted_method(Returning, "_round", _one_partition_a_round),
        20,
        outage="journal_away",
        seed_min=7,
    ),
    Bug(
        "sessions do not begin anew when ZooKeeper has lost its data",
        "G9 G10",
        planted_method(Keeper, "lose", _sessions_stay_lost),
        20,
        outage=LOST,
    ),
    Bug(
        "a map of a lower version is passed over, though the tree was put back",
        "G9 G10",
        planted_method(Directory, "watch_map", _newer_versions_alone),
        20,
        outage=LOST,
    ),
    Bug("snapshots without the memory of ids", "G6", _snapshots_without_memory, 20, outage="journal_away"),
)
