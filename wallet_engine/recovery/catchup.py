"""Makes partitions of this copy equal to another copy: sets aside what differs, fetches what is missing."""

from collections.abc import Mapping, Sequence
from typing import Final

from wallet_engine.domain.errors import text_of
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copies_wire import (
    EntriesAsk,
    EntryTexts,
    More,
    Standing,
    Standings,
    StateAsk,
    Target,
)
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.peers import Peer
from wallet_engine.recovery.agreement import Agreement, agree
from wallet_engine.recovery.fellows import Council, Fellows
from wallet_engine.telemetry.logging import get_logger

#: Time for the next entries; the first one may have to be searched in a segment without a good index.
ENTRIES_S_MAX: Final = 15.0
#: How often a comparison is repeated when the chains change meanwhile, because another task catches up too.
ATTEMPTS_MAX: Final = 5

log = get_logger(__name__)


class Superseded(OSError):
    """A newer epoch was promised meanwhile: work for the older epoch must stop."""


async def catch_up(copy: JournalCopy, commit: GroupCommit, source: Peer, targets: Sequence[Target]) -> None:
    """Returns when this copy's chains end with the targets, or with later entries of their epochs.

    The source must hold the targets. Raises OSError or `Superseded`; then only a part may be done.
    """
    agreements = await _agreed(copy, commit, source, targets)
    wants = [
        (target.partition, agreement.seq, target.seq)
        for agreement, target in zip(agreements, targets, strict=True)
        if copy.writer.position(target.partition).seq < target.seq
    ]
    if wants:
        await _fetch(copy, commit, source, wants, {target.partition: target for target in targets})
    ends = [(target.partition, target.seq, target.nonce) for target in targets]
    for target, held in zip(targets, await copy.held(ends), strict=True):
        if not held and target.seq:
            raise OSError(
                f"partition {target.partition}: {source.journal_id} did not have entry {target.seq}"
            )


async def follow(
    copy: JournalCopy, commit: GroupCommit, fellows: Fellows, council: Council, epochs: Mapping[int, int]
) -> set[int]:
    """Take over chains from the other copies that answer, if they follow these epochs or newer ones.

    Returns the partitions for which a copy does. If one copy fails, the others are still asked. Raises OSError if then
    some partition is missing, `WalletError`; then only a part may be done.
    """
    peers = await fellows.reach(council.members.copies)
    failure: OSError | None = None
    try:
        states: list[tuple[Peer, Sequence[Standing]]] = []
        for peer in peers:
            try:
                states.append((peer, (await peer.ask(StateAsk(list(epochs)), Standings)).standings))
            except OSError as error:
                failure = failure or error
        found: set[int] = set()
        # As much as possible from one copy: each copy reads the same segments for any part of them.
        for peer, standings in sorted(states, key=_length, reverse=True):
            follows = [each for each in standings if each.view >= epochs[each.partition]]
            targets = [
                Target(each.partition, epochs[each.partition], each.seq, each.nonce)
                for each in follows
                if each.partition not in found or each.seq > copy.writer.durable_seq(each.partition)
            ]
            try:
                if targets:
                    await catch_up(copy, commit, peer, targets)
            except Superseded:
                raise
            except OSError as error:  # for example a damaged segment there
                log.warning("could not catch up", source=peer.journal_id, reason=text_of(error))
                failure = failure or error
                continue
            found |= {each.partition for each in follows}
        if failure is not None and not found.issuperset(epochs):
            raise failure
        return found
    finally:
        for peer in peers:
            peer.close()


def _length(state: tuple[Peer, Sequence[Standing]]) -> int:
    return sum(standing.seq for standing in state[1])


async def _agreed(
    copy: JournalCopy, commit: GroupCommit, source: Peer, targets: Sequence[Target]
) -> list[Agreement]:
    """How far the chains agree. Sets aside what this copy has after that, unless it is newer."""
    for _ in range(ATTEMPTS_MAX):
        agreements = await agree(copy, source, targets)
        for target in targets:
            _check(copy, target)
        surplus = [agreement for agreement in agreements if agreement.surplus]
        if all(copy.writer.position(each.target.partition) == each.own for each in surplus):
            if surplus:
                await _set_aside(commit, surplus)
            return agreements
    raise OSError(f"the chains change while they are compared with those of {source.journal_id}")


async def _set_aside(commit: GroupCommit, surplus: Sequence[Agreement]) -> None:
    kept = await commit.set_aside({each.target.partition: each.seq for each in surplus})
    for each in surplus:
        log.warning(
            "orphaned entries set aside",
            partition=each.target.partition,
            after_seq=each.seq,
            last_seq=each.own.seq,
            file=str(kept.get(each.target.partition)),
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
