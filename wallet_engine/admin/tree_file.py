"""Writes the tree of a cluster into a file, and restores a tree from such a file.

A map from a file is old, and an old map is dangerous in two ways. First, its epochs were used since: a chain could
be written under an epoch that another chain has had. So the restored epochs are far above all epochs in Redis and
the file (`EPOCH_STEP`). Then no owner is certified any more, and the journal processes compare and certify every
partition again. Second, partitions may have moved since. So the owner of a slot in Redis goes into the map, not
the shard of the file.

Not in a file: registrations and locks, which belong to live processes. Not restored: moves. A partition that was
frozen for a move is recovered like any other.

The list of journal copies that count is dangerous too. A recovery hears n - quorum + 1 of them. It could miss
answered entries if a replaced copy counts again, or if a copy that joined later does not count. So a list and a
quorum that exist stay. A list from a file is used only if it names exactly the copies that run; otherwise the
operator must say which copies counted last.
"""

import hashlib
import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.exceptions import RedisError, ResponseError

from wallet_engine.admin.nodes import NodeState, look_at_all, primary_of
from wallet_engine.admin.survey import ShardState, shards_by_id
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, slot_owners
from wallet_engine.routing.api_keys import USED
from wallet_engine.routing.directory import (
    AUDIT,
    CONFIG,
    JOURNALS,
    LOCKS,
    MAP,
    MEMBERS,
    ROOT,
    SERVICES,
    SHARDS,
    Directory,
)
from wallet_engine.routing.model import (
    ClusterConfig,
    Members,
    MembersText,
    PartitionEntry,
    PartitionMap,
    Shard,
    by_name,
    decode,
    decode_map,
    encode_map,
)
from wallet_engine.routing.moves import MOVES
from wallet_engine.routing.slots import slot_range, tag_of
from wallet_engine.routing.tree import NodeExists, Tree

FORMAT: Final = 1
#: More than the recoveries since any backup; each raises an epoch by one.
EPOCH_STEP: Final = 2**32
_ATTEMPTS_MAX: Final = 10
_OF_LIVE_PROCESSES: Final = (SERVICES, JOURNALS, LOCKS, USED)


class BackupNode(msgspec.Struct, frozen=True):
    """`data` is the node's bytes, base64 in JSON."""

    path: str
    version: int
    data: bytes


class Backup(msgspec.Struct, frozen=True):
    """The content of a file; `sha256` is the digest of the JSON of `nodes`."""

    format: int
    made_ms: int
    host: str
    sha256: str
    nodes: tuple[BackupNode, ...]

    def data(self, path: str) -> bytes | None:
        return next((node.data for node in self.nodes if node.path == path), None)

    @property
    def config(self) -> ClusterConfig:
        return decode(self.data(CONFIG) or b"", ClusterConfig, CONFIG)

    @property
    def map(self) -> PartitionMap:
        return decode_map(self.data(MAP) or b"", 0, MAP)

    @property
    def copies(self) -> MembersText:
        data = self.data(MEMBERS)
        return MembersText(()) if data is None else decode(data, MembersText, MEMBERS)

    @property
    def shards(self) -> tuple[Shard, ...]:
        inside = [node for node in self.nodes if node.path.startswith(f"{SHARDS}/")]
        return tuple(decode(node.data, Shard, node.path) for node in inside)


@dataclass(frozen=True, slots=True)
class Restoration:
    """The tree to make: the file's nodes, with shards and a map as Redis reports them now."""

    config: ClusterConfig
    shards: tuple[Shard, ...]
    map: PartitionMap
    #: Partitions on another shard than when the backup was made: partition -> shard at that time.
    moved: Mapping[int, str]
    #: The journal copies that count from now on, and those that never count again.
    copies: MembersText
    #: path -> data, of all other nodes.
    others: Mapping[str, bytes]


