"""`bench fair`: measures single transfers of one caller, alone and while another caller floods the service."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from bench.cluster import Cluster, ClusterFailed
from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.result import Document, Plan
from bench.runner import Prepared, latencies
from bench.runs import in_turns, p99_ratios
from bench.text import table

ALONE: Final = "alone"
FLOODED: Final = "beside the flood"
PARTITIONS: Final = 64
HEADINGS: Final = (
    *("singles", "transfers/s", "p50 ms", "p90 ms", "p99 ms", "p99 / alone: lowest", "median", "highest"),
    "flood: transfers/s",
)


@click.command()
@session.accounts_option
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=100,
    show_default=True,
    help="Single transfers that arrive per second.",
)
@click.option(
    "--callers",
    type=click.IntRange(1, 1_000),
    default=40,
    show_default=True,
    help="Callers of the flood. Each sends its next batch as soon as it has its answer.",
)
@click.option(
    "--batch",
    type=click.IntRange(2, 10_000),
    default=1_000,
    show_default=True,
    help="Transfers in a batch of the flood.",
)
@session.seconds_option(10.0)
@session.warmup_option(2.0)
@session.runs_option(5)
@session.folder_option
@session.json_option
def fair(
    accounts: int,
    rate: float,
    callers: int,
    batch: int,
    seconds: float,
    warmup: float,
    runs: int,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Measure how long single transfers of one caller wait while another caller floods: 3 minutes.

    Measures in turns on one cluster. The single transfers have a key and the flood has none, so they are two callers,
    each with its share. A single transfer that is refused or not paid ends the measurement. Ratios compare rows of the
    same turn.
    """
    bench = Session(folder)
    shape = shape_of(3, PARTITIONS, 1, embedded=False, auth=True)

    async def work(cluster: Cluster, prepared: Prepared) -> list[Document]:
        async def turn(name: str, _: int) -> Document:
            plan = Plan("http", "uniform", 1, 64, seconds, warmup, bench.seed(), rate=rate, auth=True)
            with flooding(cluster, accounts, batch, callers if name == FLOODED else 0) as flood:
                found = await latencies(cluster, plan, prepared, bench.say, flood.end)
            return {"name": name, **found, "flood": flood.said}

        return await in_turns(turn, [ALONE, FLOODED], runs)

    found: list[Document] = bench.on_cluster(shape, accounts, work)
    write_json(json_file, found)
    click.echo(table(HEADINGS, [_cells(row, found[0]) for row in found]))


class _Flood:
    """The process that floods; None for a run without a flood."""

    def __init__(self, process: "subprocess.Popen[str] | None") -> None:
        self._process = process
        self.said: dict[str, Any] = {"transfers_per_s": 0, "refused": []}

    async def end(self) -> None:
        """End the flood, wait for its answers, and take its figures (`said`)."""
        if self._process is not None:
            said, _ = await asyncio.to_thread(self._process.communicate)
            self.said = json.loads(said)


@contextmanager
def flooding(cluster: Cluster, accounts: int, batch: int, callers: int) -> Iterator[_Flood]:
    """Start `callers` callers without a key, which send batches until `end`; none for 0."""
    if not callers:
        yield _Flood(None)
        return
    words = {"accounts": accounts, "partitions": cluster.shape.partitions, "batch": batch, "callers": callers}
    argv = [sys.executable, "-m", "bench.flooding", *cluster.api_addresses]
    argv += [f"--{name}={value}" for name, value in words.items()]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise ClusterFailed("the process that floods has ended")
        time.sleep(1.0)  # until the queue of the flood has its full length
        yield _Flood(process)
    finally:
        process.kill()
        process.wait()


def _cells(row: Document, alone: Document) -> list[str]:
    latency = row["latency_ms"]
    return [
        *(row["name"], f"{row['transfers_per_s']:,.0f}"),
        *(f"{latency[name]:.1f}" for name in ("p50", "p90", "p99")),
        *(f"{ratio:.2f}" for ratio in p99_ratios(row, alone)),
        f"{row['flood']['transfers_per_s']:,}",
    ]
