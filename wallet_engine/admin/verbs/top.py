"""`wallet-admin top`: shows live what the cluster does."""

import time
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.contents import loads_of
from wallet_engine.admin.nodes import memory_text
from wallet_engine.admin.session import (
    WATCH_S,
    WATCH_S_MAX,
    WATCH_S_MIN,
    Document,
    Session,
    admin_command,
    plain_table,
    show_table,
)
from wallet_engine.admin.survey import Survey, survey
from wallet_engine.admin.verbs.status import warnings_of
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.flags import FiniteRange


@click.command()
@admin_command
@click.option(
    "--every",
    "every_s",
    type=FiniteRange(WATCH_S_MIN, WATCH_S_MAX),
    default=WATCH_S,
    show_default=True,
    metavar="SECONDS",
    help="Time between two looks.",
)
@click.option("--once", is_flag=True, help="Look twice, show the result, and exit.")
def top(session: Session, every_s: float, once: bool) -> None:
    """Show live what every shard, node and journal copy is doing, and problems that need attention.

    Entries per second are those that the partitions of a shard wrote between two looks; an entry holds the operations
    of one call to Redis, from one transfer to hundreds. Open entries have money under way. Ctrl-C ends it.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 top
      wallet-admin --zookeeper zk1:2181 top --once --json
    """
    with session.directory() as directory:
        looker = _Looker(directory)
        if once:
            looker.look()
            time.sleep(every_s)
        session.watch(looker.look, None if once else every_s)


class _Looker:
    """Looks repeatedly, and computes rates from the difference to the look before."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._before: dict[int, int] = {}
        self._at_s = 0.0

    def look(self) -> tuple[Document, Callable[[Console], object]]:
        now_s, found = time.monotonic(), survey(self._directory)
        seqs = {p.partition: p.seq for p in found.partitions if p.seq is not None}
        rates = {
            partition: max(0, seq - self._before[partition]) / (now_s - self._at_s)
            for partition, seq in seqs.items()
            if partition in self._before
        }
        self._before, self._at_s = seqs, now_s
        document = _document(found, rates)
        return document, lambda console: _show(console, document)


def _document(found: Survey, rates: dict[int, float]) -> dict[str, Any]:
    loads = loads_of(node.address for state in found.shards for node in state.nodes if node.reachable)
    shards = []
    for state in found.shards:
        mine = [p for p in found.partitions if p.shard == state.shard.name]
        nodes = []
        for node in state.nodes:
            load = loads.get(node.address)
            nodes.append(
                {
                    "address": node.address,
                    "role": node.role if node.reachable else None,
                    "ops_per_s": None if load is None else load.ops_per_s,
                    "used_memory_bytes": node.used_memory_bytes,
                    "maxmemory_bytes": node.maxmemory_bytes,
                }
            )
        shards.append(
            {
                "name": state.shard.name,
                "live": sum(p.state == "live" for p in mine),
                "partitions": len(mine),
                "entries_per_s": round(sum(rates.get(p.partition, 0.0) for p in mine), 1) if rates else None,
                "open_entries": sum(p.open_entries or 0 for p in mine),
                "nodes": nodes,
            }
        )
    journals = [
        {"journal_id": j.info.journal_id, "lag_entries": j.lag_entries, "reachable": j.durable is not None}
        for j in found.journals
    ]
    return {
        "shards": shards,
        "journals": journals,
        "services": len(found.services),
        "warnings": warnings_of(found),
    }


def _show(console: Console, document: dict[str, Any]) -> None:
    table = plain_table("shard", "live", "entries/s", "open", "node", "role", "ops/s", "memory")
    for shard in document["shards"]:
        for node in shard["nodes"]:
            first = node is shard["nodes"][0]
            rate = "-" if shard["entries_per_s"] is None else f"{shard['entries_per_s']:,.0f}"
            mine = (
                shard["name"],
                f"{shard['live']}/{shard['partitions']}",
                rate,
                f"{shard['open_entries']:,}",
            )
            table.add_row(
                *(mine if first else ("", "", "", "")),
                node["address"],
                node["role"] or "does not answer",
                "-" if node["ops_per_s"] is None else f"{node['ops_per_s']:,}",
                _memory(node),
            )
    show_table(console, table, "ops/s", "open", "live")
    for journal in document["journals"]:
        lag = journal["lag_entries"]
        behind = (
            "does not answer"
            if not journal["reachable"]
            else "lag unknown"
            if lag is None
            else f"{lag:,} behind"
        )
        console.print(f"journal {journal['journal_id']}: {behind}")
    console.print(f"{document['services']} API processes")
    for warning in document["warnings"]:
        console.print(f"! {warning}", style="bold", soft_wrap=True)


def _memory(node: dict[str, Any]) -> str:
    used, most = node["used_memory_bytes"], node["maxmemory_bytes"]
    if used is None:
        return "-"
    return f"{memory_text(used)} ({used / most:.0%})" if most else memory_text(used)
