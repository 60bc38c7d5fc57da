"""Joins image, fold and comparison: checks that Redis holds exactly what the journal says.

It may run under traffic. First it takes the image of every partition, then it folds the journal once, up to the seqs
of the images, so later changes do not matter. A partition that was recovered in between (its epoch tells) is checked
again.

The images together are a cut through the journal. A credit before the cut may have its debit after the cut; such
debits are looked up after the cut (`transit.py`). So every cent is accounted for: received, or on its way.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.exceptions import MovedError, RedisError

from wallet_engine.admin.proof.comparison import MISMATCHES_MAX, Comparison, Mismatch
from wallet_engine.admin.proof.fold import JournalFold, Progress
from wallet_engine.admin.proof.image import PartitionImage, take_image
from wallet_engine.admin.proof.refunds import RefundEvidence
from wallet_engine.domain.entry import Entry, parse_entry
from wallet_engine.domain.errors import ConfigError, Corruption
from wallet_engine.domain.ids import is_system
from wallet_engine.domain.money import format_amount
from wallet_engine.domain.oracle_state import PartitionState
from wallet_engine.domain.transit import Transit
from wallet_engine.journal.reader import read
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.topology import connect, find_primary
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import PartitionMap
from wallet_engine.routing.slots import tag_of

#: How long a shard may be without a primary, for example in a failover, before that is reported.
PRIMARY_WAIT_S_MAX: Final = 15.0
#: How long the journal may take to write entries that Redis has already.
JOURNAL_WAIT_S_MAX: Final = 10.0
#: The same limit for entries after the cut in a journal that may have no writer.
OFFLINE_WAIT_S_MAX: Final = 1.0
#: Maximum rounds: a partition that was recovered meanwhile is checked again in the next.
ROUNDS_MAX: Final = 3
_ROUND_PAUSE_S: Final = 1.0
REDIS_TIMEOUT_S: Final = 5.0
_RETRY_S: Final = 0.2
_ALL_SEQS: Final = 2**62


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result. `mismatches` are the first of `mismatches_total`, at most `MISMATCHES_MAX`."""

    offline: bool
    partitions: int
    entries: int
    accounts: int
    open_entries: int
    mismatches: tuple[Mismatch, ...]
    mismatches_total: int
    #: currency -> minor units on all stripes of `@transit`, for every currency in the journal
    in_transit_minor: dict[str, int]

    @property
    def ok(self) -> bool:
        return self.mismatches_total == 0

    def document(self) -> dict[str, Any]:
        transit = {ccy: format_amount(minor, ccy) for ccy, minor in self.in_transit_minor.items()}
        return {
            "ok": self.ok,
            "offline": self.offline,
            "partitions": self.partitions,
            "entries": self.entries,
            "accounts": self.accounts,
            "open_entries": self.open_entries,
            "mismatches": [mismatch.document() for mismatch in self.mismatches],
            "mismatches_total": self.mismatches_total,
            "in_transit": transit,
        }


def verify_offline(journal: Path, progress: Progress | None = None) -> Verdict:
    """Check the whole journal alone: frames, chains, outcomes, balance sums, and transfers between partitions."""
    fold, between = JournalFold(journal), _Between()
    fold.run(progress=progress, on_operations=between.entry)
    _look_behind(fold, between.transit, OFFLINE_WAIT_S_MAX)
    return _verdict(fold, between, (), len(fold.states), offline=True)


def verify_online(
    directory: Directory,
    journal: Path,
    *,
    progress: Progress | None = None,
    on_image: Callable[[int], object] | None = None,
) -> Verdict:
    """Compare every partition of the map. `on_image` is called with the number of images taken.

    Raises `ConfigError` when a shard does not answer.
    """
    partitions = range(len(directory.partition_map().partitions))
    comparisons: dict[int, Comparison] = {}
    todo: Collection[int] = partitions
    for _round in range(ROUNDS_MAX):
        fold, between = JournalFold(journal), _Between()
        comparisons |= {p: Comparison(image) for p, image in take_images(directory, todo, on_image).items()}
        _compare(fold, between, comparisons, todo, progress)
        todo = _recovered_since(directory, [comparisons[p] for p in todo])
        if not todo or fold.damage is not None:
            break
        time.sleep(_ROUND_PAUSE_S)
    _look_behind(fold, between.transit, JOURNAL_WAIT_S_MAX)
    return _verdict(fold, between, comparisons.values(), len(partitions), offline=False)


