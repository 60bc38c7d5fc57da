"""`bench beside`: measures payments alone and beside a follower, in turns on the same cores."""

from pathlib import Path
from typing import Final

import click

from bench.cluster import Cluster
from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.result import Document, Plan
from bench.runner import Prepared, send_transfers
from bench.runs import in_turns, p99_ratios
from bench.text import table

HEADINGS: Final = (
    *("beside", "transfers/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "p99 / alone: lowest", "median"),
    *("highest", "entries/s", "fsyncs/s", "other cores"),
)


@click.command()
@session.accounts_option
@click.option(
    "--transfers",
    type=click.IntRange(1_000),
    default=200_000,
    show_default=True,
    help="Transfers sent before, which the follower has to catch up with.",
)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=2_000,
    show_default=True,
    help="Single transfers that arrive per second.",
)
@click.option(
    "--only",
    multiple=True,
    help="Measure only `alone` and this neighbour: feed, keeps up or catches up. May be given again.",
)
@click.option(
    "--apart",
    is_flag=True,
    help="Run the neighbour on one half of the cores and payments on the other: then they share only journal and disk.",
)
@session.seconds_option(8.0)
@session.warmup_option(2.0)
@session.runs_option(3)
@session.folder_option
@session.json_option
def beside(
    accounts: int,
    transfers: int,
    rate: float,
    only: tuple[str, ...],
    apart: bool,
    seconds: float,
    warmup: float,
    runs: int,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Measure what a follower costs payments on the same machine, PostgreSQL included: 3 minutes.

    Measures in turns on one cluster: payments alone; beside a reader of the feed at 10 MiB/s, which shows the journal's
    part; beside a follower that keeps up; and beside one that writes the whole history again. Ratios compare rows of
    the same turn.
    """
    from bench.beside import ALONE, NEIGHBOURS, Beside  # needs asyncpg
    from bench.past import PARTITIONS, Past

    unknown = set(only) - set(NEIGHBOURS)
    if unknown:
        raise click.UsageError(f"--only: one of {', '.join(NEIGHBOURS)}")
    rows = [name for name in NEIGHBOURS if name == ALONE or not only or name in only]
    bench = Session(folder)
    shape = shape_of(3, PARTITIONS, 1, embedded=False, history=True)

    async def work(cluster: Cluster, prepared: Prepared) -> list[Document]:
        past = Past(cluster)
        neighbours = Beside(cluster, past, apart=apart)
        many = Plan("http", "uniform", 1000, 8, 1.0, 0.0, bench.seed())
        await send_transfers(cluster, many, prepared, transfers, bench.say)
        await past.caught_up()

        async def turn(name: str, _: int) -> Document:
            bench.say(f"{name}: {NEIGHBOURS[name]}")
            plan = Plan("http", "uniform", 1, 256, seconds, warmup, bench.seed(), rate=rate)
            async with neighbours.working(name) as taken:
                before = await taken()
                document = await bench.measure_on(cluster, prepared, plan)
                entries = await taken() - before
                if name == "catches up" and not await neighbours.left():
                    raise click.ClickException(
                        "no report: the follower caught up too early: give more --transfers"
                    )
            return {**document, "name": name, "entries_per_s": round(entries / document["seconds"])}

        neighbours.rest()
        try:
            return await in_turns(turn, rows, runs)
        finally:
            neighbours.wake()
            await past.reader.close()

    found: list[Document] = bench.on_cluster(shape, accounts, work)
    write_json(json_file, found)
    click.echo(table(HEADINGS, [_cells(row, found[0]) for row in found]))
    if not all(row["kept_up"] for row in found):
        click.echo(
            "\nOVERLOADED: more requests arrive than are answered, so latencies only grow with the time"
        )


def _cells(row: Document, alone: Document) -> list[str]:
    latency = row["latency_ms"]
    return [
        *(row["name"], f"{row['transfers_per_s']:,.0f}"),
        *(f"{latency[name]:.1f}" for name in ("p50", "p90", "p99", "p999")),
        *(f"{ratio:.2f}" for ratio in p99_ratios(row, alone)),
        *(f"{row['entries_per_s']:,}", f"{row['fsyncs_per_s']:.0f}", f"{row['other_cores']:.2f}"),
    ]
