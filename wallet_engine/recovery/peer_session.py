"""Answers another copy's questions (`journal.copies_wire`) in order, on one connection."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from wallet_engine.domain.errors import WalletError, text_of
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal.copies_wire import (
    Answer,
    EntriesAsk,
    EntryTexts,
    Follow,
    Followed,
    HeldAsk,
    More,
    Place,
    PlaceAsk,
    Promise,
    Question,
    Standings,
    StateAsk,
    YesNo,
)
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.reader import Record, read, take_page
from wallet_engine.journal.refusals import Refused
from wallet_engine.journal.segments import segment_path
from wallet_engine.journal.threads import in_thread
from wallet_engine.recovery.catchup import Superseded, catch_up
from wallet_engine.routing.model import JournalInfo


class Roll(Protocol):
    """The list of journal copies. Both methods raise `Refused`, and `WalletError` if it cannot be read."""

    async def check_ballots(self, asker: str, ballots: Sequence[tuple[int, int]]) -> None:
        """Returns if the asker counts or is joining, and the map has these epochs."""
        ...

    async def member(self, journal_id: str) -> JournalInfo:
        """The address of a copy that counts and runs."""
        ...


class PeerSession:
    """See the module. `on_promise(partitions)` is called after promises, which end the epochs in force.

    `asker` is the id of the asking copy; on a plain connection it is only claimed.
    """

    def __init__(
        self,
        asker: str,
        roll: Roll,
        copy: JournalCopy,
        commit: GroupCommit,
        on_promise: Callable[[list[int]], None],
    ) -> None:
        self._asker = asker
        self._roll = roll
        self._copy = copy
        self._commit = commit
        self._on_promise = on_promise
        self._records: Iterator[Record] = iter(())

    async def answer(self, question: Question) -> Answer:
        """The answer to one question. Raises `WalletError`, OSError; these end the connection."""
        match question:
            case StateAsk(partitions):
                return Standings(self._copy.standings(partitions))
            case Promise(ballots):
                await self._roll.check_ballots(self._asker, ballots)
                standings = self._copy.promise(ballots)
                self._on_promise([partition for partition, _ in ballots])
                return Standings(standings)
            case HeldAsk(asks):
                return YesNo(await self._copy.held(asks))
            case EntriesAsk(wants):
                writer = self._copy.writer
                self._records = read(
                    self._copy.directory,
                    after={partition: after for partition, after, _ in wants},
                    end={partition: min(last, writer.durable_seq(partition)) for partition, _, last in wants},
                    last=writer.last_index(),
                )
                return await in_thread(self._entries)
            case More():
                return await in_thread(self._entries)
            case PlaceAsk(partition, seq):
                after, end = {partition: seq - 1}, {partition: seq}
                records = read(self._copy.directory, after=after, end=end)
                record: Record = await in_thread(next, records)
                return Place(segment_path(self._copy.directory, record.segment).name, record.offset)
            case Follow():
                return Followed(await self._follow(question))
            case _:
                raise OSError("not a question of a journal copy")

    def _entries(self) -> EntryTexts:
        page = take_page(self._records)
        return EntryTexts([(record.partition, record.payload) for record in page], not page)

    async def _follow(self, question: Follow) -> str:
        """Catch up and mark. Returns why it failed, or "". Raises `Refused`.

        Only a copy that counts may ask, only to follow itself at its registered address, in an epoch that was
        promised here. Any other process could lack entries that were receipted.
        """
        if question.journal_id != self._asker:
            raise Refused("follow", f"{self._asker} asks to follow {question.journal_id}")
        info = await self._roll.member(self._asker)
        try:
            if info.address != question.address:
                raise OSError(f"{self._asker} is registered at {info.address}")
            for partition, epoch, _, _ in question.targets:
                if self._copy.writer.epoch_min(partition) < epoch:
                    raise OSError(f"partition {partition}: epoch {epoch} was not promised here")
            source = await Peer.connect(self._asker, info.address, self._copy.journal_id, info.tls)
            try:
                await catch_up(self._copy, self._commit, source, question.targets)
            finally:
                source.close()
            writer = self._copy.writer
            for partition, epoch, _, _ in question.targets:
                if self._copy.superseded(partition, epoch):
                    raise Superseded(f"partition {partition}: epoch {epoch} is over")
                writer.mark_base(partition, epoch)
            self._commit.sync()
        except (WalletError, OSError) as error:
            return text_of(error)
        return ""

    def close(self) -> None:
        self._records = iter(())
