"""`bench small`: measures, in turns, small requests beside PostgreSQL's, and several journal copies beside one."""

from pathlib import Path
from typing import Any, Final

import click

from bench.cluster import Cluster
from bench.commands import session
from bench.commands.peers import ENGINE_CALLERS, engine_row
from bench.commands.session import Session, shape_of, write_json
from bench.peers.base import PeerMissing
from bench.peers.measure import PeerPlan, running
from bench.peers.postgresql import PostgreSql
from bench.result import Document, Plan
from bench.runner import Prepared
from bench.runs import in_turns, summarise
from bench.small import HEADINGS, TIMES_POSTGRESQL, ratios_of
from bench.text import table

#: Batch sizes that are measured with several journal copies.
COPIES_BATCHES: Final = (1, 1000)
JOURNAL_COPIES: Final = 3


@click.command()
@session.seconds_option(4.0)
@session.warmup_option(2.0)
@session.runs_option(3)
@session.accounts_option
@session.folder_option
@session.json_option
def small(
    seconds: float, warmup: float, runs: int, accounts: int, folder: Path | None, json_file: Path | None
) -> None:
    """Measure the ratios of the report's table of small requests: about 7 minutes.

    A row and the one it is compared with are measured one right after the other, so that a slow minute of the machine
    changes both. The ratio of each turn counts, and of these the median.
    """
    bench = Session(folder)
    plan = PeerPlan(accounts, tuple(TIMES_POSTGRESQL), seconds, warmup, bench.seed())
    document = measure_small(bench, plan, runs, folder)
    write_json(json_file, {"small": document})
    click.echo(table(HEADINGS, [aim.cells() for aim in ratios_of(document)]))


def measure_small(bench: Session, plan: PeerPlan, runs: int, folder: Path | None) -> dict[str, Any]:
    """`postgresql`: a pair of rows for each batch size, the engine's and PostgreSQL's; none if it is not installed.

    `copies`: pairs of the engine's rows, with one journal copy and with several.
    """
    return {
        "postgresql": _beside_postgresql(bench, plan, runs, folder),
        "copies": _with_copies(bench, plan, runs),
    }


def _plan(bench: Session, plan: PeerPlan, batch: int) -> Plan:
    return Plan("http", "uniform", batch, ENGINE_CALLERS[batch], plan.seconds, plan.warmup_s, bench.seed())


def _beside_postgresql(
    bench: Session, plan: PeerPlan, runs: int, folder: Path | None
) -> list[tuple[Document, Document]]:
    async def work(cluster: Cluster, prepared: Prepared) -> list[Document]:
        async with running(PostgreSql(), plan, folder, bench.say) as peer_row:

            async def turn(row: tuple[bool, int], _: int) -> Document:
                ours, batch = row
                if ours:
                    return engine_row(await bench.measure_on(cluster, prepared, _plan(bench, plan, batch)))
                return await peer_row(batch)

            rows = [(ours, batch) for batch in plan.batches for ours in (True, False)]
            return await in_turns(turn, rows, runs)

    try:
        rows = renamed(bench.on_cluster(shape_of(3, 64, 1, embedded=False), plan.accounts, work), "in turns")
    except PeerMissing as error:
        bench.say(f"not compared: {error}")
        return []
    return list(zip(rows[::2], rows[1::2], strict=True))


def _with_copies(bench: Session, plan: PeerPlan, runs: int) -> list[tuple[Document, Document]]:
    """Each run has a new cluster: two at a time would have four idle journal copies beside the one measured."""
    plans = [_plan(bench, plan, batch) for batch in COPIES_BATCHES]
    numbers = (1, JOURNAL_COPIES)
    found: dict[int, list[list[Document]]] = {journals: [] for journals in numbers}
    for turn in range(runs):
        for journals in numbers[:: -1 if turn % 2 else 1]:
            shape = shape_of(3, 64, 1, embedded=False, journals=journals)
            found[journals].append(bench.measure(shape, plan.accounts, plans))
    alone, copies = ([summarise(row) for row in zip(*found[journals], strict=True)] for journals in numbers)
    names = ("one journal copy", f"{JOURNAL_COPIES} journal copies")
    return list(zip(renamed(alone, names[0]), renamed(copies, names[1]), strict=True))


def renamed(documents: list[Document], prefix: str) -> list[Document]:
    """The same rows under names of their own, for `bench compare`."""
    return [{**document, "name": f"{prefix}, {document['name']}"} for document in documents]
