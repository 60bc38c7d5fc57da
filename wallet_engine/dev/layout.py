"""The settings that a data directory was created with. Later starts keep them and refuse others."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from wallet_engine.dev.files import replace_file
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.domain.limits import STREAM_ENTRIES_MAX
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.slots import slot_range

SHARDS_DEFAULT: Final = 1
REPLICAS_DEFAULT: Final = 0
PARTITIONS_DEFAULT: Final = 64
JOURNALS_DEFAULT: Final = 1


@dataclass(frozen=True, slots=True)
class Wishes:
    """The settings from the command line; None for a flag that was not given."""

    shards: int | None = None
    replicas: int | None = None
    partitions: int | None = None
    embedded: bool = False
    journals: int | None = None
    stream_entries_max: int | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """The contents of `DIR/layout.json`, written at the first start.

    These are the settings of the first start. Shards may be added and partitions moved later: only the directory
    (ZooKeeper or the map file) has the present ones.
    """

    embedded: bool
    shards: int
    replicas: int
    partitions: int
    journals: int = JOURNALS_DEFAULT
    stream_entries_max: int = STREAM_ENTRIES_MAX

    @classmethod
    def load(cls, path: Path) -> "Layout | None":
        """The layout in the file; None without a file.

        Raises `Corruption` when the file is no layout, `ConfigError` when it cannot be read.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror}") from None
        except msgspec.MsgspecError as error:
            raise Corruption(f"{path} is damaged: {error}") from None

    def __str__(self) -> str:
        counts = f"--shards {self.shards} --replicas {self.replicas} --partitions {self.partitions}"
        if self.journals != JOURNALS_DEFAULT:
            counts += f" --journals {self.journals}"
        if self.stream_entries_max != STREAM_ENTRIES_MAX:
            counts += f" --stream-entries-max {self.stream_entries_max}"
        return f"{counts} --embedded" if self.embedded else counts

    @property
    def journal_quorum(self) -> int:
        """A majority of the journal copies."""
        return self.journals // 2 + 1

    def save(self, path: Path) -> None:
        """Write the file. Raises OSError."""
        replace_file(path, msgspec.json.format(msgspec.json.encode(self)) + b"\n")


def settle(stored: Layout | None, wishes: Wishes, data_dir: Path) -> Layout:
    """The layout to start with. Raises `ConfigError` when a flag contradicts the stored layout."""
    if stored is None:
        return Layout(
            wishes.embedded,
            SHARDS_DEFAULT if wishes.shards is None else wishes.shards,
            REPLICAS_DEFAULT if wishes.replicas is None else wishes.replicas,
            PARTITIONS_DEFAULT if wishes.partitions is None else wishes.partitions,
            JOURNALS_DEFAULT if wishes.journals is None else wishes.journals,
            STREAM_ENTRIES_MAX if wishes.stream_entries_max is None else wishes.stream_entries_max,
        )
    for name in ("shards", "replicas", "partitions", "journals", "stream_entries_max"):
        wish, kept = getattr(wishes, name), getattr(stored, name)
        if wish not in (None, kept):
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{data_dir} was made with {flag} {kept}, not {wish}: "
                f"leave {flag} out or give another --data-dir"
            )
    if wishes.embedded and not stored.embedded:
        raise ConfigError(
            f"{data_dir} was made with ZooKeeper: leave --embedded out or give another --data-dir"
        )
    return stored


def ownership_of(partition_map: PartitionMap, shards: Iterable[str]) -> dict[str, list[range]]:
    """Shard -> its slot ranges, adjacent ones joined; empty for a shard without partitions."""
    ownership: dict[str, list[range]] = {shard: [] for shard in shards}
    count = len(partition_map.partitions)
    for partition, entry in enumerate(partition_map.partitions):
        ranges, slots = ownership[entry.shard], slot_range(partition, count)
        if ranges and ranges[-1].stop == slots.start:
            ranges[-1] = range(ranges[-1].start, slots.stop)
        else:
            ranges.append(slots)
    return ownership
