"""The facts in the directory, as immutable values, and their JSON.

Encoded by field name; unknown fields are ignored, so that an older program can read what a newer one wrote.
`decode` raises `Corruption` for bytes that are not the value at all, `ConfigError` for a value out of bounds.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.limits import (
    PARTITIONS_MAX,
    RETENTION_MS_MIN,
    STREAM_ENTRIES_MAX,
    STREAM_ENTRIES_MAX_LEAST,
    STREAM_ENTRIES_MAX_MOST,
)
from wallet_engine.domain.paths import text_path
from wallet_engine.domain.patterns import is_system_pattern
from wallet_engine.routing.slots import valid_partitions

T = TypeVar("T")

SYSTEM_ACCOUNTS_DEFAULT: Final = ("@bank", "@fees", "@unclaimed", "@bank:*")

NAME_LENGTH_MAX: Final = 64

_name_match = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{NAME_LENGTH_MAX - 1}}}\Z").match
_address_match = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})\Z").match


def check_name(name: str, what: str) -> str:
    """A name that can stand in a path of the store, or `ConfigError` that says `what` it was meant for."""
    if not _name_match(name):
        raise ConfigError(
            f"{what} {name[:80]!r} must be 1-{NAME_LENGTH_MAX} of A-Z a-z 0-9 . _ - and not begin with a sign"
        )
    return name


def check_address(address: str, what: str) -> str:
    """`host:port`, an IPv6 host in brackets; or `ConfigError`."""
    match = _address_match(address)
    if match is None or not 0 < int(match.group(1)) < 65536:
        raise ConfigError(f"{what} {address[:80]!r} must be host:port")
    return address


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """The settings that `init` fixes. Raises `ConfigError` when out of bounds."""

    #: A power of two, 1 to `PARTITIONS_MAX`; never changes afterwards.
    partitions: int = 64
    #: How long a transaction id is remembered at least, in milliseconds (G4).
    retention_ms: int = RETENTION_MS_MIN
    #: Journal copies that must have an entry on disk before it is answered (G5).
    journal_quorum: int = 1
    #: Patterns of the existing system accounts; only the role `admin` may use others.
    system_accounts: tuple[str, ...] = SYSTEM_ACCOUNTS_DEFAULT
    #: Maximum entries of a partition that Redis keeps for the journal (`domain/limits.py`).
    stream_entries_max: int = STREAM_ENTRIES_MAX

    def __post_init__(self) -> None:
        if not valid_partitions(self.partitions):
            raise ConfigError(f"partitions must be a power of two, 1 to {PARTITIONS_MAX}: {self.partitions}")
        if self.retention_ms < RETENTION_MS_MIN:
            raise ConfigError(f"retention_ms must be at least {RETENTION_MS_MIN}: {self.retention_ms}")
        if self.journal_quorum < 1:
            raise ConfigError(f"journal_quorum must be at least 1: {self.journal_quorum}")
        for pattern in self.system_accounts:
            if not is_system_pattern(pattern) or pattern == TRANSIT:
                raise ConfigError(f"system_accounts: {pattern[:80]!r} is none such as @fees or @bank:*")
        least, most = STREAM_ENTRIES_MAX_LEAST, STREAM_ENTRIES_MAX_MOST
        if not least <= self.stream_entries_max <= most:
            raise ConfigError(f"stream_entries_max must be {least} to {most}: {self.stream_entries_max}")


@dataclass(frozen=True, slots=True)
class Shard:
    """A Redis primary and its replicas. Which node is primary at the moment, only Redis knows."""

    name: str
    #: `host:port` of each node.
    nodes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_name(self.name, "shard name")
        if not self.nodes:
            raise ConfigError(f"shard {self.name} has no nodes")
        for node in self.nodes:
            check_address(node, f"node of shard {self.name}")


@dataclass(frozen=True, slots=True)
class Trouble:
    """A side task of a process that fails."""

    what: str
    #: Time of the first failure in a row, Unix milliseconds.
    since_ms: int


@dataclass(frozen=True, slots=True)
class Versions:
    """The version of a process, and the newest formats that it can read. It writes these versions."""

    #: Of the package.
    code: str
    #: The rules for deciding entries (`domain/entry.py`).
    entries: int
    #: Of snapshots (`journal/snapshots.py`).
    snapshots: int
    #: The form in which Redis remembers ids (`domain/memory.py`).
    ids: int

    def __str__(self) -> str:
        return f"{self.code} (entries {self.entries}, snapshots {self.snapshots}, ids {self.ids})"


@dataclass(frozen=True, slots=True)
class JournalInfo:
    """A live journal process."""

    journal_id: str
    #: `host:port` of its receipt server.
    address: str
    #: Where its segments are, on its own host (`path_text`).
    directory: str
    pid: int
    host: str
    #: Whether it runs with --insecure and listens to every caller.
    insecure: bool = False
    troubles: tuple[Trouble, ...] = ()
    #: TLS with peers that have certificates: `required`, `optional`, or empty for none.
    tls: str = ""
    #: None for a process of an older version.
    versions: Versions | None = None

    def __post_init__(self) -> None:
        check_name(self.journal_id, "journal id")
        check_address(self.address, f"address of journal {self.journal_id}")

    @property
    def path(self) -> Path:
        """The directory, for processes on its host."""
        return text_path(self.directory)


@dataclass(frozen=True, slots=True)
class Members:
    """The journal copies that count, as of one version of the node; version -1 when there is none yet."""

    version: int
    copies: tuple[str, ...]
    #: Copies that another one replaced: their contents must not be trusted any more.
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MembersText:
    """`Members` as stored."""

    copies: tuple[str, ...]
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """A live API process; `address` is `host:port` of its HTTP server."""

    service_id: str
    address: str
    pid: int
    #: Whether it runs with --insecure and accepts every caller.
    insecure: bool = False
    #: Whether it speaks HTTPS.
    tls: bool = False
    versions: Versions | None = None

    def __post_init__(self) -> None:
        check_name(self.service_id, "service id")
        check_address(self.address, f"address of service {self.service_id}")


@dataclass(frozen=True, slots=True)
class PartitionEntry:
    """Where one partition is, and under which epoch it may be written."""

    shard: str
    epoch: int


@dataclass(frozen=True, slots=True)
class PartitionMap:
    """Partition -> shard and epoch, as of one version of the map node. The `with_…` give new maps."""

    #: The store's version of the node; not part of the JSON.
    version: int
    partitions: tuple[PartitionEntry, ...]

    def __post_init__(self) -> None:
        if not valid_partitions(len(self.partitions)):
            raise ConfigError(f"a partition map cannot have {len(self.partitions)} partitions")

    def shard_of(self, partition: int) -> str:
        """The name of the shard that serves the partition."""
        return self.partitions[partition].shard

    def epoch_of(self, partition: int) -> int:
        """The epoch that the partition's writers must know."""
        return self.partitions[partition].epoch

    def partitions_of(self, shard: str) -> tuple[int, ...]:
        """The partitions on a shard, ascending; empty for a shard the map does not mention."""
        return tuple(p for p, entry in enumerate(self.partitions) if entry.shard == shard)

    def supersedes(self, other: "PartitionMap") -> bool:
        """Whether this map is as new as the other, or newer.

        The store counts from 0 again after its data was lost and restored. Epochs never go back, so a map
        with any higher epoch is newer, whatever its version.
        """
        pairs = zip(self.partitions, other.partitions, strict=True)
        return self.version >= other.version or any(mine.epoch > theirs.epoch for mine, theirs in pairs)

    def with_epochs(self, epochs: Mapping[int, int]) -> "PartitionMap":
        """The map with other epochs. Raises `ValueError` for one below the present: that would unfence."""
        entries = list(self.partitions)
        for partition, epoch in epochs.items():
            entry = self._entry(partition)
            if epoch < entry.epoch:
                raise ValueError(f"partition {partition}: epoch {epoch} is below {entry.epoch}")
            entries[partition] = replace(entry, epoch=epoch)
        return replace(self, partitions=tuple(entries))

    def with_shard(self, partition: int, shard: str) -> "PartitionMap":
        """The map with one partition on another shard, its epoch unchanged."""
        entries = list(self.partitions)
        entries[partition] = replace(self._entry(partition), shard=shard)
        return replace(self, partitions=tuple(entries))

    def _entry(self, partition: int) -> PartitionEntry:
        if not 0 <= partition < len(self.partitions):
            raise ValueError(f"partition {partition} is not one of 0..{len(self.partitions) - 1}")
        return self.partitions[partition]


