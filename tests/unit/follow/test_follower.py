"""A follower shares partitions with others, restarts at its sink's positions, and stops at a fork."""

import asyncio
import errno
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from wallet_engine.domain.entry import EntryHeader
from wallet_engine.follow import follower as follower_module
from wallet_engine.follow.claims import Claims
from wallet_engine.follow.follower import Follower
from wallet_engine.journal.errors import Fork, Link
from wallet_engine.journal.feed import START, Feed, FeedEntry, FeedPosition, Reached
from wallet_engine.routing.file_tree import FileTree
from wallet_engine.routing.followers import Followers
from wallet_engine.routing.following import FollowerInfo, Following
from wallet_engine.telemetry.metrics import Metrics

SOON_S = 20.0


def entry(partition: int, seq: int) -> FeedEntry:
    header = EntryHeader(seq, f"{seq - 1:016x}", f"{seq:016x}", 1, 1_000, 1, "+", 2, 0)
    return FeedEntry(partition, header, b"")


class ListFeed(Feed):
    """A feed with the same number of entries in each partition. One partition forks after its last entry."""

    def __init__(self, ends: Mapping[int, int], forks: Collection[int] = ()) -> None:
        self.ends = dict(ends)
        self.forks = forks

    async def follow(self, after: Mapping[int, FeedPosition]) -> AsyncGenerator[Sequence[FeedEntry], None]:
        for partition, at in after.items():
            for seq in range(at.seq + 1, self.ends[partition] + 1):
                yield [entry(partition, seq)]
        for partition in set(self.forks) & after.keys():
            raise Fork(partition, Link(1, "", 0), Link(2, "", 0))
        await asyncio.sleep(SOON_S)

    async def positions(self) -> dict[int, int]:
        return self.ends

    async def answers(self) -> dict[str, dict[int, int]]:
        return {"j1": self.ends}


class ListSink:
    """A sink that keeps its entries when it is flushed, and fails a given number of times."""

    name = "list"

    def __init__(self, failures: int = 0) -> None:
        self.kept: dict[int, list[int]] = {}
        self.failures = failures
        self.current: set[int] = set()
        self.until_ms = 0
        self._taken: list[FeedEntry] = []

    async def start(self) -> None:
        self._taken = []

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        seqs = {p: [0, *self.kept.get(p, ())][-1] for p in partitions}
        return {p: FeedPosition(seq, f"{seq:016x}") if seq else START for p, seq in seqs.items()}

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        self._taken += batch

    async def flush(self) -> None:
        if self._taken and self.failures:
            self.failures -= 1
            raise OSError("the sink is away")
        for each in self._taken:
            self.kept.setdefault(each.partition, []).append(each.seq)
        self._taken = []

    def resumes_after(self) -> Mapping[int, int] | None:
        return None

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        self.current |= set(partitions)
        self.until_ms = at_ms

    async def close(self) -> None:
        pass


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def info(name: str, sink: str = "list") -> FollowerInfo:
    return FollowerInfo(name, sink, "", 1, "here")


async def follow(
    tree: FileTree,
    feed: Feed,
    sink: ListSink,
    done: Callable[[Follower], bool],
    metrics: Metrics | None = None,
    partitions: int = 4,
) -> Follower:
    """Follow the partitions until `done`."""
    claims = Claims(Following(tree), info("one"), partitions)
    follower = Follower(feed, sink, claims, Followers(tree), metrics or Metrics())
    tasks = [asyncio.create_task(claims.run()), asyncio.create_task(follower.run())]
    try:
        await until(lambda: done(follower))
        await follower.note()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return follower


@pytest.mark.parametrize("failures", [0, 2])
def test_each_entry_comes_once_in_order_also_behind_failures(tmp_path: Path, failures: int) -> None:
    ends, sink = {0: 3, 1: 0, 2: 700, 3: 1}, ListSink(failures)
    with closing(FileTree(tmp_path / "map.json")) as tree:
        asyncio.run(follow(tree, ListFeed(ends), sink, lambda _: sink.current == {0, 1, 2, 3}))
        assert sink.kept == {p: list(range(1, end + 1)) for p, end in ends.items() if end}
        assert Followers(tree).seqs() == {"list": ends}


