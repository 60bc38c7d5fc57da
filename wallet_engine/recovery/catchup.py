"""Make partitions of this copy hold what another copy has: set aside what contradicts it, fetch what is missing."""

from collections.abc import Mapping, Sequence
from typing import Final

from wallet_engine.engine.drain import GroupCommit
from wallet_engine.journal.copies_wire import (
    EntriesAsk,
    EntryTexts,
    HeldAsk,
    More,
    Target,
    YesNo,
)
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.peers import Peer
from wallet_engine.telemetry.logging import get_logger

#: Time for the next entries of a journal that may have to be read from its beginning.
ENTRIES_S_MAX: Final = 60.0

log = get_logger(__name__)


class Superseded(OSError):
    """A newer epoch was promised meanwhile: what was to be done for the older one must not be done any more."""


async def catch_up(copy: JournalCopy, commit: GroupCommit, source: Peer, targets: Sequence[Target]) -> None:
    """Returns when this copy's chains end with the targets, or with entries of their epochs behind them.

    The source must hold the targets. Raises OSError, `Superseded` among them, with less done than asked.
    """
    wants = []
    for target in targets:
        after_seq = await _agreed(copy, source, target)
        _check(copy, target)
        _cut(copy, target, after_seq)
        if copy.writer.position(target.partition).seq < target.seq:
            wants.append((target.partition, after_seq, target.seq))
    if wants:
        await _fetch(copy, commit, source, wants, {target.partition: target for target in targets})
    for target in targets:
        if not copy.writer.holds(target.partition, target.seq, target.nonce) and target.seq:
            raise OSError(
                f"partition {target.partition}: {source.journal_id} did not have entry {target.seq}"
            )


async def _agreed(copy: JournalCopy, source: Peer, target: Target) -> int:
    """The last seq, up to that of the target, at which this chain and the source's are the same."""
    partition, _, target_seq, target_nonce = target
    writer = copy.writer
    own_seq = writer.position(partition).seq
    if own_seq >= target_seq and (target_seq == 0 or writer.holds(partition, target_seq, target_nonce)):
        return target_seq

    async def same(seq: int) -> bool:
        nonce = writer.nonce_at(partition, seq)
        if seq == 0 or nonce is None:
            return seq == 0
        return (await source.ask(HeldAsk([(partition, seq, nonce)]), YesNo)).answers[0]

    high = min(own_seq, target_seq)
    if await same(high):
        return high
    step = 1
    low = high - 1
    while low > 0 and not await same(low):
        high, step = low, 2 * step
        low = max(0, low - step)
    while high - low > 1:  # the same at low, not at high
        middle = (low + high) // 2
        if await same(middle):
            low = middle
        else:
            high = middle
    return low


def _cut(copy: JournalCopy, target: Target, after_seq: int) -> None:
    """Set aside what stands behind the last common entry, unless it is of the target's epoch already."""
    writer = copy.writer
    at = writer.position(target.partition)
    if at.seq <= after_seq or (after_seq == target.seq and at.epoch >= target.epoch):
        return
    kept = writer.set_aside(target.partition, after_seq)
    log.warning(
        "orphaned entries set aside",
        partition=target.partition,
        after_seq=after_seq,
        last_seq=at.seq,
        file=str(kept),
    )


async def _fetch(
    copy: JournalCopy,
    commit: GroupCommit,
    source: Peer,
    wants: list[tuple[int, int, int]],
    targets: Mapping[int, Target],
) -> None:
    answer = await source.ask(EntriesAsk(wants), EntryTexts, ENTRIES_S_MAX)
    fetched = 0
    while True:
        for partition, _ in answer.entries:
            _check(copy, targets[partition])
        commit.install(answer.entries)
        fetched += len(answer.entries)
        if answer.done:
            break
        answer = await source.ask(More(), EntryTexts, ENTRIES_S_MAX)
    log.info("caught up", source=source.journal_id, partitions=len(wants), entries=fetched)


def _check(copy: JournalCopy, target: Target) -> None:
    if copy.superseded(target.partition, target.epoch):
        raise Superseded(f"partition {target.partition}: epoch {target.epoch} is over")
