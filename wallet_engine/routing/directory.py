"""The typed view of `/wallet/…` in the coordination store: what the cluster is, where, and who is alive.

    /wallet/config            ClusterConfig; its existence means that the cluster is initialised
    /wallet/pause             Pause; while it exists the cluster takes no new payments
    /wallet/map               PartitionMap; the node's version is the map's
    /wallet/shards/<name>     Shard
    /wallet/moves/<partition> a move in progress (`routing/moves.py`)
    /wallet/services/<id>     ServiceInfo, ephemeral
    /wallet/journals/<id>     JournalInfo, ephemeral
    /wallet/copies/members    Members: the journal copies that count for the quorum, alive or not
    /wallet/followers/<sink>  how far each follower of the feed is (`routing/followers.py`)
    /wallet/following/<sink>  the processes that follow the feed now (`routing/following.py`)
    /wallet/accepted/<p>      entries that differ and were accepted (`routing/accepted.py`)
    /wallet/locks/<name>      held locks
    /wallet/keys              API keys of callers (`routing/api_keys.py`)
    /wallet/used/<id>         when a key was last used
    /wallet/access            readable by those whose credentials are good (`routing/access.py`)
    /wallet/audit/<number>    who changed what, when and from where (written by `wallet-admin`)

Every call is synchronous and bounded, and may raise `StoreUnavailable`; from an event loop, use a thread, and
`on_loop` for callbacks.
"""

import logging
import os
import socket
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final, TypeVar, TypeVarTuple

from wallet_engine.domain.errors import ConfigError, Corruption, WalletError, WrongUsage
from wallet_engine.routing.accepted import Accepted
from wallet_engine.routing.access import check_known
from wallet_engine.routing.api_keys import ApiKeys
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.followers import Followers
from wallet_engine.routing.following import Following
from wallet_engine.routing.host_names import check_names_known
from wallet_engine.routing.model import (
    ClusterConfig,
    JournalInfo,
    Members,
    MembersText,
    PartitionMap,
    ServiceInfo,
    Shard,
    by_name,
    check_name,
    decode,
    decode_map,
    encode,
    encode_map,
)
from wallet_engine.routing.moves import Moves
from wallet_engine.routing.pausing import Pausing
from wallet_engine.routing.processes import birth_of
from wallet_engine.routing.roster import passing_over, read_roster, watch_roster
from wallet_engine.routing.tree import (
    LOCK_TIMEOUT_S,
    HeldLock,
    Node,
    NodeExists,
    NodeMissing,
    Tree,
    Unsubscribe,
    Version,
    VersionConflict,
)
from wallet_engine.routing.zookeeper import SESSION_TIMEOUT_S, Credentials, ZooKeeperTree

logger = logging.getLogger(__name__)

T = TypeVar("T")
M = TypeVar("M", JournalInfo, ServiceInfo)
Ts = TypeVarTuple("Ts")

ROOT: Final = "/wallet"
CONFIG: Final = f"{ROOT}/config"
MAP: Final = f"{ROOT}/map"
SHARDS: Final = f"{ROOT}/shards"
SERVICES: Final = f"{ROOT}/services"
JOURNALS: Final = f"{ROOT}/journals"
MEMBERS: Final = f"{ROOT}/copies/members"
LOCKS: Final = f"{ROOT}/locks"
AUDIT: Final = f"{ROOT}/audit"

#: Maximum attempts of a change against competing changes.
ATTEMPTS_MAX: Final = 50
#: How long a process waits until an earlier registration of its id is gone; more than a session timeout.
REGISTER_WAIT_S_MAX: Final = 30.0
_REGISTER_RETRY_S: Final = 0.2


