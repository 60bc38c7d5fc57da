"""The feed over real sockets, from copies with real files: only final entries come, once and in order."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from unit.journal.samples import append, entry, nonce

from wallet_engine.domain.entry import ZERO_NONCE, parse_header
from wallet_engine.domain.errors import Outage
from wallet_engine.journal import Damaged, Fork, JournalWriter, LinkServer, feed_client, feed_server
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.feed import START, FeedEntry, FeedPosition, partitions_from_start
from wallet_engine.journal.feed_client import CopyAddress, FeedClient
from wallet_engine.journal.feed_server import FeedServer, FeedSession
from wallet_engine.journal.feed_wire import FEED_BYTES_MAX, FollowerHello, Locate, ReadAsk
from wallet_engine.journal.link_wire import encode

SEGMENT_BYTES = 6000


class Copy:
    """A journal copy that only serves the feed. `quorum_seq`: the final entries, by default all of its own."""

    def __init__(self, directory: Path, journal_id: str, segment_bytes_max: int = SEGMENT_BYTES) -> None:
        self.writer = JournalWriter(directory, journal_id, segment_bytes_max=segment_bytes_max)
        self.quorum: dict[int, int] | None = None
        self.server = LinkServer(JournalCopy(self.writer), lambda shard, reason: None)
        feed = FeedServer(self.writer, self.quorum_seq)
        self.server.on_follower = lambda _: FeedSession(feed)
        self.address = ""

    def quorum_seq(self, partition: int) -> int:
        return 1 << 53 if self.quorum is None else self.quorum.get(partition, 0)

    def append(self, partition: int, count: int, *, filling: int = 0) -> None:
        append(self.writer, partition, count, filling=filling)
        self.writer.sync()

    async def start(self) -> None:
        host, port = await self.server.start("127.0.0.1", 0)
        self.address = f"{host}:{port}"

    async def close(self) -> None:
        await self.server.close()
        self.writer.close()


@asynccontextmanager
async def copies_of(*copies: Copy) -> AsyncIterator[FeedClient]:
    """Run the copies, and give a client of them."""
    for copy in copies:
        await copy.start()

    async def known() -> Mapping[str, CopyAddress]:
        return {copy.writer.journal_id: CopyAddress(copy.address) for copy in copies}

    try:
        yield FeedClient(known, "test")
    finally:
        for copy in copies:
            await copy.close()


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


class Follower:
    """Takes the entries of a feed in a separate task."""

    def __init__(self, feed: FeedClient, after: Mapping[int, FeedPosition]) -> None:
        self.taken: dict[int, list[FeedEntry]] = {partition: [] for partition in after}
        self._task = asyncio.create_task(self._follow(feed, after))

    async def _follow(self, feed: FeedClient, after: Mapping[int, FeedPosition]) -> None:
        async with aclosing(feed.follow(after)) as batches:
            async for batch in batches:
                self.take(batch)

    def take(self, batch: Sequence[FeedEntry]) -> None:
        for each in batch:
            self.taken[each.partition].append(each)

    def seqs(self, partition: int) -> list[int]:
        return [each.seq for each in self.taken[partition]]

    async def until(self, counts: Mapping[int, int]) -> None:
        async with asyncio.timeout(30):
            while any(len(self.taken[partition]) < count for partition, count in counts.items()):
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.005)

    async def failure(self) -> BaseException | None:
        await asyncio.wait([self._task], timeout=30)
        return self._task.exception()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def test_it_catches_up_through_segments_and_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        copy = Copy(tmp_path, "j1")
        copy.append(1, 100)
        copy.append(2, 7)
        copy.append(1, 100)
        async with copies_of(copy) as feed:
            assert await feed.positions() == {1: 200, 2: 7}
            follower = Follower(feed, {1: FeedPosition(50, nonce(1, 50)), 2: START, 3: START})
            await follower.until({1: 150, 2: 7})
            copy.append(3, 2)
            copy.append(2, 60)
            await follower.until({3: 2, 2: 67})
            await follower.stop()
            assert follower.seqs(1) == list(range(51, 201))
            assert follower.seqs(2) == list(range(1, 68))
            assert [each.payload for each in follower.taken[3]] == [entry(3, seq)[0] for seq in (1, 2)]

    run(scenario)


def test_an_entry_larger_than_what_is_asked_for_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        copy = Copy(tmp_path, "j1", 1 << 28)
        copy.append(1, 3, filling=feed_client.READ_BYTES + 100_000)
        copy.append(1, 3)
        async with copies_of(copy) as feed:
            follower = Follower(feed, {1: START})
            await follower.until({1: 6})
            await follower.stop()

    run(scenario)


@pytest.mark.parametrize("again_bytes_max", [feed_client.AGAIN_BYTES_MAX, 100])
def test_what_is_not_final_waits_and_stops_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again_bytes_max: int
) -> None:
    monkeypatch.setattr(feed_client, "AGAIN_BYTES_MAX", again_bytes_max)

    async def scenario() -> None:
        copy = Copy(tmp_path, "j1")
        copy.quorum = {1: 10, 2: 1000}
        copy.append(1, 20)
        copy.append(2, 100)
        async with copies_of(copy) as feed:
            follower = Follower(feed, partitions_from_start([1, 2]))
            await follower.until({2: 100})
            copy.append(2, 100)
            await follower.until({2: 200})
            assert follower.seqs(1) == list(range(1, 11))
            assert await feed.positions() == {1: 10, 2: 200}
            copy.quorum[1] = 15
            await follower.until({1: 15})
            copy.quorum[1] = 100
            copy.append(1, 5)
            await follower.until({1: 25})
            await follower.stop()
            assert follower.seqs(1) == list(range(1, 26))
            assert follower.seqs(2) == list(range(1, 201))

    run(scenario)


def test_what_was_taken_back_is_never_given_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        copy = Copy(tmp_path, "j1")
        copy.quorum = {1: 5, 2: 1000}
        copy.append(1, 8)
        copy.append(2, 80)
        async with copies_of(copy) as feed:
            follower = Follower(feed, partitions_from_start([1, 2]))
            await follower.until({1: 5, 2: 80})
            copy.writer.begin_rewrite()
            await asyncio.to_thread(copy.writer.rewrite, {1: 5})
            text = (
                f"6 {nonce(1, 5)} {'b' * 16} 2 1700000000006 1 +\n"
                + entry(1, 6)[0].decode().split("\n", 1)[1]
            )
            copy.writer.append(1, text.encode(), parse_header(text.encode()))
            copy.writer.sync()
            copy.quorum[1] = 6
            await follower.until({1: 6})
            copy.append(2, 1)
            await follower.until({2: 81})
            await follower.stop()
            assert [each.nonce for each in follower.taken[1]] == [
                *(nonce(1, seq) for seq in range(1, 6)),
                "b" * 16,
            ]

    run(scenario)


def test_another_chain_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        copy = Copy(tmp_path, "j1")
        copy.append(1, 20)
        async with copies_of(copy) as feed:
            failure = await Follower(feed, {1: FeedPosition(7, nonce(1, 7, "other"))}).failure()
            assert isinstance(failure, Fork)
            assert failure.expected[:2] == (8, nonce(1, 7, "other"))

    run(scenario)


def test_g14_what_is_under_way_is_known(tmp_path: Path) -> None:
    """Entries that no quorum or no disk has yet; but none that another copy knows to be final."""

    async def scenario() -> None:
        copies = [Copy(tmp_path / name, name) for name in ("j1", "j2")]
        for copy in copies:
            copy.quorum = {1: 10, 2: 3, 3: 2}
            copy.append(1, 10)
            copy.append(2, 5)
            copy.append(3, 2)
        append(copies[0].writer, 1, 1)  # not synced
        copies[1].quorum = {1: 10, 2: 3, 3: 5}
        copies[1].append(3, 3)
        append(copies[0].writer, 3, 3)
        async with copies_of(*copies) as feed:
            assert await feed.reached() == ({1: 10, 2: 3, 3: 5}, {1, 2})
            assert await feed.positions() == {1: 10, 2: 3, 3: 5}

    run(scenario)


def test_when_a_copy_dies_the_follower_goes_on_at_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        copies = [Copy(tmp_path / name, name) for name in ("j1", "j2")]
        copies[0].append(2, 30)  # each copy has its entries in another order
        copies[0].append(1, 30)
        copies[1].append(1, 30)
        copies[1].append(2, 30)
        async with copies_of(*copies) as feed:
            follower = Follower(feed, partitions_from_start([1, 2]))
            await follower.until({1: 30, 2: 30})
            for lost, other in (copies, copies[::-1]):
                await lost.server.close()
                before = len(follower.taken[1])
                other.append(1, 10)
                await follower.until({1: before + 10})
                lost.append(1, 10)
                await lost.start()
            await follower.stop()
            assert follower.seqs(1) == list(range(1, 51))
            assert follower.seqs(2) == list(range(1, 31))

    run(scenario)


def test_a_copy_that_stays_behind_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_client, "STALE_S", 0.2)

    async def scenario() -> None:
        copies = [Copy(tmp_path / name, name) for name in ("j1", "j2")]
        for copy in copies:
            copy.append(1, 30)
        async with copies_of(*copies) as feed:
            follower = Follower(feed, partitions_from_start([1]))
            await follower.until({1: 30})
            for turn, copy in enumerate(copies, 1):  # each copy is once the one that is behind
                copy.append(1, 10 * (2 * turn - 1))
                await follower.until({1: copy.writer.position(1).seq})
            await follower.stop()
            assert follower.seqs(1) == list(range(1, 61))

    run(scenario)


def damage(copy: Copy) -> None:
    path = copy.writer.directory / "00000001.wal"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)


def test_a_damaged_copy_is_left_for_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        copies = [Copy(tmp_path / name, name) for name in ("j1", "j2")]
        for copy in copies:
            copy.append(1, 60)
        damage(copies[0])
        async with copies_of(*copies) as feed:
            follower = Follower(feed, {1: START})
            await follower.until({1: 60})
            await follower.stop()
            assert follower.seqs(1) == list(range(1, 61))

    run(scenario)


def test_damage_is_named_when_nobody_has_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_client, "RETRY_S_MAX", 0.1)

    async def scenario() -> None:
        copy = Copy(tmp_path, "j1")
        copy.append(1, 60)
        damage(copy)
        async with copies_of(copy) as feed:
            follower = Follower(feed, {1: START})
            failure = await follower.failure()
            assert isinstance(failure, Damaged)
            assert str(failure).startswith("j1/00000001.wal at offset ")
            assert 0 < len(follower.taken[1]) < 60

    run(scenario)


def test_positions_when_no_copy_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        copy = Copy(tmp_path, "j1")
        async with copies_of(copy) as feed:
            await copy.server.close()
            with pytest.raises(Outage, match="none of 1 journal copies answers"):
                await feed.positions()

    run(scenario)


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 6))]
)
def test_random_ends_and_rewrites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Entries arrive, become final or are removed, in random order. The follower gets the chain that became final."""
    print(f"seed {seed}")
    rng = random.Random(seed)
    monkeypatch.setattr(feed_client, "AGAIN_BYTES_MAX", rng.choice((100, 2000, 1 << 20)))
    monkeypatch.setattr(feed_client, "READ_BYTES", rng.choice((300, 2000, 1 << 20)))
    monkeypatch.setattr(feed_client, "RETRY_S_MIN", 0.001)

    async def scenario() -> None:
        copy = Copy(tmp_path, "j1", rng.choice((600, 3000, 1 << 28)))
        chains: dict[int, list[str]] = {1: [ZERO_NONCE], 2: [ZERO_NONCE], 3: [ZERO_NONCE]}
        copy.quorum = dict.fromkeys(chains, 0)
        epoch = 1
        async with copies_of(copy) as feed:
            follower = Follower(feed, partitions_from_start(chains))
            for step in range(150):
                partition = rng.choice(list(chains))
                chain = chains[partition]
                final = copy.quorum[partition]
                what = rng.random()
                if what < 0.6:
                    text = hashlib.sha256(f"{seed} {step}".encode()).hexdigest()[:16]
                    filling = "x" * rng.randrange(200)
                    body = f"{len(chain)} {chain[-1]} {text} {epoch} {1700000000000 + step} 1 +\n[{filling}]"
                    copy.writer.append(partition, body.encode(), parse_header(body.encode()))
                    copy.writer.sync()
                    chain.append(text)
                elif what < 0.9:
                    copy.quorum[partition] = rng.randint(final, len(chain) - 1)
                elif len(chain) - 1 > final:
                    keep = rng.randint(final, len(chain) - 2)
                    copy.writer.begin_rewrite()
                    await asyncio.to_thread(copy.writer.rewrite, {partition: keep})
                    del chain[keep + 1 :]
                    epoch += 1
                await asyncio.sleep(rng.choice((0, 0, 0.002, 0.06)))
            for partition, chain in chains.items():
                copy.quorum[partition] = len(chain) - 1
            await follower.until({partition: len(chain) - 1 for partition, chain in chains.items()})
            await follower.stop()
            for partition, chain in chains.items():
                assert [each.nonce for each in follower.taken[partition]] == chain[1:]

    run(scenario)


