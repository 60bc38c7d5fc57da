"""`bench memory`: measures the memory of an account and of a remembered transfer in Redis."""

import asyncio
from pathlib import Path
from typing import Any, Final

import click

from bench.cluster import Cluster
from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.machine import commit, machine
from bench.redis_figures import key_memory, read_figures
from bench.result import Document, Plan
from bench.runner import Prepared, remembered_bytes, send_transfers
from bench.text import table

HEADINGS: Final = (
    *("accounts", "B/account", "transfers", "B/remembered", "used_memory B/account", "funding s"),
)
#: Transfers are sent in large batches through the engine: the fastest way to have them remembered.
_BATCH: Final = 1_000
_CALLERS: Final = 8


@click.command()
@click.option(
    "--accounts",
    "counts",
    type=click.IntRange(1_000, 10**8),
    multiple=True,
    default=(10**5, 10**6),
    show_default=True,
    help="Accounts of one row; may be given again.",
)
@click.option("--ten-million", is_flag=True, help="Measure a row of 10,000,000 accounts too (some minutes).")
@click.option(
    "--transfers",
    type=click.IntRange(1_000, 10**8),
    help="Transfers to be remembered.  [default: three times the accounts, 300,000 to 3,000,000]",
)
@session.embedded_option
@session.folder_option
@session.json_option
def memory(
    counts: tuple[int, ...],
    ten_million: bool,
    transfers: int | None,
    embedded: bool,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Measure the bytes per account and per remembered transfer in Redis."""
    bench = Session(folder)
    wanted = [*counts, 10**7] if ten_million else list(counts)
    documents = [measure_memory(bench, accounts, transfers, embedded=embedded) for accounts in wanted]
    write_json(json_file, documents)
    click.echo(memory_table(documents))


def measure_memory(bench: Session, accounts: int, transfers: int | None, *, embedded: bool) -> Document:
    """Measure a row: a cluster with these accounts, and transfers enough to be most of the remembered ids.

    `transfers`: None for three times the accounts, between 300,000 and 3,000,000.
    """
    count = min(max(3 * accounts, 300_000), 3_000_000) if transfers is None else transfers

    async def work(cluster: Cluster, prepared: Prepared) -> Document:
        used = (await asyncio.to_thread(read_figures, cluster)).memory_bytes
        begun = await asyncio.to_thread(key_memory, cluster)
        plan = Plan("engine", "uniform", _BATCH, _CALLERS, 0.0, 0.0, bench.seed())
        sent = await send_transfers(cluster, plan, prepared, count, bench.say)
        ended = await asyncio.to_thread(key_memory, cluster)
        remembered = remembered_bytes(begun["seen"], ended["seen"], sent)
        return {
            "name": f"memory {accounts:,} accounts",
            "accounts": accounts,
            "memory_bytes_per_account": round(prepared.bytes_per_account, 1),
            "transfers": sent,
            "memory_bytes_per_remembered_transfer": None if remembered is None else round(remembered, 1),
            "used_memory_bytes_per_account_with_funding": round(used / accounts, 1),
            "bytes_by_kind_of_key": {kind: found.bytes for kind, found in ended.items()},
            "funding_s": round(prepared.funding_s, 1),
            "conserved": True,
            "machine": machine(),
            "commit": commit(),
        }

    document: Document = bench.on_cluster(shape_of(3, 64, 1, embedded=embedded), accounts, work)
    return document


def memory_table(documents: list[dict[str, Any]]) -> str:
    """The table of all rows, with explanations below."""
    return table(HEADINGS, [cells(document) for document in documents]) + (
        "\nB/account, B/remembered: MEMORY USAGE of the keys, table and allocator included, ids and balances of the "
        "benchmark (13 characters, 10 digits);\nused_memory: all that Redis holds after funding, the memory of each "
        "account's funding included"
    )


def cells(document: Document) -> list[str]:
    """A row of the table."""
    remembered = document["memory_bytes_per_remembered_transfer"]
    return [
        f"{document['accounts']:,}",
        f"{document['memory_bytes_per_account']:.1f}",
        f"{document['transfers']:,}",
        "" if remembered is None else f"{remembered:.1f}",
        f"{document['used_memory_bytes_per_account_with_funding']:.1f}",
        f"{document['funding_s']:.1f}",
    ]
