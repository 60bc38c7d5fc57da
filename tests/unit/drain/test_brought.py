"""Entries that services bring: those that continue a chain are taken, all others are fetched from the stream."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.drain.group_commit import GroupCommit, Unconfirmed
from wallet_engine.drain.shard_drain import ShardDrain
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.format import PAYLOAD_BYTES_MAX
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.link_wire import NewEntry
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import from_stream
from wallet_engine.telemetry.metrics import Metrics

PARTITION, EPOCH = 3, 2
COLUMNS = pack([("o", "-", "alice", "0", 0, "USD", "", "")]).columns
#: Columns that are too long for an entry of the journal.
LONG = COLUMNS[:-1] + PAYLOAD_BYTES_MAX * b" " + b"]"


def nonce(seq: int) -> str:
    return f"{seq:016x}" if seq else ZERO_NONCE


def entry(seq: int, prev: str | None = None, epoch: int = EPOCH, partition: int = PARTITION) -> NewEntry:
    """Entry `seq` of a chain whose nonces are the seqs. `prev`: another previous nonce."""
    header = f"{seq} {prev or nonce(seq - 1)} {nonce(seq)} {epoch} 1700000000000 1 +"
    return partition, header.encode(), COLUMNS


class Server(LinkServer):
    """Keeps the receipts instead of publishing them."""

    def __init__(self, copy: JournalCopy) -> None:
        super().__init__(copy, lambda shard, reason: None)
        self.published: list[tuple[int, str, int]] = []

    def publish(self, receipts: object) -> None:
        self.published += receipts


class Scene:
    """A copy that has confirmed the epoch, and the drain of a shard with one partition."""

    def __init__(self, writer: JournalWriter) -> None:
        async def ours(_: int) -> bool:
            return True

        self.writer = writer
        self.copy = JournalCopy(writer)
        self.copy.confirm([(PARTITION, EPOCH)])
        self.server = Server(self.copy)
        self.commit = GroupCommit(self.copy, self.server, Metrics())
        self.drain = ShardDrain(
            self.commit,
            self.copy,
            {PARTITION: PartitionKeys("t")},
            {PARTITION: EPOCH},
            ours,
            lambda p: 0,
            lambda epochs, caught_up: False,
        )

    @property
    def to_fetch(self) -> set[int]:
        return self.drain._written

    async def bring(self, *entries: NewEntry) -> None:
        self.drain.new(entries)
        await self.committed()

    async def committed(self) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def seqs(self) -> list[int]:
        """The receipted seqs, in order."""
        assert all(text == nonce(seq) for _, text, seq in self.server.published)
        return [seq for _, _, seq in self.server.published]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path / "j", "j1")
    yield writer
    writer.close()


def run(writer: JournalWriter, scene: Callable[[Scene], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await scene(Scene(writer))

    asyncio.run(main())


def test_what_continues_the_chain_is_durable_and_receipted_without_a_fetch(writer: JournalWriter) -> None:
    async def scene(s: Scene) -> None:
        await s.bring(entry(1), entry(2))
        await s.bring(entry(3))
        assert s.seqs() == [1, 2, 3]
        assert writer.position(PARTITION).seq == 3
        assert not s.to_fetch

    run(writer, scene)


def test_g5_nothing_is_receipted_before_it_is_on_disk(
    writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(s: Scene) -> None:
        seen: list[list[int]] = []
        commit = writer.commit

        def noted(group: object) -> None:
            seen.append(s.seqs())
            commit(group)

        monkeypatch.setattr(writer, "commit", noted)
        await s.bring(entry(1), entry(2))
        assert seen == [[]], "one write for both, and no receipt before it"
        assert s.seqs() == [1, 2]

    run(writer, scene)


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(entry(4), id="a gap"),
        pytest.param(entry(3, prev="f" * 16), id="a fork"),
        pytest.param((PARTITION, f"2 {nonce(1)} {'e' * 16} {EPOCH} 1 1 +".encode(), COLUMNS), id="another"),
        pytest.param(entry(3, epoch=EPOCH - 1), id="an older epoch"),
        pytest.param(entry(3, epoch=EPOCH + 1), id="an epoch that is not confirmed"),
        pytest.param((*entry(3)[:2], LONG), id="more than the journal takes"),
    ],
)
def test_g7_all_else_is_left_to_the_stream(writer: JournalWriter, strange: NewEntry) -> None:
    """Such an entry is neither written nor receipted, and causes no `Fork`, which would stop the shard."""

    async def scene(s: Scene) -> None:
        await s.bring(entry(1), entry(2))
        await s.bring(strange)
        assert s.seqs() == [1, 2]
        assert writer.position(PARTITION).seq == 2
        assert s.to_fetch == {PARTITION}
        assert not s.commit.failed.done()
        await s.bring(entry(3))
        assert s.seqs() == [1, 2, 3]

    run(writer, scene)


def test_g7_an_epoch_that_was_promised_to_be_refused_is(writer: JournalWriter) -> None:
    async def scene(s: Scene) -> None:
        await s.bring(entry(1))
        s.copy.promise([(PARTITION, EPOCH + 1)])
        await s.bring(entry(2))
        assert s.seqs() == [1]
        assert writer.position(PARTITION).seq == 1
        assert s.to_fetch == {PARTITION}

    run(writer, scene)


def test_what_is_there_already_is_passed_over(writer: JournalWriter) -> None:
    """An entry that is brought twice, or was fetched before, even within one group."""

    async def scene(s: Scene) -> None:
        await s.bring(entry(1), entry(1), entry(2))
        await s.bring(entry(1), entry(2))
        assert s.seqs() == [1, 2]
        fetched = [(PARTITION, from_stream(*entry(seq)[1:])) for seq in (2, 3)]
        with s.commit.gathering():
            done = s.commit.add(fetched)
            s.drain.new([entry(3), entry(4)])
        await done
        assert s.seqs() == [1, 2, 3, 4]
        assert not s.to_fetch

    run(writer, scene)


def test_what_is_fetched_after_it_was_brought_is_no_fork(writer: JournalWriter) -> None:
    async def scene(s: Scene) -> None:
        await s.bring(entry(1), entry(2))
        with s.commit.gathering():
            done = s.commit.add([(PARTITION, from_stream(*entry(seq)[1:])) for seq in (1, 2, 3)])
        await done  # raises a Fork
        assert s.seqs() == [1, 2, 3]

    run(writer, scene)


def test_g9_a_fetched_entry_that_is_too_long_stops_no_other_shard(writer: JournalWriter) -> None:
    """G9: only the drain that fetched it fails; the process and its other shards go on."""

    async def scene(s: Scene) -> None:
        other = entry(1, partition=PARTITION + 1)
        with s.commit.gathering():
            done = s.commit.add(
                [(PARTITION, from_stream(*columns)) for columns in ((entry(1)[1], LONG), entry(2)[1:])]
            )
            healthy = s.commit.add([(PARTITION + 1, from_stream(*other[1:]))])
        with pytest.raises(Corruption, match="at most"):
            await done
        with pytest.raises(Unconfirmed):  # this copy has not confirmed its epoch; it is written
            await healthy
        assert writer.position(PARTITION).seq == 0
        assert writer.position(PARTITION + 1).seq == 1
        assert not s.commit.failed.done()

    run(writer, scene)


def test_g9_a_fetched_entry_that_cannot_be_read_stops_no_other_shard(writer: JournalWriter) -> None:
    """It ended the process, and that of the next start, as if the disk had failed."""

    async def scene(s: Scene) -> None:
        other = entry(1, partition=PARTITION + 1)
        with s.commit.gathering():
            done = s.commit.add([(PARTITION, from_stream(b"no header", entry(1)[2]))])
            healthy = s.commit.add([(PARTITION + 1, from_stream(*other[1:]))])
        with pytest.raises(Corruption, match="not a journal entry"):
            await done
        with pytest.raises(Unconfirmed):
            await healthy
        assert (writer.position(PARTITION).seq, writer.position(PARTITION + 1).seq) == (0, 1)
        assert not s.commit.failed.done()

    run(writer, scene)


def test_a_group_waits_for_what_is_being_fetched(writer: JournalWriter) -> None:
    async def scene(s: Scene) -> None:
        with s.commit.gathering():
            await s.bring(entry(1))
            assert s.seqs() == []
        await s.committed()
        assert s.seqs() == [1]

    run(writer, scene)


def test_partitions_that_are_not_drained_here_are_passed_over(writer: JournalWriter) -> None:
    async def scene(s: Scene) -> None:
        await s.bring(entry(1, partition=PARTITION + 1))
        s.drain.drop(PARTITION)
        await s.bring(entry(1))
        assert s.seqs() == []
        assert not s.to_fetch
        assert writer.empty

    run(writer, scene)


@pytest.mark.parametrize(
    ("header", "columns"), [(b"1 2 3", COLUMNS), (entry(1)[1], b"oops"), (entry(1)[1] + b"\n", COLUMNS)]
)
def test_what_is_no_entry_is_refused(writer: JournalWriter, header: bytes, columns: bytes) -> None:
    async def scene(s: Scene) -> None:
        with pytest.raises(Corruption):
            s.drain.new([(PARTITION, header, columns)])
        await s.committed()
        assert writer.empty

    run(writer, scene)
