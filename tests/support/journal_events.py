"""The events that followers must make of a journal, made from its files without any follower."""

import asyncio
from pathlib import Path

from wallet_engine.events.event import Event
from wallet_engine.events.maker import Maker, from_first
from wallet_engine.journal.feed import DirectoryFeed, partitions_from_start


def events_in(journal: Path, partitions: int) -> list[Event]:
    """Every event of a journal's files."""

    async def main() -> list[Event]:
        maker = Maker(DirectoryFeed(journal))
        for partition in range(partitions):
            maker.begin(partition, from_first())
        found = []
        feed = DirectoryFeed(journal, ends=True)
        async for batch in feed.follow(partitions_from_start(range(partitions))):
            for made in await maker.make(batch):
                found += made.events
        return found

    return asyncio.run(main())
