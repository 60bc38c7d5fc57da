"""A copy catches up from another one, over real sockets and directories: the work grows with what is missing.

Work is counted, not timed: the frames that are looked at in the segments of both copies.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.looked import Looked, with_marks_every
from unit.journal.samples import append, entry, nonce

from wallet_engine.domain.errors import Outage
from wallet_engine.drain.group_commit import GroupCommit
from wallet_engine.journal import read
from wallet_engine.journal.chains import RECENT_ENTRIES_PER_PARTITION
from wallet_engine.journal.copies_wire import EntriesAsk, HeldAsk, Standings, StateAsk, Target, YesNo
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.link_server import LinkServer
from wallet_engine.journal.peers import Peer
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.catchup import catch_up, follow
from wallet_engine.recovery.peer_session import PeerSession
from wallet_engine.recovery.returning import Returning
from wallet_engine.routing.model import JournalInfo
from wallet_engine.telemetry.metrics import Metrics

EPOCH = 1
MARK_BYTES = 64 * 1024
#: More entries than a copy remembers of a partition.
OLD_ENTRIES = 3 * RECENT_ENTRIES_PER_PARTITION


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Looked:
    return Looked(monkeypatch)


class Everybody:
    """Accepts every copy that asks; no copy is followed in these tests."""

    async def check_ballots(self, asker: str, ballots: Sequence[tuple[int, int]]) -> None:
        pass

    async def member(self, journal_id: str) -> JournalInfo:
        raise AssertionError(journal_id)


class Copy:
    """One journal copy in this process, with its port."""

    def __init__(self, directory: Path, journal_id: str) -> None:
        # Segments and marks as small as this journal: thousands of entries behave like millions.
        self.writer = JournalWriter(directory, journal_id, segment_bytes_max=1024 * 1024)
        self.copy = JournalCopy(self.writer)
        self.server = LinkServer(
            self.copy,
            lambda shard, reason: None,
            on_peer=lambda asker: PeerSession(asker, Everybody(), self.copy, self.commit, lambda _: None),
        )
        self.commit = GroupCommit(self.copy, self.server, Metrics())
        self.receipts: list[tuple[int, str, int]] = []
        self.server.publish = self.receipts.extend  # type: ignore[method-assign, assignment]

    async def catch_up(self, source: Peer, epoch: int = EPOCH) -> None:
        """Take over what the source has, and be told that its epoch is in force."""
        standings = (await source.ask(StateAsk([]), Standings)).standings
        targets = [Target(each.partition, epoch, each.seq, each.nonce) for each in standings]
        await catch_up(self.copy, self.commit, source, targets)
        self.commit.confirm((each.partition, epoch) for each in standings)

    def seqs(self) -> dict[int, int]:
        return {partition: at.seq for partition, at in self.writer.positions().items()}


@asynccontextmanager
async def two_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Copy, Copy, Peer]]:
    """A source, and a copy that is connected to it and can catch up from it."""
    with_marks_every(MARK_BYTES, monkeypatch)
    made = [Copy(tmp_path / name, name) for name in ("j1", "j2")]
    source, other = made
    host, port = await source.server.start("127.0.0.1", 0)
    peer = await Peer.connect("j1", f"{host}:{port}", "j2")
    try:
        yield source, other, peer
    finally:
        peer.close()
        await source.server.close()
        for each in made:
            each.writer.close()


def written(copy: Copy, seqs: dict[int, int]) -> None:
    """Append `seqs[partition]` entries of each partition, synced every 256."""
    for partition, count in seqs.items():
        for start in range(0, count, 256):
            append(copy.writer, partition, min(256, count - start))
            copy.writer.sync()


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_a_new_copy_looks_at_each_entry_once_on_each_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: Looked
) -> None:
    """Even at entries that it no longer remembers when it is told that their epoch is in force."""

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (source, new, peer):
            written(source, {1: OLD_ENTRIES, 2: 500, 3: 500})
            looked.since()
            await new.catch_up(peer)
            assert new.seqs() == source.seqs()
            assert looked.since() <= 1.1 * (OLD_ENTRIES + 1000)
            assert new.receipts[-1] == (3, nonce(3, 500), 500)
            assert not looked.frames_on_loop

    run(main())


def test_a_copy_that_returns_looks_at_little_more_than_it_has_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: Looked
) -> None:
    """Wherever in the journal that begins: here it is older than the entries that the source remembers."""
    partitions = range(1, 9)

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (source, other, peer):
            before = dict.fromkeys(partitions, 500)
            for copy in (source, other):
                written(copy, {9: OLD_ENTRIES})
                written(copy, before)
            missed = {9: RECENT_ENTRIES_PER_PARTITION + 200} | dict.fromkeys(partitions, 20)
            written(source, missed)
            looked.since()
            await other.catch_up(peer)
            assert other.seqs() == source.seqs()
            per_mark = MARK_BYTES // len(entry(1, 1)[0])
            assert looked.since() <= 2 * sum(missed.values()) + 12 * per_mark
            assert not looked.frames_on_loop

    run(main())


def test_g7_orphans_of_many_partitions_are_set_aside_in_one_rewrite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chains part anywhere, or not at all: afterwards this copy has the source's chains, and its own rest in files."""
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    rewrites: list[Mapping[int, int]] = []
    rewrite = JournalWriter.rewrite

    def noted(writer: JournalWriter, after: Mapping[int, int]) -> dict[int, Path]:
        rewrites.append(after)
        return rewrite(writer, after)

    monkeypatch.setattr(JournalWriter, "rewrite", noted)

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (source, other, peer):
            parted: dict[int, tuple[int, int]] = {}
            for partition in range(12):
                common, theirs, ours = rng.randrange(1, 60), rng.randrange(40), rng.choice((0, 0, 1, 2, 30))
                for copy in (source, other):
                    append(copy.writer, partition, common)
                chain(source.writer, partition, common, theirs, "theirs", epoch=2)
                chain(other.writer, partition, common, ours, "ours", epoch=1)
                if ours:
                    parted[partition] = common, ours
            for copy in (source, other):
                copy.writer.sync()
            await other.catch_up(peer, epoch=2)
            assert other.seqs() == source.seqs()
            assert texts(other) == texts(source)
            assert rewrites == [{partition: common for partition, (common, _) in parted.items()}] * bool(
                parted
            )
            for partition, (common, ours) in parted.items():
                kept = other.copy.directory / f"orphaned-p{partition}-{common + 1}-{common + ours}"
                assert kept.read_bytes().count(b"\n") == 2 * ours

    run(main())