def test_a_follower_that_asks_and_does_not_read_costs_a_bounded_buffer(tmp_path: Path) -> None:
    """It is disconnected. Another follower and the copy's own work are not delayed."""

    async def scenario() -> None:
        copy = Copy(tmp_path, "j1", 1 << 28)
        copy.append(1, 40, filling=900_000)
        async with copies_of(copy) as feed:
            host, _, port = copy.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=1)
            try:
                writer.write(encode(FollowerHello("greedy")) + encode(Locate([(1, 0)])))
                for _ in range(60):
                    writer.write(encode(ReadAsk(1, 128, FEED_BYTES_MAX, False)))
                follower = Follower(feed, {1: START})
                copy.append(1, 1)
                await follower.until({1: 41})
                await follower.stop()
                async with asyncio.timeout(20):
                    while not copy.server.dropped:
                        await asyncio.sleep(0.01)
            finally:
                writer.transport.abort()
                await asyncio.sleep(0)
            assert reader.exception() is None or isinstance(reader.exception(), OSError)

    run(scenario)


@pytest.mark.parametrize("payments_s", [60.0, 0.0])
def test_g10_beside_payments_followers_are_given_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, payments_s: float
) -> None:
    """Two followers together get that share, however fast they ask. Without payments nobody waits."""
    copy = Copy(tmp_path, "j1")
    for _ in range(10):
        copy.append(0, 4, filling=1000)
    monkeypatch.setattr(feed_server, "PAYMENTS_S", payments_s)
    monkeypatch.setattr(feed_server, "BESIDE_BYTES_PER_S_MAX", 80_000)
    rests: list[float] = []
    rest_s = FeedServer.rest_s

    def noted(server: FeedServer) -> float:
        rests.append(rest_s(server))
        return rests[-1]

    monkeypatch.setattr(FeedServer, "rest_s", noted)

    async def take(feed: FeedClient) -> None:
        async with aclosing(feed.follow(partitions_from_start([0]))) as batches:
            async for batch in batches:
                if batch[-1].seq == 40:
                    return

    async def test() -> None:
        async with copies_of(copy) as feed:
            began_s = asyncio.get_running_loop().time()
            await asyncio.gather(take(feed), take(feed))
            took_s = asyncio.get_running_loop().time() - began_s
        if payments_s:
            assert took_s > 0.5
        else:
            assert not any(rests)

    run(test)


def test_g9_what_followers_got_before_payments_costs_them_no_rest() -> None:
    """A rebuild without payments may be given gigabytes. Counted as debt, they would keep all followers waiting for
    minutes once somebody pays.
    """

    class Paid:
        seq = 0

        def partitions(self) -> list[int]:
            return [0]

        def durable_seq(self, partition: int) -> int:
            return self.seq

    async def test() -> None:
        paid = Paid()
        server = FeedServer(cast(Any, paid))
        server.given(100 * feed_server.BESIDE_BYTES_PER_S_MAX)
        assert server.rest_s() == 0
        paid.seq = 1
        await server.look()
        assert server.rest_s() == 0
        server.given(2 * feed_server.BESIDE_BYTES_PER_S_MAX)
        assert 1 < server.rest_s() <= 2

    run(test)
