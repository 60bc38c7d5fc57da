"""`wallet-admin shards`: lists shards and nodes with role, memory, load and replication lag."""

from collections.abc import Callable, Mapping
from typing import Any

import click
from rich.console import Console

from wallet_engine.admin.contents import NodeLoad, contents_of, loads_of
from wallet_engine.admin.nodes import NodeState, memory_text
from wallet_engine.admin.session import (
    Document,
    Session,
    admin_command,
    plain_table,
    show_table,
    watch_option,
)
from wallet_engine.admin.survey import ShardState, survey
from wallet_engine.routing.directory import Directory


@click.command()
@admin_command
@watch_option
def shards(session: Session, watch_s: float | None) -> None:
    """Show every shard and its nodes: role, memory, operations per second, replication lag.

    `balances` counts pairs of account and currency in the shard's partitions. The lag of a replica is the number of
    bytes of its primary's changes that it does not have yet.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 shards
      wallet-admin --zookeeper zk1:2181 shards --json
    """
    with session.directory() as directory:

        def look() -> tuple[Document, Callable[[Console], object]]:
            documents = shard_documents(directory)
            return {"shards": documents}, lambda console: _show(console, documents)

        session.watch(look, watch_s)


def shard_documents(directory: Directory) -> list[dict[str, Any]]:
    """Every shard with its nodes, for `--json`."""
    found, partition_map = survey(directory), directory.partition_map()
    contents = contents_of(found)
    loads = loads_of(node.address for state in found.shards for node in state.nodes if node.reachable)
    documents = []
    for state in found.shards:
        mine = partition_map.partitions_of(state.shard.name)
        known = [contents[partition].balances for partition in mine if partition in contents]
        documents.append(
            {
                "name": state.shard.name,
                "partitions": len(mine),
                "balances": sum(known) if len(known) == len(mine) else None,
                "nodes": [_node(node, state, loads) for node in state.nodes],
            }
        )
    return documents


def _node(node: NodeState, state: ShardState, loads: Mapping[str, NodeLoad]) -> dict[str, Any]:
    load = loads.get(node.address)
    primary = None if state.primary is None else loads.get(state.primary.address)
    lag = None if load is None or primary is None else max(0, primary.repl_offset - load.repl_offset)
    return {
        "address": node.address,
        "role": node.role,
        "reachable": node.reachable,
        "used_memory_bytes": node.used_memory_bytes,
        "maxmemory_bytes": node.maxmemory_bytes,
        "ops_per_s": None if load is None else load.ops_per_s,
        "clients": None if load is None else load.clients,
        "lag_bytes": lag,
    }


def _show(console: Console, documents: list[dict[str, Any]]) -> None:
    table = plain_table(
        "shard", "node", "role", "memory", "limit", "ops/s", "clients", "lag", "partitions", "balances"
    )
    for shard in documents:
        for node in shard["nodes"]:
            first = node is shard["nodes"][0]
            balances = "-" if shard["balances"] is None else f"{shard['balances']:,}"
            table.add_row(
                shard["name"] if first else "",
                node["address"],
                node["role"] or "does not answer",
                memory_text(node["used_memory_bytes"]),
                memory_text(node["maxmemory_bytes"]) if node["maxmemory_bytes"] else "-",
                *(
                    "-" if node[name] is None else f"{node[name]:,}"
                    for name in ("ops_per_s", "clients", "lag_bytes")
                ),
                str(shard["partitions"]) if first else "",
                balances if first else "",
            )
    show_table(console, table, "clients", "balances", "limit", "partitions", "ops/s")