def test_a_copy_answers_while_it_rewrites_and_takes_in_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread rewrites segments of many megabytes; only writes wait for it."""
    go_on = threading.Event()
    rewrite = JournalWriter.rewrite

    def slow(writer: JournalWriter, after: Mapping[int, int]) -> dict[int, Path]:
        assert go_on.wait(30)
        return rewrite(writer, after)

    monkeypatch.setattr(JournalWriter, "rewrite", slow)

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (other, _, peer):
            written(other, {1: 5, 2: 5})
            other.copy.confirm([(2, EPOCH)])
            rewriting = asyncio.create_task(other.commit.set_aside({1: 3}))
            await asyncio.sleep(0)
            brought, to_fetch = entry(2, 6), set[int]()
            other.commit.bring([(2, *brought)], to_fetch.update)
            assert to_fetch == {2}
            fetched = other.commit.add([(2, brought[0])])
            for refused in (other.commit.sync, lambda: other.copy.promise([(1, 9)])):
                with pytest.raises(Outage):
                    refused()
            (standing,) = (await peer.ask(StateAsk([2]), Standings)).standings
            assert standing.seq == 5
            assert (await peer.ask(HeldAsk([(2, 4, nonce(2, 4))]), YesNo)).answers == [True]
            go_on.set()
            assert (await rewriting)[1].name == "orphaned-p1-4-5"
            await fetched
            assert other.seqs() == {1: 3, 2: 6}
            assert other.copy.promise([(1, 9)])[0].promised == 9

    run(main())


def chain(writer: JournalWriter, partition: int, after: int, count: int, branch: str, *, epoch: int) -> None:
    """Append entries of a branch of the sample chain."""
    for seq in range(after + 1, after + count + 1):
        prev = nonce(partition, after) if seq == after + 1 else None
        payload, header = entry(partition, seq, epoch=epoch, branch=branch, prev=prev)
        writer.append(partition, payload, header)


def texts(copy: Copy) -> dict[int, list[bytes]]:
    found: dict[int, list[bytes]] = {}
    for record in read(copy.copy.directory):
        found.setdefault(record.partition, []).append(record.payload)
    return found


class Fellows:
    """Reaches the copy at the other end of `peer` once for each of `damaged`, as if these were several copies.

    A damaged one ends the connection at each question for entries.
    """

    sole = False

    def __init__(self, peer: Peer, *damaged: bool) -> None:
        self._peer = peer
        self._damaged = damaged

    async def council(self) -> Any:
        return SimpleNamespace(members=SimpleNamespace(copies=()))

    async def reach(self, _copies: Sequence[str]) -> list[Peer]:
        transport: Any = self._peer._connection._transport
        host, port = transport.get_extra_info("peername")[:2]
        found = [await Peer.connect("j1", f"{host}:{port}", "j2") for _ in self._damaged]
        for peer, damaged in zip(found, self._damaged, strict=True):
            if damaged:
                peer.ask = partial(self._refuse, peer.ask)  # type: ignore[method-assign]
        return found

    async def _refuse(self, ask: Any, question: Any, *more: Any) -> Any:
        if isinstance(question, EntriesAsk):
            raise OSError("journal copy j1 is gone")
        return await ask(question, *more)


def test_g5_a_copy_does_not_claim_an_epoch_that_no_copy_which_answers_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chain may have entries that are not in that epoch's, and the next recovery would take them for the best."""

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (source, other, peer):
            for copy in (source, other):
                written(copy, {1: 20})
            chain(other.writer, 1, 20, 5, "ours", epoch=1)
            other.writer.sync()
            fellows: Any = Fellows(peer, False)
            returning = Returning(other.copy, other.commit, fellows)
            returning.behind({1: 7}, lambda _: None)
            await returning._round()
            assert other.writer.view(1) < 7
            assert 1 not in other.copy.confirmed
            source.writer.mark_base(1, 7)
            source.writer.sync()
            await returning._round()
            assert (other.writer.view(1), other.copy.confirmed[1]) == (7, 7)
            assert texts(other) == texts(source)

    run(main())


