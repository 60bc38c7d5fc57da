"""`bench client`: measures the CPU of a payment in the paying program, with single calls and with gathered ones."""

import asyncio
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import click

from bench.cluster import Cluster
from bench.commands import session
from bench.commands.session import Session, runs_option, seconds_option, shape_of, write_json
from bench.runner import Prepared
from bench.text import table
from bench.workload import account_name
from wallet_engine.client import AsyncWallet

#: With gathering, enough callers for full batches; without it, few enough that none waits for a connection.
GATHERED_CALLERS: Final = 256
SINGLE_CALLERS: Final = 8
HEADINGS: Final = ("calls", "transfers/s", "client CPU us per transfer", "transfers per client CPU second")


@click.command()
@runs_option(3)
@seconds_option(3.0)
@session.embedded_option
@session.folder_option
@session.json_option
def client(runs: int, seconds: float, embedded: bool, folder: Path | None, json_file: Path | None) -> None:
    """Pay with `AsyncWallet`: single calls of 8 coroutines, and with `batching=True` of 256, in turns.

    Nothing is prepared before: ids and bodies are made and answers are read as a paying program does.
    """
    bench = Session(folder)

    async def work(cluster: Cluster, prepared: Prepared) -> list[dict[str, Any]]:
        url = f"http://{cluster.api_addresses[0]}"
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for run in range(runs):
            for batching in (False, True):
                bench.say(f"run {run + 1}, {_name(batching)}")
                found[batching].append(await _pay(url, batching, seconds, prepared.accounts))
        return [
            {
                "calls": _name(batching),
                "transfers_per_s": median(rate for rate, _ in rows),
                "client_cpu_us": median(cpu for _, cpu in rows),
            }
            for batching, rows in found.items()
        ]

    rows = bench.on_cluster(shape_of(1, 16, 1, embedded=embedded), 1_000, work)
    write_json(json_file, rows)
    cells = [
        (
            row["calls"],
            f"{row['transfers_per_s']:,.0f}",
            f"{row['client_cpu_us']:,.1f}",
            f"{1e6 / row['client_cpu_us']:,.0f}",
        )
        for row in rows
    ]
    click.echo(table(HEADINGS, cells))
    single, gathered = (row["client_cpu_us"] for row in rows)
    click.echo(
        f"with the same client CPU, gathered calls make {single / gathered:.1f} times as many payments as single ones"
    )


def _name(batching: bool) -> str:
    return "gathered" if batching else "single"


async def _pay(url: str, batching: bool, seconds: float, accounts: int) -> tuple[float, float]:
    """(transfers per second, microseconds of this process's CPU per transfer)."""
    paid, callers = 0, GATHERED_CALLERS if batching else SINGLE_CALLERS

    async def caller(wallet: AsyncWallet, number: int, until_s: float) -> None:
        nonlocal paid
        payer = account_name(number % accounts)
        receiver = account_name((number + callers) % accounts)
        while time.monotonic() < until_s:
            await wallet.transfer(payer, receiver, "0.01", "USD")
            paid += 1

    async with AsyncWallet(url, batching=batching) as wallet:
        began_s, cpu_s = time.monotonic(), time.process_time()
        await asyncio.gather(*(caller(wallet, n, began_s + seconds) for n in range(callers)))
        took_s, used_s = time.monotonic() - began_s, time.process_time() - cpu_s
    return paid / took_s, used_s / paid * 1e6