class Directory:
    """See the module's text. `moves` are the moves in progress, `api_keys` those of callers, `followers` the feed's.

    `pausing` says whether new payments are taken.
    """

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.moves = Moves(tree)
        self.api_keys = ApiKeys(tree)
        self.followers = Followers(tree)
        self.following = Following(tree)
        self.accepted = Accepted(tree)
        self.pausing = Pausing(tree)

    def __repr__(self) -> str:
        return f"<Directory {self.tree!r}>"

    def initialise(self, config: ClusterConfig, shards: Iterable[Shard], placement: PartitionMap) -> None:
        """Write down a new cluster. Raises `ConfigError` when there is one already or the parts disagree.

        A crash half-way leaves a cluster that is not initialised; the next call starts over.
        """
        named = by_name(shards)
        if len(placement.partitions) != config.partitions:
            raise ConfigError(
                f"the placement has {len(placement.partitions)} partitions, the config {config.partitions}"
            )
        strangers = {entry.shard for entry in placement.partitions} - named.keys()
        if strangers:
            raise ConfigError(f"the placement names unknown shards: {', '.join(sorted(strangers))}")
        with self.lock("initialise"):
            if self.initialised:
                raise ConfigError(f"there is an initialised cluster already, left as it is: {self.tree}")
            for name in self.tree.children(SHARDS):
                self.tree.delete(f"{SHARDS}/{name}")
            for shard in named.values():
                self.put_shard(shard)
            self.put(MAP, encode_map(placement))
            self.tree.create(CONFIG, encode(config))

    @property
    def initialised(self) -> bool:
        return self.tree.get(CONFIG) is not None

    def config(self) -> ClusterConfig:
        """Raises `ConfigError` when the cluster is not initialised."""
        return decode(self._expect(CONFIG).data, ClusterConfig, CONFIG)

    def shards(self) -> dict[str, Shard]:
        """Shards by name, in the order of their names."""
        return read_roster(self.tree, SHARDS, Shard)

    def readable_shards(self, damaged: list[str] | None = None) -> dict[str, Shard]:
        """`shards()` without those of which the text cannot be read.

        `damaged` gets a sentence about each of these, else the log does.
        """
        return read_roster(self.tree, SHARDS, Shard, passing_over(damaged))

    def shard_names(self) -> list[str]:
        """All shards, whatever their text is."""
        return sorted(self.tree.children(SHARDS))

    def shard(self, name: str) -> Shard | None:
        """One shard, whatever the text of others is; None when there is none of this name."""
        path = f"{SHARDS}/{name}"
        node = self.tree.get(path)
        return None if node is None else decode(node.data, Shard, path)

    def put_shard(self, shard: Shard) -> None:
        """Add the shard, or replace what is known about it."""
        self.put(f"{SHARDS}/{shard.name}", encode(shard))

    def remove_shard(self, name: str) -> None:
        """Forget a shard that serves no partition; `ConfigError` when it still does, or is not there."""
        mapped = self.partition_map().partitions_of(name)
        if mapped:
            raise ConfigError(f"shard {name} still serves {len(mapped)} partitions: drain it first")
        try:
            self.tree.delete(f"{SHARDS}/{check_name(name, 'shard name')}")
        except NodeMissing:
            raise ConfigError(f"there is no shard {name}") from None

    # The map

    def partition_map(self) -> PartitionMap:
        """Raises `ConfigError` when the cluster is not initialised, `Corruption` when it is unreadable."""
        node = self._expect(MAP)
        return decode_map(node.data, node.version, MAP)

    def replace_map(self, old: PartitionMap, new: PartitionMap) -> PartitionMap:
        """Put `new` in place of `old`; `new` as stored. Raises `VersionConflict` when `old` is outdated."""
        if len(old.partitions) != len(new.partitions):
            raise ValueError("the number of partitions never changes")
        return PartitionMap(self.tree.set(MAP, encode_map(new), old.version), new.partitions)

    def raise_epochs(
        self,
        partitions: Iterable[int],
        *,
        above: Mapping[int, int] | None = None,
        on_shard: str | None = None,
    ) -> PartitionMap:
        """Raise the epochs of these partitions by 1, or more to be higher than `above`. Returns the new map.

        Raises `VersionConflict` when one of them is not on `on_shard` (any more), or when others changed the
        map first, `ATTEMPTS_MAX` times in a row.
        """
        chosen = frozenset(partitions)
        for attempt in range(ATTEMPTS_MAX):
            old = self.partition_map()
            moved = sorted(p for p in chosen if on_shard not in (None, old.shard_of(p)))
            if moved:
                raise VersionConflict(f"partitions {moved} are not on shard {on_shard} any more")
            new = old.with_epochs({p: max(old.epoch_of(p), (above or {}).get(p, 0)) + 1 for p in chosen})
            try:
                return self.replace_map(old, new)
            except VersionConflict:
                time.sleep(0.001 * min(attempt, 20))
        raise VersionConflict(f"{MAP} was changed by others {ATTEMPTS_MAX} times in a row")

    def watch_map(self, callback: Callable[[PartitionMap], object]) -> Unsubscribe:
        """Call back with the map soon and after every change, as `Tree.watch` does.

        An unreadable map is logged and ignored: a process that has a map goes on with it.
        """

        def decoded(node: Node | None) -> None:
            if node is None:
                return
            try:
                partition_map = decode_map(node.data, node.version, MAP)
            except WalletError as error:
                logger.error("the partition map of version %d is passed over: %s", node.version, error)
                return
            callback(partition_map)

        return self.tree.watch(MAP, decoded)

    def watch_shards(self, callback: Callable[[dict[str, Shard]], object]) -> Unsubscribe:
        """Call back with `shards()` soon and whenever one comes, goes or changes its nodes."""
        return watch_roster(self.tree, SHARDS, Shard, callback)

    # Live processes

    def register_journal(self, info: JournalInfo) -> None:
        """Announce this journal process until it ends; `ConfigError` when another with its id stays alive.

        It replaces the registration of a dead process on this host at once, and waits for any other to go, up
        to `REGISTER_WAIT_S_MAX`.
        """

        def superseded(other: JournalInfo) -> bool:
            return other.host == info.host and (other.pid == info.pid or birth_of(other.pid) is None)

        self._register(f"{JOURNALS}/{info.journal_id}", info, superseded)

    def update_journal(self, info: JournalInfo) -> None:
        """Change the announcement of this process, which `register_journal` made.

        Raises `VersionConflict` when the process is not announced now.
        """
        path = f"{JOURNALS}/{info.journal_id}"
        node = self.tree.get(path)
        known = None if node is None else _readable(node, JournalInfo, path)
        if node is None or known is None or (known.host, known.pid) != (info.host, info.pid):
            raise VersionConflict(f"{path} is not that of this process")
        self.tree.set(path, encode(info), node.version)

    def register_service(self, info: ServiceInfo) -> None:
        """Announce this API process until it ends; call it after binding `info.address`.

        An earlier registration with the same address is replaced at once: this process has the address now.
        """
        self._register(f"{SERVICES}/{info.service_id}", info, lambda other: other.address == info.address)

    def journals(self) -> dict[str, JournalInfo]:
        """The live journal processes by id. Raises `Corruption` for a registration that cannot be read."""
        return read_roster(self.tree, JOURNALS, JournalInfo)

    def readable_journals(self, damaged: list[str] | None = None) -> dict[str, JournalInfo]:
        """`journals()` without registrations that cannot be read; `damaged` as in `readable_shards`."""
        return read_roster(self.tree, JOURNALS, JournalInfo, passing_over(damaged))

    def journal_ids(self) -> list[str]:
        """The live journal processes, whatever their registration says."""
        return sorted(self.tree.children(JOURNALS))

    def members(self) -> Members:
        """The journal copies that count; none before the first has registered."""
        node = self.tree.get(MEMBERS)
        if node is None:
            return Members(-1, ())
        text = decode(node.data, MembersText, MEMBERS)
        return Members(node.version, text.copies, text.replaced)

    def replace_members(
        self,
        old: Members,
        copies: Iterable[str],
        replaced: str | None = None,
        *,
        beside: PartitionMap | None = None,
    ) -> Members:
        """Replace `old` by these copies, and add `replaced` to those that never count again.

        Raises `VersionConflict` when `old`, or the map `beside` it, is outdated.
        """
        named = tuple(sorted({check_name(name, "journal id") for name in copies}))
        gone = old.replaced if replaced is None else (*old.replaced, replaced)
        data = encode(MembersText(named, gone))
        if old.version >= 0:
            same = None if beside is None else Version(MAP, beside.version)
            return Members(self.tree.set(MEMBERS, data, old.version, beside=same), named, gone)
        try:
            self.tree.create(MEMBERS, data)
        except NodeExists:
            raise VersionConflict(f"{MEMBERS} was created by another") from None
        return Members(0, named, gone)

    def services(self) -> dict[str, ServiceInfo]:
        """The live API processes by id. Raises `Corruption` for a registration that cannot be read."""
        return read_roster(self.tree, SERVICES, ServiceInfo)

    def readable_services(self, damaged: list[str] | None = None) -> dict[str, ServiceInfo]:
        """`services()` without registrations that cannot be read; `damaged` as in `readable_shards`."""
        return read_roster(self.tree, SERVICES, ServiceInfo, passing_over(damaged))

    def watch_journals(self, callback: Callable[[dict[str, JournalInfo]], object]) -> Unsubscribe:
        """Call back with `journals()` soon and whenever one comes, goes or changes its address."""
        return watch_roster(self.tree, JOURNALS, JournalInfo, callback)

    def watch_members(self, callback: Callable[[Members], object]) -> Unsubscribe:
        """Call back with `members()` soon and whenever they change. Unreadable ones are ignored."""

        def decoded(node: Node | None) -> None:
            if node is None:
                callback(Members(-1, ()))
            elif (text := _readable(node, MembersText, MEMBERS)) is not None:
                callback(Members(node.version, text.copies, text.replaced))
            else:
                logger.error("the list of journal copies is passed over: it cannot be read")

        return self.tree.watch(MEMBERS, decoded)

    def lock(
        self, name: str, *, holder: str | None = None, timeout_s: float = LOCK_TIMEOUT_S
    ) -> AbstractContextManager[HeldLock]:
        """`Tree.lock` under `/wallet/locks`; the holder is this host and process unless given."""
        who = holder or f"{socket.gethostname()} pid {os.getpid()}"
        return self.tree.lock(f"{LOCKS}/{check_name(name, 'lock name')}", who, timeout_s=timeout_s)

    def close(self) -> None:
        """Drop this process's registrations and close the tree."""
        self.tree.close()

    def _register(self, path: str, info: M, superseded: Callable[[M], bool]) -> None:
        data = encode(info)
        deadline = time.monotonic() + REGISTER_WAIT_S_MAX
        while True:
            try:
                self.tree.create(path, data, ephemeral=True)
                return
            except NodeExists:
                node = self.tree.get(path)
            if node is None:
                continue
            other = _readable(node, type(info), path)
            if other is None or superseded(other):
                with suppress(NodeMissing, VersionConflict):
                    self.tree.delete(path, node.version)
            elif time.monotonic() >= deadline:
                raise ConfigError(f"{path} is in use by another live process: {other}")
            else:
                time.sleep(_REGISTER_RETRY_S)

    def _expect(self, path: str) -> Node:
        node = self.tree.get(path)
        if node is None:
            raise ConfigError(
                f"there is no initialised cluster, run wallet-admin init, or if its tree was lost "
                f"wallet-admin restore: {self.tree}"
            )
        return node

    def put(self, path: str, data: bytes) -> None:
        """Create or replace a node, also while others do so."""
        for _attempt in range(ATTEMPTS_MAX):
            node = self.tree.get(path)
            with suppress(NodeExists, NodeMissing, VersionConflict):
                if node is None:
                    self.tree.create(path, data)
                else:
                    self.tree.set(path, data, node.version)
                return
        raise VersionConflict(f"{path} was changed by others {ATTEMPTS_MAX} times in a row")


