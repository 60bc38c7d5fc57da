"""`bench run`: one measurement, in which everything can be set."""

import dataclasses
from pathlib import Path

import click

from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.result import KEY_HEADINGS, Plan, cost_of_key, results_table, spread_table
from bench.runner import DOORS
from bench.text import table
from bench.textbook import TEXTBOOK_HEADINGS
from bench.workload import FORMS, WORKLOADS


@click.command()
@click.option(
    "--door",
    type=click.Choice(list(DOORS)),
    default="http",
    show_default=True,
    help="Where the load is applied: HTTP, the engine in this process, or the apply script alone.",
)
@click.option(
    "--workload",
    type=click.Choice([*WORKLOADS, *FORMS]),
    default="uniform",
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in (WORKLOADS | FORMS).items()) + ".",
)
@click.option(
    "--batch", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Transfers in a request."
)
@click.option(
    "--callers",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Callers, each with one request at a time.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Requests that arrive per second (open loop: latencies count from the arrival).  "
    "[default: closed loop, a caller sends when it has its answer]",
)
@session.seconds_option(10.0)
@session.warmup_option(3.0)
@session.runs_option(1)
@session.accounts_option
@click.option("--shards", type=click.IntRange(1, 64), default=3, show_default=True, help="Redis primaries.")
@session.partitions_option(1)
@session.apis_option
@click.option(
    "--journals",
    type=click.IntRange(1, 9),
    default=1,
    show_default=True,
    help="Journal copies; journal µs are those of all, bytes and fsyncs those of the first.",
)
@session.embedded_option
@click.option(
    "--history",
    is_flag=True,
    help="Run a follower too, which writes the history into a PostgreSQL on this machine.",
)
@click.option(
    "--auth",
    is_flag=True,
    help="Measure two rows in turns with the same API processes: callers without a key, and callers with one.",
)
@click.option("--tls", is_flag=True, help="Use mutual TLS between the journal and the services.")
@click.option("--https", is_flag=True, help="Call the API by HTTPS.")
@click.option("--seed", type=int, help="Seed of the transfers' accounts and amounts.  [default: random]")
@session.folder_option
@click.option("--keep", is_flag=True, help="Keep the data and the logs of the cluster.")
@session.json_option
def run(
    door: str,
    workload: str,
    batch: int,
    callers: int,
    rate: float | None,
    seconds: float,
    warmup: float,
    runs: int,
    accounts: int,
    shards: int,
    partitions: int,
    apis: int,
    journals: int,
    embedded: bool,
    history: bool,
    auth: bool,
    tls: bool,
    https: bool,
    seed: int | None,
    folder: Path | None,
    keep: bool,
    json_file: Path | None,
) -> None:
    """Run one measurement, and print a table. --json FILE writes all its figures."""
    bench = Session(folder, keep=keep)
    plan = Plan(door, workload, batch, callers, seconds, warmup, bench.seed() if seed is None else seed, rate)
    if door != "http" and (auth or https):
        raise click.UsageError("only HTTP has keys and certificates: give --door http")
    shape = shape_of(
        shards,
        partitions,
        apis,
        embedded=embedded,
        history=history,
        auth=auth,
        tls=tls,
        https=https,
        journals=journals,
    )
    plans = [plan, dataclasses.replace(plan, auth=True)] if auth else [plan]
    documents = bench.measure(shape, accounts, plans, runs=runs)
    document = documents[-1]
    write_json(json_file, documents if auth else document)
    click.echo(results_table(documents))
    if auth:
        click.echo("\n" + table(KEY_HEADINGS, cost_of_key(*documents)))
    for each in documents if runs > 1 else ():
        click.echo(f"\n{each['name']}\n{spread_table(each)}")
    if not document.get("kept_up", True):
        click.echo(
            "\nOVERLOADED: more requests arrive than are answered, so latencies only grow with the time"
        )
    click.echo("\n" + table(TEXTBOOK_HEADINGS, document["textbook"]))
