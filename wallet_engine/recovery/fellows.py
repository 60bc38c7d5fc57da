"""This copy's view of the other journal copies: which ones count, how to reach them, how far a quorum is."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from wallet_engine.domain.errors import ConfigError, WalletError
from wallet_engine.journal.copies_wire import Standing, Standings, StateAsk
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.refusals import Refused
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import JournalInfo, Members
from wallet_engine.routing.tree import StoreUnavailable

#: How often the copies tell each other their positions; a stream keeps what was written meanwhile.
POLL_S: Final = 0.5
#: How many entries that a quorum has are kept in a stream for a copy that answers but lags. It catches up by
#: fetching from the others, and without these it would each time find the next entries gone. At most half of
#: a stream.
LATE_ENTRIES_MAX: Final = 512
#: How often each copy reads the list of copies from the directory, which takes about 2 ms of CPU.
COUNCIL_S: Final = 2.0


#: How often, and at which interval, the map is read again for an epoch that it should have.
MAP_LOOKS_MAX: Final = 5
MAP_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Council:
    """The members and the quorum, as read at one time."""

    members: Members
    quorum: int
    #: Entries that a quorum has and a stream keeps for a lagging copy.
    late_entries_max: int

    @property
    def sole(self) -> bool:
        return len(self.members.copies) == 1

    @property
    def needed(self) -> int:
        """How many copies a recovery needs, to see every receipted entry and to hold the chain it starts."""
        return max(len(self.members.copies) - self.quorum + 1, self.quorum)


class Fellows:
    """Reaches the other copies of one cluster for this one."""

    def __init__(self, directory: Directory, copy: JournalCopy) -> None:
        self._directory = directory
        self._copy = copy
        self._standings: dict[str, dict[int, Standing]] = {}
        self._council: Council | None = None
        self._peers: dict[str, Peer] = {}
        #: Copy -> the question that it has not answered yet.
        self._asking: dict[str, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<Fellows of {self._copy.journal_id} {sorted(self._standings)}>"

    async def council(self) -> Council:
        """The members and the quorum. Raises `ConfigError` when this copy does not count, or no longer.

        If the tree in the directory is gone, that is not known: raises `StoreUnavailable` until it is
        restored.
        """
        try:
            config = await asyncio.to_thread(self._directory.config)
        except ConfigError as error:
            raise StoreUnavailable(str(error)) from None
        members = await asyncio.to_thread(self._directory.members)
        if members.version < 0:
            raise StoreUnavailable("the list of journal copies is gone: wallet-admin restore")
        if self._copy.journal_id not in members.copies:
            raise ConfigError(
                f"journal copy {self._copy.journal_id} is not one of {', '.join(members.copies) or 'none'}: "
                f"it was replaced; start it with an empty --directory and another --journal-id"
            )
        late_entries_max = min(LATE_ENTRIES_MAX, config.stream_entries_max // 2)
        return Council(members, config.journal_quorum, late_entries_max)

    async def reach(self, copies: Sequence[str]) -> list[Peer]:
        """Connections to those of the copies that answer, without this one."""
        infos = await asyncio.to_thread(self._directory.readable_journals)
        own = self._copy.journal_id
        found = await asyncio.gather(
            *(
                Peer.connect(name, infos[name].address, own, infos[name].tls)
                for name in copies
                if name != own and name in infos
            ),
            return_exceptions=True,
        )
        return [peer for peer in found if isinstance(peer, Peer)]

    # Who asks --------------------------------------------------------------------------------------------

    async def check_ballots(self, asker: str, ballots: Sequence[tuple[int, int]]) -> None:
        """Raises `Refused` unless the asker is a copy that counts or may join, and the map has these epochs.

        A recovery raises the epoch in the map before it asks any copy. If this copy promised an epoch that
        the map does not have, it would be shut out until some recovery begins a later epoch.
        """
        await self._check_asker(asker)
        for tried in range(MAP_LOOKS_MAX):
            found = await asyncio.to_thread(self._directory.partition_map)
            ahead = [p for p, epoch in ballots if epoch > found.epoch_of(p)]
            if not ahead:
                return
            if tried:  # this ZooKeeper server may lag behind another one
                await asyncio.sleep(MAP_LOOK_S)
        raise Refused(
            "epoch", f"{asker} asks for epochs of partitions {ahead[:8]} that the map does not have"
        )

    async def _check_asker(self, asker: str) -> None:
        members = await asyncio.to_thread(self._directory.members)
        if asker in members.copies:
            return
        joins = asker not in members.replaced and asker in await asyncio.to_thread(
            self._directory.journal_ids
        )
        if not joins:
            raise Refused("asker", f"{asker} is not a journal copy that counts, nor one that runs")

    async def member(self, journal_id: str) -> JournalInfo:
        """The announced copy.

        Raises `Refused` if it does not count, `StoreUnavailable` if it is not announced.
        """
        members = await asyncio.to_thread(self._directory.members)
        if journal_id not in members.copies:
            raise Refused("asker", f"{journal_id} is not a journal copy that counts")
        info = (await asyncio.to_thread(self._directory.readable_journals)).get(journal_id)
        if info is None:
            raise StoreUnavailable(f"journal copy {journal_id} is not announced")
        return info

    # How far a quorum is ---------------------------------------------------------------------------------

    @property
    def sole(self) -> bool:
        """Whether there is no other copy, as far as this one knows."""
        return self._council is not None and self._council.sole

    def quorum_seq(self, partition: int) -> int:
        """The last entry of the partition that a quorum is known to have; 0 if none is known."""
        council = self._council
        if council is None:
            return 0
        own = self._copy.standings((partition,))[0]
        seqs = [own.seq, *(each.seq for each in self._others(council, partition) if each.view == own.view)]
        seqs.sort(reverse=True)
        return seqs[council.quorum - 1] if len(seqs) >= council.quorum else 0

    def forget_seq(self, partition: int) -> int:
        """The last entry that a stream may drop: a quorum has it, and no copy that answers needs it soon."""
        council = self._council
        quorum_seq = self.quorum_seq(partition)
        if council is None or not quorum_seq:
            return 0
        slowest = min((each.seq for each in self._others(council, partition)), default=quorum_seq)
        return min(quorum_seq, max(slowest, quorum_seq - council.late_entries_max))

    def _others(self, council: Council, partition: int) -> Iterator[Standing]:
        """The standings of the other members that answer, for the partition."""
        for name, standings in self._standings.items():
            standing = standings.get(partition)
            if standing is not None and name in council.members.copies:
                yield standing

    def on_disk(self) -> dict[str, dict[int, int] | None]:
        """For each other copy that counts: partition -> last seq, or None if it does not answer."""
        if self._council is None:
            raise StoreUnavailable("who the journal copies are is not known yet")
        others = [name for name in self._council.members.copies if name != self._copy.journal_id]
        return {
            name: {partition: at.seq for partition, at in self._standings[name].items()}
            if name in self._standings
            else None
            for name in others
        }

    async def run(self) -> None:
        """Keep asking the others for their positions.

        Raises `ConfigError` when this copy no longer counts.
        """
        loop = asyncio.get_running_loop()
        look_s = loop.time()
        try:
            while True:
                if loop.time() >= look_s:
                    look_s = loop.time() + COUNCIL_S
                    try:
                        self._council = await self.council()
                    except ConfigError:
                        raise
                    except WalletError:  # the directory is away: the members are still the same
                        pass
                if self._council is not None:
                    await self._poll(self._council)
                await asyncio.sleep(POLL_S)
        finally:
            asking = list(self._asking.values())
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _poll(self, council: Council) -> None:
        """Ask every copy that owes no answer. One that is stopped delays no news of the others."""
        for name in self._peers.keys() - set(council.members.copies) - self._asking.keys():
            self._lose(name)
        for name in council.members.copies:
            if name != self._copy.journal_id and name not in self._asking:
                task = asyncio.create_task(self._ask(name), name=f"ask {name}")
                self._asking[name] = task
                task.add_done_callback(partial(self._asked, name))
        if self._asking:
            await asyncio.wait(list(self._asking.values()), timeout=POLL_S)

    async def _ask(self, name: str) -> None:
        try:
            peer = self._peers.get(name)
            if peer is None:
                for peer in await self.reach([name]):
                    self._peers[name] = peer
            if peer is None:
                self._lose(name)
                return
            answer = await peer.ask(StateAsk([]), Standings)
        except Exception:  # whatever it is: how far this copy is, is not known
            self._lose(name)
        else:
            self._standings[name] = {standing.partition: standing for standing in answer.standings}

    def _asked(self, name: str, _: asyncio.Task[None]) -> None:
        self._asking.pop(name, None)

    def _lose(self, name: str) -> None:
        """The copy does not answer, or counts no longer."""
        self._standings.pop(name, None)
        peer = self._peers.pop(name, None)
        if peer is not None:
            peer.close()

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