def test_a_sink_that_is_not_closed_in_order_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not stored comes again, but whoever stopped the process for its last files has to know."""
    logged: list[str] = []
    monkeypatch.setattr(follower_module.log, "warning", lambda event, **more: logged.append(more["error"]))

    class Full(ListSink):
        async def close(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with closing(FileTree(tmp_path / "map.json")) as tree:
        asyncio.run(
            follow(tree, ListFeed(dict.fromkeys(range(4), 1)), sink := Full(), lambda _: bool(sink.current))
        )
    assert logged == ["[Errno 28] No space left on device"]


class UnderWay(ListFeed):
    """A copy has an entry of partition 2 that no quorum has yet."""

    async def reached(self) -> Reached:
        return Reached(self.ends, frozenset({2}))


def test_g14_no_partition_is_complete_beyond_an_entry_that_is_under_way(tmp_path: Path) -> None:
    """An entry is final some time after it was decided: what was said to be complete got entries of earlier times."""
    sink = ListSink()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        feed = UnderWay({0: 1, 1: 0, 2: 1, 3: 0})
        before_ms = time.time() * 1000
        asyncio.run(follow(tree, feed, sink, lambda _: sink.current >= {0, 1, 3}))
    assert sink.current == {0, 1, 3}
    assert sink.kept == {0: [1], 2: [1]}
    margin_ms = follower_module.UNDER_WAY_MS
    assert before_ms - margin_ms - 1 <= sink.until_ms <= time.time() * 1000 - margin_ms


def test_what_others_recorded_in_its_place_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interrupted rebuild the journal kept the segments of partitions that stood still for ever."""
    monkeypatch.setattr(follower_module, "NOTE_S", 0.1)
    monkeypatch.setattr(follower_module, "NOTED_ALL_S", 0.2)
    ends, sink = {0: 3, 1: 1, 2: 7, 3: 0}, ListSink()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        replaced = False

        def mended(_: Follower) -> bool:
            nonlocal replaced
            if not replaced and Followers(tree).seqs() == {"list": ends}:
                Followers(tree).note("list", {0: 0, 1: 0})
                replaced = True
            return replaced and Followers(tree).seqs() == {"list": ends}

        asyncio.run(follow(tree, ListFeed(ends), sink, mended))


class Folding(ListSink):
    """A sink that would read its partitions again from an earlier place."""

    def resumes_after(self) -> Mapping[int, int]:
        return {0: 2, 1: 9}


def test_g9_what_a_new_process_would_read_again_is_not_noted_as_kept(tmp_path: Path) -> None:
    """The journal may remove what is noted; and what was taken is told too, for `status` and `doctor`."""
    ends, sink = {0: 3, 1: 1, 2: 700, 3: 0}, Folding()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        asyncio.run(follow(tree, ListFeed(ends), sink, lambda _: sink.current == {0, 1, 2, 3}))
        assert Followers(tree).seqs() == {"list": {0: 2, 1: 1, 2: 0, 3: 0}}
        assert Followers(tree).taken() == {"list": ends}


def test_a_fork_stops_its_partition_and_no_other(tmp_path: Path) -> None:
    sink = ListSink()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        feed = ListFeed({0: 2, 1: 2, 2: 2, 3: 2}, forks=[1])
        follower = asyncio.run(follow(tree, feed, sink, lambda _: sink.current == {0, 2, 3}))
    assert list(follower.forked) == [1]
    assert "partition 1 forks" in follower.forked[1]


def test_g9_an_entry_that_nobody_can_read_stops_its_partition_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It failed the sink, for all of its partitions, again and again. It is looked at again: it may have been cut."""
    monkeypatch.setattr(follower_module, "UNREADABLE_S", 0.2)
    readable: list[bool] = []

    class Reading(ListSink):
        async def take(self, batch: Sequence[FeedEntry]) -> None:
            for each in batch:
                if each.partition == 1 and not readable:
                    _ = each.entry  # its text has no operations
            await super().take(batch)

    def done(follower: Follower) -> bool:
        if sink.current >= {0, 2, 3} and 1 in follower.forked:
            said.append(follower.forked[1])
            readable.append(True)
        return sink.kept.get(1) == [1, 2]

    sink, said = Reading(), list[str]()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        follower = asyncio.run(follow(tree, ListFeed({0: 2, 1: 2, 2: 2, 3: 2}), sink, done))
    assert said[0].startswith("partition 1: entry 1 cannot be read: ")
    assert follower.forked == {}


@pytest.mark.parametrize("partitions", [4, 1])
def test_a_forked_partition_is_followed_again_once_it_is_made_anew(tmp_path: Path, partitions: int) -> None:
    """After `history rebuild` nobody followed it until the follower was restarted."""

    class Anew(ListSink):
        async def stored(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
            return await self.positions(partitions)

    sink, feed = Anew(), ListFeed(dict.fromkeys(range(partitions), 2), forks=[0])

    def made_anew(follower: Follower) -> bool:
        if feed.forks and 0 in follower.forked and follower._forked_at:
            feed.forks = []
            sink.kept[0] = []
            feed.ends[0] = 3
        return not feed.forks and not follower.forked and sink.kept.get(0) == [1, 2, 3]

    with closing(FileTree(tmp_path / "map.json")) as tree:
        asyncio.run(follow(tree, feed, sink, made_anew, partitions=partitions))


def test_g14_nothing_is_complete_that_ends_behind_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is restored from an older copy goes on with other entries: they were called complete."""
    monkeypatch.setattr(follower_module, "BEYOND_S", 0.0)
    sink, feed = ListSink(), ListFeed({0: 3, 1: 1, 2: 1, 3: 0})
    sink.kept[0] = [1, 2, 3, 4, 5]
    with closing(FileTree(tmp_path / "map.json")) as tree:
        follower = asyncio.run(
            follow(tree, feed, sink, lambda f: sink.current >= {1, 2, 3} and bool(f.beyond))
        )
    assert sink.current == {1, 2, 3}
    assert follower.beyond == {
        0: "partition 0: the sink list has 5 entries, and the copies that answer know of 3"
    }


