"""Moves of partitions in progress: `/wallet/moves/<partition>`, one record for each, changed by compare-and-set.

    planned -> copying -> frozen -> switched -> (the record is deleted)
                 ^          |
                 +----------+   the freeze took too long, or the partition was recovered: copy again

The record says how far a move is, so that any process can finish or undo it. The record does not decide the
move: the partition map does. Its change from (source, epoch) to (target, epoch + 1) is the moment of the
switch.
"""

from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import msgspec

from wallet_engine.domain.errors import ConfigError
from wallet_engine.routing.model import PartitionMap, decode
from wallet_engine.routing.tree import NodeExists, NodeMissing, Tree

MOVES: Final = "/wallet/moves"


class MoveState(StrEnum):
    PLANNED = "planned"
    COPYING = "copying"
    FROZEN = "frozen"
    SWITCHED = "switched"


@dataclass(frozen=True, slots=True)
class Move:
    """The move of one partition."""

    partition: int
    source: str
    target: str
    state: MoveState
    #: The partition's epoch on the source; the target serves under the next one. 0 before anything was copied.
    epoch: int
    #: Names the run that drives the move now; nodes refuse its writes once another run has taken over.
    token: str
    #: Who drives it: user, host and pid.
    driver: str
    started_ms: int

    def committed(self, partition_map: PartitionMap) -> bool:
        """Whether the map has switched: from then on the move can only be finished."""
        entry = partition_map.partitions[self.partition]
        return entry.shard == self.target


@dataclass(frozen=True, slots=True)
class StoredMove:
    """A record with the version that the next change must name."""

    move: Move
    version: int


class Moves:
    """The records of one tree. Calls are synchronous and may raise `StoreUnavailable`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def __repr__(self) -> str:
        return f"<Moves {self._tree!r}>"

    def get(self, partition: int) -> StoredMove | None:
        path = _path(partition)
        node = self._tree.get(path)
        return None if node is None else StoredMove(decode(node.data, Move, path), node.version)

    def all(self) -> list[StoredMove]:
        """Every move in progress, by partition."""
        names = sorted(int(name) for name in self._tree.children(MOVES) if name.isdigit())
        return [stored for partition in names if (stored := self.get(partition)) is not None]

    def create(self, move: Move) -> StoredMove:
        """Raises `ConfigError` when the partition is already being moved."""
        try:
            self._tree.create(_path(move.partition), msgspec.json.encode(move))
        except NodeExists:
            raise ConfigError(
                f"partition {move.partition} is on its way already: "
                f"wallet-admin resume {move.partition}, or wallet-admin abort {move.partition}"
            ) from None
        return StoredMove(move, 0)

    def replace(self, old: StoredMove, **changes: object) -> StoredMove:
        """Change fields. Raises `VersionConflict` when the record has changed since."""
        move = replace(old.move, **changes)  # type: ignore[arg-type]  # names and types are those of Move
        version = self._tree.set(_path(move.partition), msgspec.json.encode(move), old.version)
        return StoredMove(move, version)

    def forget(self, stored: StoredMove) -> None:
        """Delete the record of a finished move.

        Raises `VersionConflict` when the record has changed since.
        """
        with suppress(NodeMissing):
            self._tree.delete(_path(stored.move.partition), stored.version)


def _path(partition: int) -> str:
    return f"{MOVES}/{partition}"