def take_images(
    directory: Directory, partitions: Collection[int], on_image: Callable[[int], object] | None = None
) -> dict[int, PartitionImage]:
    """The image of each partition, from its shard in the present map. Raises `ConfigError`."""
    images: dict[int, PartitionImage] = {}
    deadline = time.monotonic() + PRIMARY_WAIT_S_MAX
    while True:
        partition_map = directory.partition_map()
        troubles = []
        for name, shard in directory.shards().items():
            todo = [p for p in partition_map.partitions_of(name) if p in partitions and p not in images]
            if todo:
                trouble = _take_from_shard(shard.nodes, todo, partition_map, images, on_image)
                if trouble is not None:
                    troubles.append(f"shard {name}: {trouble}")
        if len(images) == len(partitions):
            return images
        if time.monotonic() > deadline:
            said = "; ".join(troubles) or "the map names shards that are not there"
            raise ConfigError(
                f"{said}: mend that (see wallet-admin status), or check the journal alone with --offline"
            )
        time.sleep(_RETRY_S)


def _take_from_shard(
    nodes: tuple[str, ...],
    partitions: Iterable[int],
    partition_map: PartitionMap,
    images: dict[int, PartitionImage],
    on_image: Callable[[int], object] | None,
) -> str | None:
    """Add the images of one shard. Returns an error that may pass; None when all are taken."""
    primary = find_primary(nodes)
    if primary is None:
        return f"no primary answers at {', '.join(nodes)}"
    client = connect(primary.address, timeout_s=REDIS_TIMEOUT_S)
    try:
        for partition in partitions:
            keys = PartitionKeys(tag_of(partition, len(partition_map.partitions)))
            images[partition] = take_image(client, partition, keys)
            if on_image is not None:
                on_image(len(images))
    except MovedError as error:
        return f"slot {error.slot_id} is at {error.host}:{error.port} for Redis, not at {primary.address}"
    except (RedisError, OSError) as error:
        return f"{primary.address} says {' '.join(str(error).split())}"
    except UnicodeDecodeError:
        return f"{primary.address} holds bytes that are not text"
    finally:
        client.close()
    return None


def _compare(
    fold: JournalFold,
    between: "_Between",
    comparisons: Mapping[int, Comparison],
    todo: Collection[int],
    progress: Progress | None,
) -> None:
    """Fold all partitions up to their images; compare those of `todo`."""
    ends = {p: _ALL_SEQS if c.end_seq is None else c.end_seq for p, c in comparisons.items()}
    for partition in todo:
        comparisons[partition].at(PartitionState())

    def after_entry(partition: int, state: PartitionState) -> None:
        comparisons[partition].at(state)

    deadline = time.monotonic() + JOURNAL_WAIT_S_MAX
    while True:
        fold.run(
            partitions=comparisons.keys(),
            end=ends,
            on_entry=after_entry,
            on_next=lambda partition, header: comparisons[partition].next_entry(header),
            on_operations=between.entry,
            progress=progress,
        )
        late = [p for p in comparisons if p not in fold.broken and fold.seq(p) < ends[p] < _ALL_SEQS]
        if not late or fold.damage is not None or time.monotonic() > deadline:
            break
        time.sleep(_RETRY_S)
    for partition in todo:
        damaged = fold.damage is not None or partition in fold.broken
        comparisons[partition].close(fold.seq(partition), damaged=damaged)


def _look_behind(fold: JournalFold, transit: Transit, wait_s_max: float) -> None:
    """Give `transit` the entries after the cut, until every transfer is complete or the time is up."""
    seqs = {partition: fold.seq(partition) for partition in fold.states}
    deadline = time.monotonic() + wait_s_max
    while fold.sound and transit.wanted():
        try:
            for record in read(fold.directory, after=seqs):
                entry = parse_entry(record.payload)
                transit.later(record.partition, entry)
                seqs[record.partition] = entry.header.seq
                if not transit.wanted():
                    return
        except Corruption as error:  # in an entry after the cut, which the fold has not checked
            fold.damage = str(error)
            return
        if time.monotonic() > deadline:
            return
        time.sleep(_RETRY_S)


