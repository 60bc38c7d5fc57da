"""Bugs of moves: data is not copied, two nodes serve at once, or a shard keeps keys of a partition that has left it.

Also a bug of the other thing that changes in a cluster: the list of journal copies that count.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from simulation.cluster import Cluster
from simulation.planted import Bug, planted_method

from wallet_engine.admin.moving import driver, sides
from wallet_engine.admin.moving.copying import Copy
from wallet_engine.admin.moving.driver import Driver
from wallet_engine.admin.moving.sides import Source, Target
from wallet_engine.domain.errors import ConfigError
from wallet_engine.recovery.join import _Joining
from wallet_engine.recovery.recover import ShardRecovery
from wallet_engine.routing.model import Members


@contextmanager
def _primaries_alone_are_emptied(_: Cluster) -> Iterator[None]:
    """An old bug of moves and of recoveries."""

    async def nothing(*_: Any) -> None: ...

    with (
        patch.object(sides, "_gone", lambda key: [("UNLINK", key)]),
        patch.object(Target, "_names_on_replicas", lambda _: set()),
        patch.object(Driver, "_forget_at_source", lambda *_: None),
        patch.object(ShardRecovery, "_forget_on_replicas", nothing),
    ):
        yield


@contextmanager
def _replicas_keep_what_was_there(cluster: Cluster) -> Iterator[None]:
    """In addition the source's keys are left to Redis to drop, which the replica does not do."""
    with _primaries_alone_are_emptied(cluster), patch.object(Source, "release", lambda _: False):
        yield


@contextmanager
def _stumbles_over_leftovers(cluster: Cluster) -> Iterator[None]:
    """A promoted replica's leftovers of a partition that has left are taken for a partition that it serves."""
    original = Target._take

    def take(self: Target, epoch: int) -> None:
        if self.meta().get("state") == "moved":
            raise ConfigError(f"{self.node.address} holds the partition in state moved")
        original(self, epoch)

    with _primaries_alone_are_emptied(cluster), patch.object(Target, "_take", take):
        yield


def _does_not_read_on(original: Any) -> Any:
    def take(self: Copy, seq: int, payload: bytes) -> None:
        original(self, seq, payload)
        self._dirty.clear()

    return take


@contextmanager
def _switches_before_it_is_durable(_: Cluster) -> Iterator[None]:
    with patch.object(driver, "wait_durable", lambda *_: None):
        yield


def _freezes_in_words_alone(original: Any) -> Any:
    def freeze(self: Source, token: str) -> Any:
        last = original(self, token)
        self.turn({"state": "moving", "move": token}, {"state": "live"})
        return last

    return freeze


def _counts_without_fences(_: Any) -> Any:
    async def be_counted(self: Any, members: Members, *_: Any) -> None:
        now = await asyncio.to_thread(self._directory.partition_map)
        kept = [name for name in members.copies if name != self._replaces]
        copies = (*kept, self._copy.journal_id)
        await asyncio.to_thread(self._directory.replace_members, members, copies, self._replaces, beside=now)

    return be_counted


#: Few partitions, so that the same ones leave and come back, and replicas are promoted in between.
_THERE_AND_BACK: Final = {
    "partitions": 2,
    "kinds": ("partition_moved", "partition_moved", "failover"),
    "faults": 16,
    "fault_gap_steps": 400,
    "payments_per_caller": 12,
    "pause_s": 1.2,
}
BUGS: Final = (
    Bug(
        "replicas keep what was there of a partition",
        "G6 G7",
        _replicas_keep_what_was_there,
        100,
        moves=True,
        changes=_THERE_AND_BACK,
        rare=True,
    ),
    Bug(
        "a move stumbles over what an earlier one has left",
        "G11",
        _stumbles_over_leftovers,
        100,
        moves=True,
        rare=True,
        changes=_THERE_AND_BACK,
    ),
    Bug(
        "a new copy counts before it has what the others have",
        "G5 G7 G9",
        planted_method(_Joining, "_be_counted", _counts_without_fences),
        10,
        drawn_by="draw_changed_copies",
        seed_min=45,
    ),
    Bug(
        "what changes while it is copied is not copied again",
        "G6 G11",
        planted_method(Copy, "_take", _does_not_read_on),
        50,
        moves=True,
        seed_min=16,
    ),
    Bug(
        "a move switches before its last entry is durable",
        "G5 G6 G7",
        _switches_before_it_is_durable,
        400,
        moves=True,
        rare=True,
    ),
    Bug(
        "the source serves on while the last entries are copied",
        "G6 G7 G9 G11",
        planted_method(Source, "freeze", _freezes_in_words_alone),
        50,
        moves=True,
        rare=True,
    ),
)