@dataclass(frozen=True, slots=True)
class _MapText:
    partitions: tuple[PartitionEntry, ...]


def spread(partitions: int, shard_names: Sequence[str]) -> PartitionMap:
    """The first placement: contiguous ranges, shards in order, sizes differing by at most 1, epoch 1."""
    names = tuple(shard_names)
    if not names or len(set(names)) != len(names):
        raise ConfigError("a placement needs at least one shard, each named once")
    bounds = [i * partitions // len(names) for i in range(len(names) + 1)]
    entries = [
        PartitionEntry(name, 1)
        for name, begin, end in zip(names, bounds, bounds[1:], strict=False)
        for _ in range(begin, end)
    ]
    return PartitionMap(0, tuple(entries))


def encode(value: ClusterConfig | Shard | JournalInfo | ServiceInfo | MembersText) -> bytes:
    """JSON of one value."""
    return msgspec.json.encode(value)


def encode_map(partition_map: PartitionMap) -> bytes:
    """JSON of a map, without its version."""
    return msgspec.json.encode(_MapText(partition_map.partitions))


def decode(data: bytes, kind: type[T], where: str) -> T:
    """The value of that type. `where` (a path) begins the text of `Corruption` or `ConfigError`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Corruption(f"{where} does not hold a {kind.__name__}: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def decode_map(data: bytes, version: int, where: str) -> PartitionMap:
    """The map as of `version`. Raises `Corruption`."""
    entries = decode(data, _MapText, where).partitions
    if not valid_partitions(len(entries)):
        raise Corruption(
            f"{where} holds {len(entries)} partitions, which is not a power of two up to {PARTITIONS_MAX}"
        )
    return PartitionMap(version, entries)


def by_name(shards: Iterable[Shard]) -> dict[str, Shard]:
    """Shards by name. Raises `ConfigError` when a name or a node occurs twice."""
    result: dict[str, Shard] = {}
    nodes: dict[str, str] = {}
    for shard in shards:
        if shard.name in result:
            raise ConfigError(f"shard {shard.name} is named twice")
        for node in shard.nodes:
            if node in nodes:
                raise ConfigError(f"node {node} stands in shard {nodes[node]} and in shard {shard.name}")
            nodes[node] = shard.name
        result[shard.name] = shard
    return result