def open_directory(
    zookeeper: str | None,
    map_file: Path | None,
    *,
    credentials: Credentials | None = None,
    timeout_s: float = SESSION_TIMEOUT_S,
) -> Directory:
    """The directory in ZooKeeper or in a local file; exactly one is given, else `ConfigError`.

    `timeout_s` is ZooKeeper's session timeout, and how long the connection may take. `ConfigError` also when the
    tree has access control and does not know the credentials, or at once when no host has such a name.
    """
    if zookeeper and not map_file:
        check_names_known(zookeeper)
        tree = ZooKeeperTree(zookeeper, timeout_s, credentials=credentials)
        try:
            if credentials is not None:
                check_known(tree, credentials)
        except BaseException:
            tree.close()
            raise
        return Directory(tree)
    if map_file and not zookeeper:
        if credentials is not None:
            raise WrongUsage("--zookeeper-user says nothing about a map file: the file's own permissions do")
        return Directory(FileTree(map_file))
    raise WrongUsage("give either --zookeeper host:port,… or --map-file FILE")


def on_loop(loop: AbstractEventLoop, callback: Callable[[*Ts], object]) -> Callable[[*Ts], None]:
    """`callback`, called by the loop instead of by the thread with the news; silent once it closed."""

    def deliver(*args: *Ts) -> None:
        try:
            loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            if not loop.is_closed():
                raise

    return deliver


def _readable(node: Node, kind: type[T], path: str) -> T | None:
    try:
        return decode(node.data, kind, path)
    except (ConfigError, Corruption):
        return None
