"""`bench peers`: measures other stores that keep the same books, beside the engine."""

from functools import partial
from pathlib import Path
from typing import Final

import click
import uvloop

from bench.cluster import Say, Shape
from bench.commands import session
from bench.commands.session import Session, guard, shape_of, write_json
from bench.peers.base import Peer
from bench.peers.measure import PeerPlan, measure_peer
from bench.peers.postgresql import PostgreSql
from bench.peers.redis_server import BareRedis, NaiveRedis
from bench.peers.tigerbeetle import TigerBeetle
from bench.result import CIRCUMSTANCES, Document, Plan, circumstance_cells
from bench.text import table

BATCHES: Final = (1, 10, 100, 1000, 8000)
ENGINE: Final = "wallet-engine"
ENGINE_DURABILITY: Final = "answered after fdatasync of the journal; Redis itself persists nothing"
#: Batch size -> callers of the engine's HTTP door.
ENGINE_CALLERS: Final = {1: 256, 10: 64, 100: 32, 1000: 8, 8000: 2}
HEADINGS: Final = (
    *("peer", "batch", "callers", "transfers/s", "server µs", "load µs", "p50 ms", "p99 ms", "B on disk"),
    *CIRCUMSTANCES,
)


@click.command()
@session.seconds_option(5.0)
@session.warmup_option(2.0)
@session.accounts_option
@click.option(
    "--batch",
    "batches",
    type=click.Choice([str(batch) for batch in BATCHES]),
    multiple=True,
    help="Measure only this batch size. May be given again.  [default: all]",
)
@click.option(
    "--tigerbeetle",
    "tigerbeetle_binary",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="TigerBeetle's server binary. The PyPI client `tigerbeetle` must have the same version.",
)
@session.apis_option
@session.embedded_option
@session.folder_option
@session.json_option
def peers(
    seconds: float,
    warmup: float,
    accounts: int,
    batches: tuple[str, ...],
    tigerbeetle_binary: Path | None,
    apis: int,
    embedded: bool,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Measure the engine by HTTP, PostgreSQL, naive and bare Redis, and TigerBeetle, with the same uniform load.

    Each is started for this, on free ports and in a temporary folder. A peer that is not installed is reported as not
    run.
    """
    bench = Session(folder)
    wanted = tuple(map(int, batches)) or BATCHES
    documents = measure_peers(
        bench,
        PeerPlan(accounts, wanted, seconds, warmup, bench.seed()),
        folder,
        tigerbeetle_binary,
        shape_of(3, 64, apis, embedded=embedded),
    )
    write_json(json_file, documents)
    click.echo(peers_table(documents))


def measure_peers(
    bench: Session, plan: PeerPlan, folder: Path | None, tigerbeetle: Path | None, shape: Shape
) -> list[Document]:
    """The engine's rows first, then each peer's."""
    plans = [
        Plan("http", "uniform", batch, ENGINE_CALLERS[batch], plan.seconds, plan.warmup_s, bench.seed())
        for batch in plan.batches
    ]
    documents = [engine_row(document) for document in bench.measure(shape, plan.accounts, plans)]
    return documents + measure_others(bench, plan, folder, tigerbeetle)


def engine_row(document: Document) -> Document:
    """The document of an engine's run, as a row among the peers."""
    return {**document, "peer": ENGINE, "durability": ENGINE_DURABILITY}


def measure_others(
    bench: Session, plan: PeerPlan, folder: Path | None, tigerbeetle: Path | None
) -> list[Document]:
    """A row for each batch size of each peer; one row for a peer that is not installed."""
    peers: tuple[Peer, ...] = (PostgreSql(), NaiveRedis(), BareRedis(), TigerBeetle(tigerbeetle))
    return [row for peer in peers for row in guard(partial(_run, peer, plan, folder, bench.say))]


def _run(peer: Peer, plan: PeerPlan, folder: Path | None, say: Say) -> list[Document]:
    return uvloop.run(measure_peer(peer, plan, folder, say))


def cells(document: Document) -> list[str]:
    """A row of the table of peers, for the engine or another peer."""
    if "not_run" in document:
        return [f"{document['peer']}: not run", *[""] * (len(HEADINGS) - 1)]
    cpu = document["cpu_us_per_transfer"]
    server = cpu["server"] if "server" in cpu else cpu["redis"] + cpu["api"] + cpu["journal"]
    disk = document.get("bytes_on_disk_per_transfer", document.get("journal_bytes_per_transfer", 0.0))
    latency = document["latency_ms"]
    return [
        *(document["peer"], f"{document['batch']:,}", f"{document['callers']}"),
        *(f"{document['transfers_per_s']:,.0f}", f"{server:.1f}", f"{cpu['load']:.1f}"),
        *(f"{latency['p50']:.1f}", f"{latency['p99']:.1f}", f"{disk:.0f}"),
        *circumstance_cells(document),
    ]


def notes(documents: list[Document]) -> list[str]:
    """A line for each peer: its version and durability, or why it was not run."""
    said: dict[str, str] = {}
    for document in documents:
        if "not_run" in document:
            said[document["peer"]] = f"not run: {document['not_run']}"
        else:
            version = document.get("version") or f"Redis {document.get('redis_version', '')}"
            said[document["peer"]] = f"{version}; {document['durability']}"
    return [f"{peer}: {text}" for peer, text in said.items()]


def peers_table(documents: list[Document]) -> str:
    """The table of all rows, with the notes below."""
    return "\n".join([table(HEADINGS, [cells(document) for document in documents]), *notes(documents)])