def _recovered_since(directory: Directory, comparisons: Iterable[Comparison]) -> list[int]:
    """Partitions whose mismatches may come from a recovery during the image."""
    partition_map = directory.partition_map()
    return [
        comparison.image.partition
        for comparison in comparisons
        if comparison.mismatches_total
        and (
            comparison.image.state == "recovering"
            or comparison.image.epoch != str(partition_map.epoch_of(comparison.image.partition))
        )
    ]


def _verdict(
    fold: JournalFold,
    between: "_Between",
    comparisons: Iterable[Comparison],
    partitions: int,
    *,
    offline: bool,
) -> Verdict:
    transit = between.transit
    found, total = [*_journal_mismatches(fold), *_transit_mismatches(fold, transit)], 0
    found += _refund_mismatches(fold, between.refunds)
    total += len(found)
    for comparison in comparisons:
        total += comparison.mismatches_total
        found += comparison.mismatches
    whole = [state for partition, state in fold.states.items() if partition not in fold.broken]
    in_transit = dict.fromkeys((currency for state in whole for currency in state.balances), 0)
    in_transit |= transit.in_transit()
    return Verdict(
        offline,
        partitions,
        fold.entries,
        sum(_accounts(state) for state in whole),
        sum(len(state.open) for state in whole),
        tuple(found[:MISMATCHES_MAX]),
        total,
        dict(sorted(in_transit.items())),
    )


def _journal_mismatches(fold: JournalFold) -> list[Mismatch]:
    """Mismatches within the journal itself."""
    found = [] if fold.damage is None else [Mismatch(None, "journal", "files", fold.damage, None)]
    for partition, why in sorted(fold.broken.items()):
        found.append(Mismatch(partition, "journal", "chain", why, None))
    for partition, state in sorted(fold.states.items()):
        if partition not in fold.broken:
            try:
                state.check()
            except Corruption as error:
                found.append(Mismatch(partition, "books", "", str(error), None))
    return found


def _transit_mismatches(fold: JournalFold, transit: Transit) -> list[Mismatch]:
    """Transfers between partitions that do not match, and `@transit` balances that are wrong (G1, G2)."""
    found = [
        Mismatch(fault.partition, "transit", str(fault.place), fault.what, None)
        for fault in transit.faults(unread=fold.broken if fold.damage is None else _Everything())
    ]
    for partition, state in sorted(fold.states.items()):
        if partition in fold.broken:
            continue
        for currency, minor in state.in_transit().items():
            if minor != (told := transit.stripes[partition, currency]):
                what = f"its entries add up to {told}, its balance is {minor}"
                found.append(Mismatch(partition, "transit", f"@transit {currency}", what, None))
        if state.open.keys() != transit.open_entries(partition):
            what = (
                f"open are {sorted(transit.open_entries(partition))}, and {sorted(state.open)} are remembered"
            )
            found.append(Mismatch(partition, "transit", "open", what, None))
    if fold.sound and not found:
        waiting = transit.open_minor()
        for currency, minor in transit.in_transit().items():
            if minor != waiting[currency]:
                what = f"{minor} stand on it, {waiting[currency]} are on their way"
                found.append(Mismatch(None, "transit", f"@transit {currency}", what, None))
    return found


def _refund_mismatches(fold: JournalFold, refunds: RefundEvidence) -> list[Mismatch]:
    """Refunds that contradict their originals."""
    if fold.damage is not None:
        return []
    faults = refunds.faults(fold.directory, unread=fold.broken)
    return [Mismatch(fault.partition, "refund", str(fault.place), fault.what, None) for fault in faults]


class _Between:
    """Checks that need the entries of several partitions."""

    def __init__(self) -> None:
        self.transit = Transit()
        self.refunds = RefundEvidence()

    def entry(self, partition: int, entry: Entry) -> None:
        self.transit.entry(partition, entry)
        self.refunds.entry(partition, entry)


class _Everything:
    def __contains__(self, _: object) -> bool:
        return True


def _accounts(state: PartitionState) -> int:
    """The number of ordinary accounts; an account with several currencies counts once."""
    names = {account for book in state.balances.values() for account in book}
    return sum(not is_system(account) for account in names)
