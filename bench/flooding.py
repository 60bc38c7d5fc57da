"""`python -m bench.flooding`: callers without a key send batches until standard input ends."""

import asyncio
import json
import sys
import time
from random import Random

import click
import uvloop

from bench.doors.forms import form_of
from bench.doors.http import HttpDoor
from bench.pacing import ClosedLoop
from bench.recorder import Recorder
from bench.ring import Request, Ring, chunks
from bench.workload import draw


@click.command()
@click.argument("addresses", nargs=-1, required=True)
@click.option("--accounts", type=int, required=True)
@click.option("--partitions", type=int, required=True)
@click.option("--batch", type=int, required=True)
@click.option("--callers", type=int, required=True)
def flood(addresses: tuple[str, ...], accounts: int, partitions: int, batch: int, callers: int) -> None:
    """Prints a line when all callers are connected, and at the end a JSON line: {"transfers_per_s", "refused"}."""
    uvloop.run(_flood(list(addresses), accounts, partitions, batch, callers))


async def _flood(addresses: list[str], accounts: int, partitions: int, batch: int, callers: int) -> None:
    form = form_of("uniform", batch)
    pairs = draw("uniform", 40 * batch, accounts, partitions, Random())
    requests = [Request(form.calls(part, addresses[0]), len(part), 0) for part in chunks(pairs, batch)]
    recorder = Recorder()
    door = HttpDoor(addresses, recorder, Ring(requests, repeats=False), callers, ClosedLoop(), form)
    await door.start()
    began_s = time.monotonic()
    click.echo("floods")
    await asyncio.to_thread(sys.stdin.read)
    rate = recorder.total_transfers / (time.monotonic() - began_s)
    await door.stop()
    click.echo(json.dumps({"transfers_per_s": round(rate), "refused": recorder.unexpected_shown}))


if __name__ == "__main__":
    flood()
