"""`bench quick`: the measurement of `make bench`."""

from pathlib import Path

import click

from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.result import Plan, results_table
from bench.targets import THROUGHPUT
from bench.text import table
from bench.textbook import TEXTBOOK_HEADINGS


@click.command()
@session.seconds_option(5.0)
@session.warmup_option(2.0)
@session.runs_option(1)
@session.accounts_option
@session.apis_option
@session.embedded_option
@session.json_option
def quick(
    seconds: float,
    warmup: float,
    runs: int,
    accounts: int,
    apis: int,
    embedded: bool,
    json_file: Path | None,
) -> None:
    """Measure requests of three sizes by HTTP, and single transfers at the engine, on one cluster of 3 shards."""
    bench = Session()
    plans = [
        Plan(target.door, "uniform", target.batch, target.callers, seconds, warmup, bench.seed())
        for target in THROUGHPUT
    ]
    documents = bench.measure(shape_of(3, 64, apis, embedded=embedded), accounts, plans, runs=runs)
    write_json(json_file, documents)
    wanted = {
        "at least": [f"{target.at_least:,}" for target in THROUGHPUT],
        "aim": [f"{target.aim:,}" for target in THROUGHPUT],
    }
    click.echo(results_table(documents, wanted))
    largest = max(documents, key=lambda document: document["per_node_tps"])
    click.echo("\n" + table(TEXTBOOK_HEADINGS, largest["textbook"]))