def test_partitions_are_shared_and_those_of_who_is_gone_taken_over(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "map.json"
        with closing(FileTree(path)) as first, closing(FileTree(path)) as second:
            claims = [Claims(Following(first), info("a"), 8), Claims(Following(second), info("b"), 8)]
            tasks = [asyncio.create_task(claims[0].run())]
            await until(lambda: claims[0].partitions == list(range(8)))
            tasks.append(asyncio.create_task(claims[1].run()))
            await until(lambda: len(claims[0].unwanted) == 4)
            assert claims[1].partitions == []  # not before the other process has released them
            await claims[0].release(claims[0].unwanted)
            await until(lambda: [c.partitions for c in claims] == [[0, 2, 4, 6], [1, 3, 5, 7]])
            tasks[0].cancel()
            await asyncio.gather(tasks[0], return_exceptions=True)
            first.close()
            await until(lambda: claims[1].partitions == list(range(8)))
            tasks[1].cancel()
            await asyncio.gather(tasks[1], return_exceptions=True)

    asyncio.run(main())


class CountingTree(FileTree):
    created = 0

    def create(self, path: str, data: bytes = b"", *, ephemeral: bool = False) -> None:
        self.created += 1
        super().create(path, data, ephemeral=ephemeral)


def test_looking_at_claims_that_stand_writes_nothing(tmp_path: Path) -> None:
    """Neither for own claims nor for those of others: ZooKeeper writes even refused requests to its disk."""
    with closing(CountingTree(tmp_path / "map.json")) as tree:
        following = Following(tree)
        claims = Claims(following, info("b"), 8)
        following.register(info("a"))
        following.claim("list", 0, "a")
        following.claim("list", 1, "a")  # to be taken over by its other process, but not released yet
        asyncio.run(claims.look())
        assert claims.partitions == [3, 5, 7]
        before = tree.created
        asyncio.run(claims.look())
        assert tree.created == before


class Stalling(ListSink):
    """A sink that takes all entries until it is told to hang or to fail."""

    stalls = ""

    async def flush(self) -> None:
        if self.stalls == "fails":
            raise OSError("the sink is away")
        if self.stalls:
            await asyncio.sleep(SOON_S)
        await super().flush()


@pytest.mark.parametrize("stalls", ["fails", "hangs"])
def test_the_lag_of_a_sink_that_stalls_grows(
    tmp_path: Path, stalls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lag is 0 while the sink has all entries. Then it grows, whether the sink hangs or fails."""
    monkeypatch.setattr(follower_module, "LOOK_S", 0.05)
    monkeypatch.setattr(follower_module, "LOOKED_S_MAX", 0.5)
    sink, lags = Stalling(), []

    def lag_s() -> float:
        lag = metrics.registry.get_sample_value("wallet_follow_lag_seconds", {"sink": "list"})
        assert lag is not None
        return lag

    def stalled(_: Follower) -> bool:
        if sink.current == {0, 1, 2, 3} and not sink.stalls:
            lags.append(lag_s())
            sink.stalls = stalls
        return bool(sink.stalls) and lag_s() > 1.0

    metrics = Metrics()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        asyncio.run(follow(tree, ListFeed(dict.fromkeys(range(4), 2)), sink, stalled, metrics))
    assert lags == [0]


def test_who_has_no_partitions_lags_behind_nobody(tmp_path: Path) -> None:
    metrics = Metrics()
    with closing(FileTree(tmp_path / "map.json")) as tree:
        claims = Claims(Following(tree), info("one"), 4)
        Follower(ListFeed({}), ListSink(), claims, Followers(tree), metrics)
    time.sleep(0.01)
    assert metrics.registry.get_sample_value("wallet_follow_lag_seconds", {"sink": "list"}) == 0
