"""`bench history`: measures how fast the history is written, its lag under a steady load, and how fast it is read."""

from pathlib import Path

import click

from bench.cluster import Cluster
from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.machine import commit, machine
from bench.past_table import HEADINGS, OTHER_HEADINGS, others_of, targets_of
from bench.result import Document
from bench.runner import Prepared
from bench.text import table


@click.command()
@session.accounts_option
@click.option(
    "--transfers",
    type=click.IntRange(1_000),
    default=300_000,
    show_default=True,
    help="Transfers that are rebuilt from the journal.",
)
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=5_000,
    show_default=True,
    help="Transfers per second while the lag is measured.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=10,
    show_default=True,
    help="Transfers in a request of this load: single ones would take both cores for the load itself.",
)
@click.option(
    "--rows",
    type=click.IntRange(1_000),
    default=10**6,
    show_default=True,
    help="Rows of the listed account.",
)
@session.seconds_option(20)
@session.folder_option
@session.json_option
def history(
    accounts: int,
    transfers: int,
    rate: float,
    batch: int,
    rows: int,
    seconds: float,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Fill a history store from the journal, follow a steady load, and list an account with many rows: 3 minutes.

    The speed is that of a rebuild from the journal while nothing else runs. The lag is the time from the answer to a
    payment until the history has it. Everything runs on this machine, PostgreSQL too. `bench report --history-from`
    takes the JSON file.
    """
    from bench.past import PARTITIONS, Past, growth_and_rebuild, lag, listing  # needs asyncpg

    bench = Session(folder)
    shape = shape_of(3, PARTITIONS, 1, embedded=False, history=True)

    async def work(cluster: Cluster, prepared: Prepared) -> Document:
        past = Past(cluster)
        try:
            found = await growth_and_rebuild(bench, cluster, prepared, past, transfers)
            await past.settle()
            found |= await lag(bench, cluster, prepared, past, rate, batch, seconds)
            found |= await listing(bench, cluster, past, rows)
        finally:
            await past.reader.close()
        return {**found, "accounts": accounts, "machine": machine(), "commit": commit()}

    found: Document = bench.on_cluster(shape, accounts, work)
    write_json(json_file, found)
    click.echo(table(HEADINGS, [target.cells() for target in targets_of(found)]))
    click.echo(table(OTHER_HEADINGS, others_of(found)))
