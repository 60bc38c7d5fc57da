"""How a journal copy becomes a member: it catches up first, then it is registered.

The list of members decides how many copies a recovery must hear. So no copy may give a receipt while the list
changes. Under the locks of all shards, the new copy fences the old copies, takes over the best chain of every
partition and marks it. Only then it replaces the list, in one transaction that fails if the map has changed. The
partitions serve again after the next recovery, which is the first to count the new copy. That takes well under a
second; the copy fetches older entries beforehand, while payments go on.

Replacing a copy whose disk is lost needs this even more. If it receipted entries together with one other
copy, only that other copy still has them, so it must have been heard.
"""

import asyncio
from contextlib import ExitStack
from typing import Final

from wallet_engine.domain.errors import ConfigError, WalletError, text_of
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copies_wire import Promise, Standing, Standings, StateAsk, Target
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.peers import Peer
from wallet_engine.recovery.catchup import catch_up
from wallet_engine.recovery.fellows import Fellows
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import Members, PartitionMap
from wallet_engine.routing.tree import HeldLock
from wallet_engine.telemetry.logging import get_logger

RETRY_S: Final = 0.5
#: Entries that may be missing when the other copies are fenced and payments stop: they take a twentieth of a
#: second. The maximum applies when new entries come as fast as they are fetched.
MISSING_ENTRIES_MIN: Final = 1_000
MISSING_ENTRIES_MAX: Final = 10_000

log = get_logger(__name__)


def check_may_join(directory: Directory, copy: JournalCopy, replaces: str | None) -> None:
    """Raises `ConfigError` when this directory cannot be or become the copy with its id. Changes nothing."""
    members = directory.members()
    own = copy.journal_id
    if own in members.copies:
        if copy.writer.empty:
            raise ConfigError(
                f"journal copy {own} has had entries, but {copy.directory} holds none: give the --directory "
                f"it was started with, or restore it; if its disk is lost and another copy lives, start a new "
                f"copy with --journal-id NEW --replaces {own}; nothing was changed"
            )
    elif own in members.replaced:
        raise ConfigError(
            f"journal copy {own} was replaced: start it with an empty --directory and another --journal-id"
        )
    elif replaces is not None and replaces not in members.copies:
        raise ConfigError(
            f"--replaces {replaces}: the journal copies are {', '.join(members.copies) or 'none'}"
        )


async def join(
    directory: Directory, copy: JournalCopy, commit: GroupCommit, fellows: Fellows, replaces: str | None
) -> None:
    """Returns when this copy counts; waits for the copies that it needs. Raises `ConfigError`."""
    while True:
        try:
            await asyncio.to_thread(check_may_join, directory, copy, replaces)
            members = await asyncio.to_thread(directory.members)
            if copy.journal_id in members.copies:
                return
            if replaces is not None and replaces in await asyncio.to_thread(directory.journal_ids):
                raise OSError(
                    f"{replaces}, which is to be replaced, is alive: stop it (a dead one leaves soon)"
                )
            partition_map = await asyncio.to_thread(directory.partition_map)
            if not members.copies:
                await _be_first(directory, copy, commit, members, partition_map)
            else:
                await _Joining(directory, copy, commit, fellows, replaces).run(members, partition_map)
            log.info("joined", journal=copy.journal_id, copies=len(members.copies) + (replaces is None))
            return
        except ConfigError:
            raise
        except (WalletError, OSError, TimeoutError) as error:
            log.warning("waits to join the journal copies", journal=copy.journal_id, reason=text_of(error))
            await asyncio.sleep(RETRY_S)


async def _be_first(
    directory: Directory,
    copy: JournalCopy,
    commit: GroupCommit,
    members: Members,
    partition_map: PartitionMap,
) -> None:
    """Become the first member: there is no other copy, so this directory is the whole journal.

    If a quorum is more than one copy and this directory has entries, the list of members was lost:
    `ConfigError`.
    """
    config = await asyncio.to_thread(directory.config)
    if config.journal_quorum > 1 and copy.writer.positions():
        raise ConfigError(
            f"{copy.directory} holds entries, but the list of journal copies that count is gone: put it back with "
            f"wallet-admin restore; nothing was changed"
        )
    for partition, entry in enumerate(partition_map.partitions):
        copy.writer.mark_base(partition, entry.epoch)
    commit.sync()
    await asyncio.to_thread(directory.replace_members, members, (copy.journal_id,))