def take_backup(directory: Directory) -> Backup:
    """Read all nodes that outlive processes. Raises `ConfigError` when they change again and again during it."""
    directory.config()
    for _attempt in range(_ATTEMPTS_MAX):
        nodes = tuple(_nodes(directory.tree, ROOT))
        if nodes == tuple(_nodes(directory.tree, ROOT)):
            return Backup(FORMAT, time.time_ns() // 1_000_000, socket.gethostname(), _digest(nodes), nodes)
    raise ConfigError("the tree kept changing while it was read: try again")


def write_backup(backup: Backup, path: Path) -> None:
    """Raises `ConfigError`, also when the file exists already: backups are never overwritten."""
    text = msgspec.json.format(msgspec.json.encode(backup), indent=1) + b"\n"
    try:
        with path.open("xb") as file:
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                path.unlink()  # half a backup is none, and its name would be taken
                raise
    except FileExistsError:
        raise ConfigError(f"{path} exists already: give another name") from None
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None


def read_backup(path: Path) -> Backup:
    """Raises `ConfigError` when it cannot be read, `Corruption` when it is not a complete backup."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    try:
        backup = msgspec.json.decode(text, type=Backup)
    except msgspec.MsgspecError as error:
        raise Corruption(f"{path} is not a backup: {error}") from None
    if backup.format != FORMAT:
        raise ConfigError(f"{path} has format {backup.format}, this program knows {FORMAT}")
    if backup.sha256 != _digest(backup.nodes):
        raise Corruption(f"{path} is damaged: its checksum is another")
    if backup.config.partitions != len(backup.map.partitions):
        raise Corruption(f"{path}: configuration and map do not belong together")
    return backup


def plan_restoration(
    directory: Directory,
    backup: Backup,
    more_shards: Iterable[Shard],
    present: PartitionMap | None,
    stated_copies: tuple[str, ...] | None,
) -> Restoration:
    """`more_shards` were added since the backup; `present` is the map in the tree, if there is one.

    Raises `ConfigError` when Redis does not tell where every partition is, and the errors of `copies_in_force`.
    """
    copies = copies_in_force(backup.copies, directory.members(), directory.journals(), stated_copies)
    config = backup.config
    if present is not None:
        config = replace(config, journal_quorum=directory.config().journal_quorum)
    shards = tuple(by_name((*backup.shards, *more_shards)).values())
    old = backup.map
    count = len(old.partitions)
    states = _look(shards)
    placed = _placed(states, old)
    if lost := [str(partition) for partition, name in enumerate(placed) if not name]:
        raise ConfigError(
            f"no shard of the backup owns the slots of partitions {', '.join(lost)} in Redis: "
            f"give shards that were added since with --shard NAME=HOST:PORT, or see redis-cli --cluster check"
        )
    maps = [old] if present is None or len(present.partitions) != count else [old, present]
    highest = max(_redis_epochs(states, count), *(entry.epoch for each in maps for entry in each.partitions))
    epoch = highest + EPOCH_STEP
    new = PartitionMap(0, tuple(PartitionEntry(name, epoch) for name in placed))
    moved = {p: old.shard_of(p) for p, name in enumerate(placed) if name != old.shard_of(p)}
    others = {
        node.path: node.data
        for node in backup.nodes
        if node.path not in (CONFIG, MAP) and not node.path.startswith((SHARDS, MOVES, AUDIT, MEMBERS))
    }
    return Restoration(config, shards, new, moved, copies, others)


def copies_in_force(
    old: MembersText, present: Members, running: Collection[str], stated: tuple[str, ...] | None
) -> MembersText:
    """The list of journal copies to restore. `old`: the list of the file; `stated`: the list of the command line.

    Raises `ConfigError` when it is not known which copies counted last, or `stated` contradicts what is known.
    """
    if present.version >= 0:
        if stated is not None and set(stated) != set(present.copies):
            raise ConfigError(
                f"the tree lists the journal copies {_named(present.copies)}: leave out --journal-copies"
            )
        return MembersText(present.copies, present.replaced)
    if stated is None:
        if set(running) != set(old.copies):
            raise ConfigError(
                f"the backup counts the journal copies {_named(old.copies)}, and those that run are "
                f"{_named(running)}: start all of them, or give those that counted last, and only those, "
                f"with --journal-copies NAME[,NAME…]"
            )
        return old
    if again := set(stated) & set(old.replaced):
        raise ConfigError(f"journal copy {_named(again)} was replaced: it can never count again")
    if unnamed := set(running) - set(stated):
        raise ConfigError(f"journal copy {_named(unnamed)} runs: name it, or stop it if it did not count")
    gone = tuple(name for name in old.copies if name not in stated)
    return MembersText(tuple(sorted(set(stated))), (*old.replaced, *gone))


def _named(copies: Iterable[str]) -> str:
    return ", ".join(sorted(copies)) or "none"


def restore_audit(tree: Tree, backup: Backup) -> None:
    """Restore the audit records that are missing."""
    for node in backup.nodes:
        if node.path.startswith(f"{AUDIT}/"):
            with suppress(NodeExists):
                tree.create(node.path, node.data)


def restore(directory: Directory, plan: Restoration, present: PartitionMap | None) -> None:
    """Write the tree. The configuration comes last: until then the cluster counts as not initialised.

    Raises `VersionConflict` when the map is no longer `present`, `ConfigError` when the list of copies was changed.
    """
    tree = directory.tree
    with directory.lock("initialise"):
        for shard in plan.shards:
            directory.put_shard(shard)
        for path, data in sorted(plan.others.items()):
            with suppress(NodeExists):  # the existing node is newer
                tree.create(path, data)
        members = directory.members()
        if (members.copies, members.replaced) != (plan.copies.copies, plan.copies.replaced):
            if members.version >= 0:
                raise ConfigError("the list of journal copies was changed meanwhile: look at the plan again")
            if plan.copies.copies:
                tree.create(MEMBERS, msgspec.json.encode(plan.copies))
        if present is None:
            directory.put(MAP, encode_map(plan.map))
        else:
            directory.replace_map(present, plan.map)
        directory.put(CONFIG, msgspec.json.encode(plan.config))


def _nodes(tree: Tree, path: str) -> Iterator[BackupNode]:
    if path in _OF_LIVE_PROCESSES:
        return
    node = tree.get(path)
    if node is not None:
        yield BackupNode(path, node.version, node.data)
    for name in tree.children(path):
        yield from _nodes(tree, f"{path}/{name}")


def _digest(nodes: tuple[BackupNode, ...]) -> str:
    return hashlib.sha256(msgspec.json.encode(nodes)).hexdigest()


def _look(shards: Iterable[Shard]) -> list[ShardState]:
    seen = look_at_all(address for shard in shards for address in shard.nodes)
    states = []
    for shard in shards:
        nodes = tuple(seen[address] for address in shard.nodes)
        states.append(ShardState(shard, primary_of(nodes), nodes))
    return states


def _placed(states: Sequence[ShardState], old: PartitionMap) -> list[str]:
    """The shard of each partition, found by node id; "" where it is not known. Raises `ConfigError`.

    The node ids of a shard that does not answer at all are unknown. So if the other nodes name an unknown id as a
    partition's owner, and the old map places the partition on such a shard, the owner is taken to be that shard.
    """
    owners, of_id = _owners(states), shards_by_id(states)
    silent = {state.shard.name for state in states if not any(node.reachable for node in state.nodes)}
    placed = []
    for partition, entry in enumerate(old.partitions):
        owner = owners.get(slot_range(partition, len(old.partitions))[0])
        unknown = entry.shard if owner is not None and entry.shard in silent else ""
        placed.append(of_id.get(owner or "", unknown))
    return placed


def _owners(states: Iterable[ShardState]) -> dict[int, str]:
    """slot -> node id, as reported by the Redis nodes that answer. Raises `ConfigError` when none does."""
    views: list[str] = []
    for node in _there(states):
        client = connect(node.address)
        with suppress(RedisError, OSError):
            views.append(str(client.execute_command("CLUSTER", "NODES")))  # type: ignore[no-untyped-call]
        client.close()
    if not views:
        raise ConfigError(
            "no Redis node of the backup answers: start Redis first, which knows where the partitions are"
        )
    return claimed_slots(views)


def claimed_slots(views: Iterable[str]) -> dict[int, str]:
    """slot -> node id of its owner; `views` are the `CLUSTER NODES` of each node that answers.

    What a primary says of itself counts first; if two claim a slot, the higher configuration epoch wins. What other
    nodes say may be old: it counts only if no node claims the slot, for example when its owner does not answer.
    """
    claims: dict[int, tuple[bool, int, str]] = {}
    for text in views:
        for line in text.splitlines():
            words = line.split(" ")
            claim = "myself" in words[2], int(words[6]), words[0]
            for slot in slot_owners(line)[0]:
                claims[slot] = max(claims.get(slot, claim), claim)
    return {slot: owner for slot, (_, _, owner) in claims.items()}


def _redis_epochs(states: Iterable[ShardState], count: int) -> int:
    """The highest epoch in any `meta` on any primary that answers."""
    highest = 0
    for node in _there(states):
        client = connect(node.address)
        with suppress(RedisError, OSError):
            for partition in range(count):
                with suppress(ResponseError):  # its slot is on another node
                    text: Any = client.hget(PartitionKeys(tag_of(partition, count)).meta, "epoch")
                    highest = max(highest, int(text or 0))
        client.close()
    return highest


def _there(states: Iterable[ShardState]) -> Iterator[NodeState]:
    """The nodes that answered before, so that each of the others costs only one timeout."""
    return (node for state in states for node in state.nodes if node.reachable or node.refuses)
