"""Agree with the other copies on the chain with which a new epoch of some partitions begins.

    1  the epoch is raised in the directory: it belongs to this recovery, no other ever uses it
    2  at least n - quorum + 1 copies promise on disk to refuse older epochs: no quorum can receipt in those
    3  the best chain among them - highest view, then longest - holds every entry that was ever answered
    4  this copy takes over that chain, and adds what only Redis still has
    5  a quorum of copies holds the whole chain and notes it on disk (a base mark): the next recovery sees it

Copies without promise or mark do no harm: if their chain is different, the first entry of the new epoch does
not continue it, and then they follow (`keeper`).

It is Paxos with the epoch as ballot, promises as fences and chains as values. Because of step 5, a longer but
older chain never replaces one that was served from (the problem of figure 8 of the Raft paper).

Step 3 holds because only one node writes in an epoch. If two copies have different chains of one epoch all the same,
nobody knows which one was answered: the partition is left to people (`forked`).
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from wallet_engine.domain.errors import text_of
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copies_wire import (
    Follow,
    Followed,
    HeldAsk,
    Promise,
    Standing,
    Standings,
    StateAsk,
    Target,
    YesNo,
)
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.link_wire import Ask
from wallet_engine.journal.peers import Peer
from wallet_engine.recovery.catchup import Superseded, catch_up
from wallet_engine.recovery.fellows import Council, Fellows
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.logging import get_logger

#: Time for another copy to fetch what it lacks of the chain.
FOLLOW_S_MAX: Final = 120.0

log = get_logger(__name__)


class Ballot:
    """One attempt for some partitions of one shard.

    Call `begin`, `promised`, `spread` in order, then `close`.
    """

    def __init__(
        self,
        directory: Directory,
        copy: JournalCopy,
        commit: GroupCommit,
        fellows: Fellows,
        partitions: Iterable[int],
    ) -> None:
        self._directory = directory
        self._copy = copy
        self._commit = commit
        self._fellows = fellows
        self.partitions = sorted(partitions)
        self.epochs: dict[int, int] = {}
        #: Partition -> which copies have different chains of one epoch. It must not serve.
        self.forked: dict[int, str] = {}
        self._council: Council | None = None
        self._peers: list[Peer] = []

    def __repr__(self) -> str:
        return f"<Ballot partitions={len(self.partitions)} copies={1 + len(self._peers)}>"

    async def begin(self) -> None:
        """Check that enough copies answer, before any change. Raises OSError that names the missing ones."""
        council = await self._fellows.council()
        self._peers = await self._fellows.reach(council.members.copies)
        self._require(council, "answer")

    async def promised(self, seen: Mapping[int, int], on_shard: str | None = None) -> None:
        """Steps 1 to 4, except for what Redis has. Raises OSError; `VersionConflict` if the map forbids it.

        `seen` are epochs that were found elsewhere: they may be newer than those of a map that lost its last
        state.
        """
        used = {p: max(seen.get(p, 0), self._copy.writer.epoch_min(p)) for p in self.partitions}
        # All promises of other copies: an epoch at or below one of them would be refused.
        for peer in self._peers:
            for standing in (await peer.ask(StateAsk(list(self.partitions)), Standings)).standings:
                used[standing.partition] = max(used[standing.partition], standing.promised)
        raised = await asyncio.to_thread(
            partial(self._directory.raise_epochs, self.partitions, above=used, on_shard=on_shard)
        )
        self.epochs = {partition: raised.epoch_of(partition) for partition in self.partitions}
        # Read after the epoch was raised: a copy that joins later begins with a later epoch.
        self._council = council = await self._fellows.council()
        self._peers = [peer for peer in self._peers if peer.journal_id in council.members.copies]
        ballots = [(partition, self.epochs[partition]) for partition in self.partitions]
        own = self._copy.promise(ballots)
        answers = await asyncio.gather(
            *(peer.ask(Promise(ballots), Standings) for peer in self._peers), return_exceptions=True
        )
        promised: list[tuple[Peer | None, list[Standing]]] = [(None, own)]
        for peer, answer in zip(self._peers, answers, strict=True):
            if isinstance(answer, Standings):
                promised.append((peer, answer.standings))
        self._peers = [peer for peer, _ in promised if peer is not None]
        self._require(council, "promised")
        for _, standings in promised:
            for standing in standings:
                if standing.promised > self.epochs[standing.partition]:
                    raise Superseded(f"partition {standing.partition}: a newer epoch was promised")
        await self._take_best(promised)

    async def _take_best(self, promised: Sequence[tuple[Peer | None, list[Standing]]]) -> None:
        """Steps 3 and 4: fetch from each peer the chains of which it has the best.

        On a tie the own chain wins.
        """
        best: dict[int, tuple[Peer | None, Standing]] = {}
        for peer, standings in promised:
            for standing in standings:
                known = best.get(standing.partition)
                if known is None or (standing.view, standing.seq) > (known[1].view, known[1].seq):
                    best[standing.partition] = peer, standing
        await self._find_forks(promised, best)
        for source in self._peers:
            targets = [
                Target(partition, self.epochs[partition], standing.seq, standing.nonce)
                for partition, (peer, standing) in best.items()
                if peer is source and partition not in self.forked
            ]
            if targets:
                await catch_up(self._copy, self._commit, source, targets)

    async def _find_forks(
        self,
        promised: Sequence[tuple[Peer | None, list[Standing]]],
        best: Mapping[int, tuple[Peer | None, Standing]],
    ) -> None:
        """The best chain has the last entry of every other chain of the same view, else the partition is forked."""
        for source in (None, *self._peers):
            others = [
                (peer, standing)
                for peer, standings in promised
                for standing in standings
                if peer is not source and standing.seq and self._rivals(source, standing, best)
            ]
            asks = [(standing.partition, standing.seq, standing.nonce) for _, standing in others]
            for (peer, standing), held in zip(others, await self._held(source, asks), strict=True):
                if not held:
                    names = f"{self._name(peer)} and {self._name(source)}"
                    why = f"journal copies {names} have different entries {standing.seq} of epoch {standing.view}"
                    self.forked[standing.partition] = why

    @staticmethod
    def _rivals(
        source: Peer | None, other: Standing, best: Mapping[int, tuple[Peer | None, Standing]]
    ) -> bool:
        peer, chosen = best[other.partition]
        return peer is source and chosen.view == other.view

    async def _held(self, source: Peer | None, asks: list[Ask]) -> Sequence[bool]:
        if not asks:
            return ()
        if source is None:
            return await self._copy.held(asks)
        return (await source.ask(HeldAsk(asks), YesNo)).answers

    def _name(self, peer: Peer | None) -> str:
        return self._copy.journal_id if peer is None else peer.journal_id

    async def spread(self) -> None:
        """Step 5: returns when a quorum holds the chains as they are on this copy now. Raises OSError."""
        assert self._council is not None
        targets = []
        for partition in sorted(self.epochs.keys() - self.forked.keys()):
            epoch = self.epochs[partition]
            if self._copy.superseded(partition, epoch):
                raise Superseded(f"partition {partition}: epoch {epoch} is over")
            self._copy.writer.mark_base(partition, epoch)
            at = self._copy.writer.position(partition)
            targets.append(Target(partition, epoch, at.seq, at.nonce))
        self._commit.sync()
        await self._spread_to_peers(targets, self._council.quorum - 1)

    async def _spread_to_peers(self, targets: list[Target], peers_min: int) -> None:
        if not self._peers:
            return
        infos = await asyncio.to_thread(self._directory.readable_journals)
        own = self._copy.journal_id
        if own not in infos:
            raise OSError(f"journal {own} is not registered: the others cannot fetch from it")
        follow = Follow(own, infos[own].address, targets)
        waiting = {
            asyncio.create_task(
                peer.ask(follow, Followed, FOLLOW_S_MAX), name=f"follow {peer.journal_id}"
            ): peer
            for peer in self._peers
        }
        done: list[str] = []
        failures: list[str] = []
        try:
            while len(done) < peers_min and waiting:
                finished, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    peer = waiting.pop(task)
                    error = task.exception()
                    why_not = text_of(error) if error is not None else task.result().why_not
                    if why_not:
                        failures.append(f"{peer.journal_id}: {why_not}")
                    else:
                        done.append(peer.journal_id)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        if len(done) < peers_min:
            raise OSError(f"{1 + len(done)} of {1 + peers_min} journal copies follow ({'; '.join(failures)})")

    def _require(self, council: Council, what: str) -> None:
        present = {self._copy.journal_id, *(peer.journal_id for peer in self._peers)}
        if len(present) < council.needed:
            missing = (
                ", ".join(name for name in council.members.copies if name not in present) or "others to join"
            )
            raise OSError(
                f"{len(present)} of {council.needed} journal copies {what}, missing: {missing}; "
                f"nothing is recovered without them"
            )

    def close(self) -> None:
        for peer in self._peers:
            peer.close()