class _Joining:
    def __init__(
        self,
        directory: Directory,
        copy: JournalCopy,
        commit: GroupCommit,
        fellows: Fellows,
        replaces: str | None,
    ) -> None:
        self._directory = directory
        self._copy = copy
        self._commit = commit
        self._fellows = fellows
        self._replaces = replaces

    async def run(self, members: Members, partition_map: PartitionMap) -> None:
        """One attempt. Raises OSError, `WalletError`."""
        quorum = (await asyncio.to_thread(self._directory.config)).journal_quorum
        needed = max(1, len(members.copies) - quorum + 1)
        peers = await self._fellows.reach(members.copies)
        try:
            if len(peers) < needed:
                present = {peer.journal_id for peer in peers}
                missing = ", ".join(name for name in members.copies if name not in present)
                raise OSError(
                    f"{len(peers)} journal copies answer and {needed} must, since any fewer may lack answered entries: "
                    f"bring back {missing}"
                )
            epochs = {p: entry.epoch for p, entry in enumerate(partition_map.partitions)}
            await self._come_close(peers, epochs)
            with ExitStack() as locks:
                held = [
                    await asyncio.to_thread(locks.enter_context, self._directory.lock(f"recovery-{shard}"))
                    for shard in await asyncio.to_thread(self._directory.shard_names)
                ]
                await self._be_counted(members, peers, needed, list(epochs), held)
        finally:
            for peer in peers:
                peer.close()

    async def _come_close(self, peers: list[Peer], epochs: dict[int, int]) -> None:
        """Fetch all entries, and again those that came meanwhile, until few enough are left.

        From one copy at a time, because each copy reads its whole journal for any part of it.
        """
        missing_before = 0
        while True:
            states = [await peer.ask(StateAsk(list(epochs)), Standings) for peer in peers]
            missing = self._missing(states)
            if missing <= MISSING_ENTRIES_MIN:
                return
            if missing_before and missing > missing_before / 2:  # they come about as fast as they are fetched
                if missing > MISSING_ENTRIES_MAX:
                    raise OSError(
                        f"{missing} entries came while {missing_before} were fetched: it is too slow"
                    )
                return
            missing_before = missing
            source, state = max(zip(peers, states, strict=True), key=_length)
            await self._take_best([source], [state], epochs)

    def _missing(self, states: list[Standings]) -> int:
        """How many entries this copy lacks that some other copy has."""
        furthest: dict[int, int] = {}
        for standing in (standing for state in states for standing in state.standings):
            furthest[standing.partition] = max(standing.seq, furthest.get(standing.partition, 0))
        durable_seq = self._copy.writer.durable_seq
        return sum(max(0, seq - durable_seq(partition)) for partition, seq in furthest.items())

    async def _be_counted(
        self,
        members: Members,
        peers: list[Peer],
        needed: int,
        partitions: list[int],
        held: list[HeldLock],
    ) -> None:
        raised = await asyncio.to_thread(self._directory.raise_epochs, partitions)
        epochs = {partition: raised.epoch_of(partition) for partition in partitions}
        ballots = list(epochs.items())
        promised, states = [], []
        for peer in peers:
            standings = await peer.ask(Promise(ballots), Standings)
            if any(standing.promised > epochs[standing.partition] for standing in standings.standings):
                raise OSError("a newer epoch was promised")
            promised.append(peer)
            states.append(standings)
        if len(promised) < needed:
            raise OSError(f"{len(promised)} of {needed} journal copies promised")
        self._copy.promise(ballots)
        await self._take_best(promised, states, epochs)
        for partition, epoch in epochs.items():
            self._copy.writer.mark_base(partition, epoch)
        self._commit.sync()
        # This process may have been stopped: then a recovery of the old members has gone on, perhaps with the copy that
        # is to be replaced, and its entries must be heard of first. It raises epochs before: the list is replaced
        # only with this very map.
        now = await asyncio.to_thread(self._directory.partition_map)
        if not all(lock.held for lock in held) or any(now.epoch_of(p) != epoch for p, epoch in ballots):
            raise OSError("another recovery has begun since the copies were fenced")
        kept = [name for name in members.copies if name != self._replaces]
        await asyncio.to_thread(
            self._directory.replace_members,
            *(members, (*kept, self._copy.journal_id), self._replaces),
            beside=now,
        )

    async def _take_best(self, peers: list[Peer], states: list[Standings], epochs: dict[int, int]) -> None:
        best: dict[int, tuple[Peer, Standing]] = {}
        for peer, state in zip(peers, states, strict=True):
            for standing in state.standings:
                known = best.get(standing.partition)
                if known is None or (standing.view, standing.seq) > (known[1].view, known[1].seq):
                    best[standing.partition] = peer, standing
        for peer in peers:
            targets = [
                Target(partition, epochs[partition], standing.seq, standing.nonce)
                for partition, (source, standing) in best.items()
                if source is peer
            ]
            if targets:
                await catch_up(self._copy, self._commit, peer, targets)


def _length(found: tuple[Peer, Standings]) -> int:
    return sum(standing.seq for standing in found[1].standings)