def test_g9_a_copy_that_cannot_give_what_it_has_keeps_nobody_from_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one with a damaged segment."""

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (source, other, peer):

            async def followed(*damaged: bool) -> set[int]:
                fellows: Any = Fellows(peer, *damaged)
                council = await fellows.council()
                return await follow(other.copy, other.commit, fellows, council, {1: EPOCH, 2: EPOCH})

            written(source, {1: 20, 2: 20})
            written(other, {1: 5})
            with pytest.raises(OSError, match="is gone"):
                await followed(True)
            assert await followed(True, False) == {1, 2}
            assert texts(other) == texts(source)

    run(main())


def test_a_copy_that_answers_too_few_questions_is_a_broken_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ValueError ended the asking process."""
    original = PeerSession.answer

    async def too_few(self: PeerSession, question: Any) -> Any:
        answer = await original(self, question)
        return YesNo(answer.answers[:-1]) if isinstance(question, HeldAsk) else answer

    monkeypatch.setattr(PeerSession, "answer", too_few)

    async def main() -> None:
        async with two_copies(tmp_path, monkeypatch) as (source, other, peer):
            written(source, {1: 20})
            written(other, {1: 10})
            with pytest.raises(OSError, match="journal j1 answered 0 of 1 questions"):
                await other.catch_up(peer)

    run(main())
