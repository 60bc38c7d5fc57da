"""Answers another copy's questions (`journal.copies_wire`), in their order, on one connection."""

from collections.abc import Callable, Iterator

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
from wallet_engine.journal.segments import segment_path
from wallet_engine.journal.threads import in_thread
from wallet_engine.recovery.catchup import Superseded, catch_up


class PeerSession:
    """See the module. `on_promise(partitions)` is called after promises: what was in force is not any more."""

    def __init__(
        self, copy: JournalCopy, commit: GroupCommit, on_promise: Callable[[list[int]], None]
    ) -> None:
        self._copy = copy
        self._commit = commit
        self._on_promise = on_promise
        self._records: Iterator[Record] = iter(())

    async def answer(self, question: Question) -> Answer:
        """Raises what ends the connection: `WalletError`, OSError."""
        match question:
            case StateAsk(partitions):
                return Standings(self._copy.standings(partitions))
            case Promise(ballots):
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
        """Catch up and mark; why it could not be done, or nothing."""
        try:
            source = await Peer.connect(question.journal_id, question.address, self._copy.journal_id)
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
