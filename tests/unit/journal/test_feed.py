"""The feed of a directory gives every entry after a position once, in order. It refuses a contradicting position."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from unit.journal.samples import append, nonce, write

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.journal import Fork, JournalWriter
from wallet_engine.journal.feed import START, DirectoryFeed, Feed, FeedEntry, FeedPosition

SEGMENT_BYTES = 3000


async def all_of(feed: Feed, after: Mapping[int, FeedPosition]) -> list[FeedEntry]:
    return [entry async for batch in feed.follow(after) for entry in batch]


def seqs_of(entries: list[FeedEntry]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for entry in entries:
        found.setdefault(entry.partition, []).append(entry.seq)
    return found


def test_it_begins_behind_the_position_and_gives_each_entry_once(tmp_path: Path) -> None:
    write(tmp_path, {1: 40, 2: 30, 3: 5}, segment_bytes_max=SEGMENT_BYTES)
    feed = DirectoryFeed(tmp_path, ends=True)
    after = {1: FeedPosition(35, nonce(1, 35)), 2: START, 9: START}
    found = asyncio.run(all_of(feed, after))
    assert seqs_of(found) == {1: [36, 37, 38, 39, 40], 2: list(range(1, 31))}
    assert [entry.nonce for entry in found if entry.partition == 1] == [
        nonce(1, seq) for seq in range(36, 41)
    ]
    first = next(entry for entry in found if entry.partition == 2)
    assert (first.epoch, first.time_ms, len(first.entry.operations)) == (1, 1700000000001, 1)
    assert first.header.prev_nonce == ZERO_NONCE
    assert asyncio.run(feed.positions()) == {1: 40, 2: 30, 3: 5}


@pytest.mark.parametrize("after", [FeedPosition(35, nonce(1, 35, "other")), FeedPosition(0, nonce(1, 1))])
def test_another_chain_is_refused(tmp_path: Path, after: FeedPosition) -> None:
    write(tmp_path, {1: 40})
    with pytest.raises(Fork, match="partition 1 forks"):
        asyncio.run(all_of(DirectoryFeed(tmp_path, ends=True), {1: after}))


def test_a_position_without_a_nonce_takes_whatever_chain_there_is(tmp_path: Path) -> None:
    write(tmp_path, {1: 40})
    found = asyncio.run(all_of(DirectoryFeed(tmp_path, ends=True), {1: FeedPosition(38, None)}))
    assert seqs_of(found) == {1: [39, 40]}


def test_it_waits_for_what_comes(tmp_path: Path) -> None:
    async def follow() -> list[int]:
        writer = JournalWriter(tmp_path, "sample", segment_bytes_max=SEGMENT_BYTES)
        seqs: list[int] = []
        try:
            async with aclosing(DirectoryFeed(tmp_path).entries(4, 0)) as batches:
                append(writer, 4, 1)
                writer.sync()
                async for batch in batches:
                    seqs += [entry.seq for entry in batch]
                    if len(seqs) >= 60:
                        return seqs
                    append(writer, 4, 20)
                    writer.sync()
        finally:
            writer.close()
        return seqs

    found = asyncio.run(asyncio.wait_for(follow(), 30))
    assert found == list(range(1, len(found) + 1))
