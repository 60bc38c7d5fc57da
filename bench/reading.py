"""`python -m bench.reading`: reads a cluster's whole feed, over and over, and throws it away; for `bench beside`."""

import asyncio
from contextlib import aclosing
from pathlib import Path

import click
import uvloop

from wallet_engine.app.running import collect_rarely, take_priority
from wallet_engine.journal.feed import partitions_from_start
from wallet_engine.journal.feed_client import CopyAddress, FeedClient
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.telemetry.logging import configure_logging


@click.command()
@click.option("--zookeeper")
@click.option("--map-file", type=click.Path(path_type=Path))
@click.option("--partitions", type=int, required=True)
def read(zookeeper: str | None, map_file: Path | None, partitions: int) -> None:
    """Says a line when the first entries have come."""
    configure_logging("error")
    take_priority("low")
    collect_rarely()
    uvloop.run(_read(open_directory(zookeeper, map_file), partitions))


async def _read(directory: Directory, partitions: int) -> None:
    async def copies() -> dict[str, CopyAddress]:
        found = await asyncio.to_thread(directory.journals)
        return {name: CopyAddress(info.address, info.tls) for name, info in found.items()}

    feed = FeedClient(copies, "bench")
    begun = False
    while True:
        ends = await feed.positions()
        wanted = {
            partition: at
            for partition, at in partitions_from_start(range(partitions)).items()
            if ends.get(partition)
        }
        async with aclosing(feed.follow(wanted)) as batches:
            async for batch in batches:
                if not begun:
                    begun = True
                    click.echo("reads")
                for entry in batch:
                    if entry.seq >= ends[entry.partition]:
                        wanted.pop(entry.partition, None)
                if not wanted:
                    break


if __name__ == "__main__":
    read()
