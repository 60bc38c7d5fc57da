"""`python -m bench.reading`: reads the feed of a journal copy over and over, and ignores the bytes."""

import asyncio
from pathlib import Path
from typing import Final

import click
import uvloop

from wallet_engine.app.priority import take_priority
from wallet_engine.journal.feed_client import READ_BYTES
from wallet_engine.journal.feed_wire import FeedBytes, FollowerHello, Locate, Located, ReadAsk
from wallet_engine.journal.format import SEGMENT_HEADER_BYTES
from wallet_engine.journal.peers import Peer
from wallet_engine.routing.directory import open_directory

#: The rate at which a follower would read that writes some 30,000 transfers per second, more than any one seen.
BYTES_PER_S: Final = 10 * 1024 * 1024


@click.command()
@click.option("--zookeeper")
@click.option("--map-file", type=click.Path(path_type=Path))
@click.option("--partitions", type=int, required=True)
def read(zookeeper: str | None, map_file: Path | None, partitions: int) -> None:
    """Read until killed. Prints a line when the first bytes have arrived."""
    take_priority("low")
    directory = open_directory(zookeeper, map_file)
    name, info = next(iter(directory.journals().items()))
    directory.close()
    uvloop.run(_read(name, info.address, info.tls, partitions))


async def _read(name: str, address: str, tls: str, partitions: int) -> None:
    peer = await Peer.connect(name, address, FollowerHello("bench"), tls)
    said = False
    while True:
        found = await peer.ask(Locate([(partition, 0) for partition in range(partitions)]), Located)
        segment, offset = found.segment, found.offset
        while True:
            answer = await peer.ask(ReadAsk(segment, offset, READ_BYTES, news=False), FeedBytes)
            if not said:
                said = True
                click.echo("reads")
            await asyncio.sleep(max(len(answer.data), 4096) / BYTES_PER_S)
            if answer.at_end:
                break
            segment, offset = (
                (segment, offset + len(answer.data)) if answer.data else (segment + 1, SEGMENT_HEADER_BYTES)
            )


if __name__ == "__main__":
    read()
