"""`python -m bench`: see `--help`."""

import json
import secrets
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

import click
import uvloop

from bench.cluster import Cluster, ClusterFailed, Say, Shape, system_is_there
from bench.funding import SetupFailed
from bench.measure import ProcessReplaced
from bench.report import Plan, Result, results_table
from bench.runner import DOORS, Refused, measure, prepare
from bench.workload import WORKLOADS
from wallet_engine.domain.errors import WalletError
from wallet_engine.telemetry.logging import configure_logging

#: The rows of `quick` and what a throw-away prototype reached (1 Redis node, same machine): transfers/s and µs.
QUICK: Final = (
    ("http", 1000, 8, "58,000", "9.2/9.0/2.0"),
    ("http", 100, 32, "35,000", ""),
    ("http", 1, 256, "10,000-17,000", ""),
    ("engine", 1, 256, "", ""),
)


@click.group()
def main() -> None:
    """Measure the wallet engine on a cluster that is started for it and stopped afterwards.

    All figures include the load generator's share of the machine. A run whose books do not add up, or that got
    an answer which is neither success nor a decline that had to come, reports nothing and exits 1.
    """


@main.command()
@click.option(
    "--door",
    type=click.Choice(list(DOORS)),
    default="http",
    show_default=True,
    help="Where the load is put on: HTTP, the engine in this process, or the apply script alone.",
)
@click.option(
    "--workload",
    type=click.Choice(list(WORKLOADS)),
    default="uniform",
    show_default=True,
    help="; ".join(f"{name}: {text}" for name, text in WORKLOADS.items()) + ".",
)
@click.option(
    "--batch", type=click.IntRange(1, 10_000), default=1000, show_default=True, help="Transfers in a request."
)
@click.option(
    "--callers",
    type=click.IntRange(1, 10_000),
    default=8,
    show_default=True,
    help="Callers; each sends its next request when the last one is answered.",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.5), default=10.0, show_default=True, help="Measured time."
)
@click.option(
    "--warmup", type=click.FloatRange(min=0), default=3.0, show_default=True, help="Seconds before it."
)
@click.option(
    "--accounts", type=click.IntRange(2, 10**8), default=100_000, show_default=True, help="Accounts."
)
@click.option("--shards", type=click.IntRange(1, 64), default=3, show_default=True, help="Redis primaries.")
@click.option("--partitions", type=click.IntRange(1), default=64, show_default=True, help="A power of two.")
@click.option("--apis", type=click.IntRange(1, 16), default=1, show_default=True, help="API processes.")
@click.option(
    "--embedded", is_flag=True, help="Bundled Redis, no ZooKeeper.  [default: when none is installed]"
)
@click.option("--seed", type=int, help="Of the transfers' sides and amounts.  [default: random]")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the cluster's data is put.  [default: the system's temporary folder]",
)
@click.option("--keep", is_flag=True, help="Leave the data and the logs of the cluster there.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures there."
)
def run(
    door: str,
    workload: str,
    batch: int,
    callers: int,
    seconds: float,
    warmup: float,
    accounts: int,
    shards: int,
    partitions: int,
    apis: int,
    embedded: bool,
    seed: int | None,
    folder: Path | None,
    keep: bool,
    json_file: Path | None,
) -> None:
    """One measurement, ending in a table; --json FILE writes all its figures."""
    plan = Plan(
        door, workload, batch, callers, seconds, warmup, secrets.randbits(32) if seed is None else seed
    )
    shape = Shape(shards, partitions, apis, embedded or not system_is_there())
    [result] = _measure(shape, accounts, [plan], folder=folder, keep=keep)
    if json_file is not None:
        json_file.write_text(json.dumps(result.document(), indent=2) + "\n")
    click.echo(results_table([result]))


@main.command()
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.5),
    default=5.0,
    show_default=True,
    help="Measured time of a row.",
)
@click.option(
    "--warmup", type=click.FloatRange(min=0), default=2.0, show_default=True, help="Seconds before each row."
)
@click.option(
    "--accounts", type=click.IntRange(2, 10**8), default=100_000, show_default=True, help="Accounts."
)
@click.option("--apis", type=click.IntRange(1, 16), default=1, show_default=True, help="API processes.")
@click.option(
    "--embedded", is_flag=True, help="Bundled Redis, no ZooKeeper.  [default: when none is installed]"
)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all rows there."
)
def quick(
    seconds: float, warmup: float, accounts: int, apis: int, embedded: bool, json_file: Path | None
) -> None:
    """Large, middle and single requests by HTTP, and single ones at the engine, on one cluster of 3 shards."""
    seed = secrets.randbits(32)
    plans = [
        Plan(door, "uniform", batch, callers, seconds, warmup, seed + number)
        for number, (door, batch, callers, _, _) in enumerate(QUICK)
    ]
    results = _measure(Shape(3, 64, apis, embedded or not system_is_there()), accounts, plans)
    if json_file is not None:
        json_file.write_text(json.dumps([result.document() for result in results], indent=2) + "\n")
    prototype = {
        "prototype/s": [line[3] for line in QUICK],
        "its redis/api/journal µs": [line[4] for line in QUICK],
    }
    click.echo(results_table(results, prototype))


def _measure(
    shape: Shape, accounts: int, plans: Sequence[Plan], *, folder: Path | None = None, keep: bool = False
) -> list[Result]:
    """All plans on one cluster. Exits 1 when there is nothing to report, 2 when the plan cannot be."""
    say = _sayer()
    signal.signal(signal.SIGTERM, _terminated)
    configure_logging("error")
    try:
        with Cluster(shape, say, folder=folder, keep=keep) as cluster:
            return uvloop.run(_all(cluster, accounts, plans, say))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except (Refused, SetupFailed, ProcessReplaced, ClusterFailed, WalletError) as error:
        raise click.ClickException(f"no report: {error}") from None


async def _all(cluster: Cluster, accounts: int, plans: Sequence[Plan], say: Say) -> list[Result]:
    prepared = await prepare(cluster, accounts, say)
    return [await measure(cluster, plan, prepared, say) for plan in plans]


def _sayer() -> Say:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"bench {time.monotonic() - began:6.1f} s  {text}", file=sys.stderr, flush=True)

    return say


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
