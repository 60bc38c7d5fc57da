"""`wallet-admin status`: an overview of the cluster."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from wallet_engine.admin.diagnosis.grouping import ranges_text
from wallet_engine.admin.nodes import NodeState, memory_text
from wallet_engine.admin.session import (
    Document,
    Session,
    admin_command,
    plain_table,
    show_table,
    watch_option,
)
from wallet_engine.admin.survey import CLUSTER_DOWN, JournalState, PartitionStatus, ShardState, Survey, survey
from wallet_engine.routing.model import Versions

VERSIONS_DIFFER: Final = "processes are of several versions: an upgrade has begun and not ended"


@click.command()
@admin_command
@watch_option
def status(session: Session, watch_s: float | None) -> None:
    """Show shards, partitions, journal copies and API processes.

    Shards: every node, whether it answers, and its memory. Partitions: shard, epoch of the map, sequence number in
    Redis, and state: live (serving), recovering, moving, stopped (doctor says why), absent (Redis has no data of it;
    the journal process restores it), unreachable. Journal copies: entries behind Redis. API processes: address.
    Followers of the journal: sink, partitions, and the entries that the sink had not taken some seconds ago.

    The answer shows the present state. A part that does not answer is shown as such; the command does not fail.

    \b
    EXAMPLES
      wallet-admin --zookeeper zk1:2181 status
      wallet-admin --map-file data/map.json status --json
      wallet-admin --zookeeper zk1:2181 status --watch
    """
    with session.directory() as directory:

        def look() -> tuple[Document, Callable[[Console], object]]:
            found = survey(directory)
            return _document(found), lambda console: _show(console, found)

        session.watch(look, watch_s)


def _document(found: Survey) -> dict[str, Any]:
    return {
        "config": {
            "partitions": found.config.partitions,
            "retention_ms": found.config.retention_ms,
            "journal_quorum": found.config.journal_quorum,
        },
        "map_version": found.map_version,
        "shards": [_shard_document(state) for state in found.shards],
        "partitions": [_partition_document(status) for status in found.partitions],
        "journals": [_journal_document(state) for state in found.journals],
        "services": [
            {"service_id": info.service_id, "address": info.address, "pid": info.pid}
            | {"versions": _versions_document(info.versions)}
            for info in found.services
        ],
        "followers": [
            {"follower_id": info.follower_id, "sink": info.sink, "host": info.host, "pid": info.pid}
            | {"versions": _versions_document(info.versions)}
            for info in found.followers
        ],
        "sinks": [
            {
                "sink": sink.sink,
                "followers": {name: list(partitions) for name, partitions in sorted(sink.claimed.items())},
                "unclaimed_partitions": list(sink.unclaimed),
                "lag_entries": sink.lag_entries,
            }
            for sink in found.sinks
        ],
        "paused": found.paused or None,
        "warnings": warnings_of(found),
    }


def _shard_document(state: ShardState) -> dict[str, Any]:
    return {
        "name": state.shard.name,
        "primary": None if state.primary is None else state.primary.address,
        "reachable": state.primary is not None,
        "used_memory_bytes": None if state.primary is None else state.primary.used_memory_bytes,
        "nodes": [
            {
                "address": node.address,
                "role": node.role,
                "reachable": node.reachable,
                "error": node.trouble or None,
                "used_memory_bytes": node.used_memory_bytes,
                "maxmemory_bytes": node.maxmemory_bytes,
                "link_up": node.link_up if node.role == "replica" else None,
            }
            for node in state.nodes
        ],
    }


def _partition_document(status: PartitionStatus) -> dict[str, Any]:
    return {
        "partition": status.partition,
        "shard": status.shard,
        "epoch": status.epoch,
        "seq": status.seq,
        "state": status.state,
        "redis_epoch": status.redis_epoch,
        "open_entries": status.open_entries,
    }


def _journal_document(state: JournalState) -> dict[str, Any]:
    durable = None if state.durable is None else {str(p): seq for p, seq in sorted(state.durable.items())}
    return {
        "journal_id": state.info.journal_id,
        "address": state.info.address,
        "host": state.info.host,
        "directory": state.info.directory,
        "pid": state.info.pid,
        "reachable": state.durable is not None,
        "lag_entries": state.lag_entries,
        "silent_partitions": list(state.silent_partitions),
        "durable_seqs": durable,
        "versions": _versions_document(state.info.versions),
    }


def _versions_document(versions: Versions | None) -> dict[str, str | int] | None:
    return None if versions is None else asdict(versions)


def warnings_of(found: Survey) -> list[str]:
    """Problems that need attention, one sentence each."""
    said = [f"no new payments are taken: {found.paused}"] if found.paused else []
    for state in found.shards:
        if state.primary is None:
            said.append(f"shard {state.shard.name} has no primary that answers")
            said += [f"Redis at {node.address} {node.complaint}" for node in state.nodes if node.refuses]
    for state in found.shards:
        if state.primary is not None:
            dead = [node for node in state.nodes if not node.reachable]
            said += [f"{node.address} of shard {state.shard.name} {node.complaint}" for node in dead]
    said += [f"shard {name} {CLUSTER_DOWN}" for name in found.held_up()]
    resting = [p.partition for p in found.partitions if p.state not in ("live", "moving", "unreachable")]
    if resting:
        said.append(f"partitions not serving: {ranges_text(resting)}")
    reachable = sum(state.durable is not None for state in found.journals)
    if reachable < found.config.journal_quorum:
        said.append(
            f"{reachable} journal copies answer, {found.config.journal_quorum} are needed: "
            f"no transfer is answered until wallet-engine journal runs"
        )
    for journal in found.journals:
        if journal.durable is None:
            said.append(f"journal {journal.info.journal_id} at {journal.info.address} does not answer")
        if journal.silent_partitions:
            silent = ranges_text(list(journal.silent_partitions))
            said.append(f"journal {journal.info.journal_id} gives no receipts in partitions {silent}")
    said += found.damaged
    if len(found.by_versions()) > 1:
        said.append(f"{VERSIONS_DIFFER}: see the runbook Upgrade")
    if not found.services:
        said.append("no API process is registered: start wallet-engine serve")
    return said


def _show(console: Console, found: Survey) -> None:
    shards = plain_table("shard", "node", "role", "memory", "limit", title="Shards", title_justify="left")
    for state in found.shards:
        for node in state.nodes:
            name = state.shard.name if node is state.nodes[0] else ""
            shards.add_row(name, node.address, _role(node, state), *_memory(node))
    show_table(console, shards, "limit", "memory")

    right = ("partition", "epoch", "seq", "open")
    headings = ("partition", "shard", "epoch", "seq", "open", "state")
    partitions = plain_table(*headings, right=right, title="Partitions", title_justify="left")
    for status in found.partitions:
        numbers = ("-" if n is None else str(n) for n in (status.seq, status.open_entries))
        partitions.add_row(str(status.partition), status.shard, str(status.epoch), *numbers, _state(status))
    show_table(console, partitions, "epoch")

    journals = plain_table(
        "journal", "address", "lag", "directory", title="Journal copies", title_justify="left"
    )
    for journal in found.journals:
        lag = "does not answer" if journal.durable is None else _lag(journal)
        where = f"{journal.info.host}:{journal.info.directory}"
        journals.add_row(journal.info.journal_id, journal.info.address, lag, where)
    console.print(journals)

    services = plain_table("API process", "address", "pid", title="API processes", title_justify="left")
    for info in found.services:
        services.add_row(info.service_id, info.address, str(info.pid))
    console.print(services)
    if found.sinks:
        console.print(_sinks_table(found))
    for versions, processes in found.by_versions().items():
        console.print(f"{versions or 'of an older version'}: {', '.join(processes)}")
    for warning in warnings_of(found):
        console.print(f"! {warning}", style="bold")


def _sinks_table(found: Survey) -> Table:
    table = plain_table(
        "sink", "follower", "partitions", "lag", title="Followers of the journal", title_justify="left"
    )
    for sink in found.sinks:
        lag = "unknown" if sink.lag_entries is None else _entries(sink.lag_entries)
        rows = [(name, ranges_text(list(of)) or "none") for name, of in sorted(sink.claimed.items())]
        if sink.unclaimed:
            rows.append(("nobody", ranges_text(list(sink.unclaimed))))
        for number, (name, partitions) in enumerate(rows):
            table.add_row(*((sink.sink, name, partitions, lag) if not number else ("", name, partitions, "")))
    return table


def _role(node: NodeState, state: ShardState) -> str:
    if not node.reachable:
        return "does not answer"
    if node.role == "replica":
        return "replica" if node.link_up else "replica, link down"
    return "primary" if node is state.primary else "primary of nothing"


def _memory(node: NodeState) -> tuple[str, str]:
    limit = memory_text(node.maxmemory_bytes) if node.maxmemory_bytes else "-"
    return memory_text(node.used_memory_bytes), limit


def _state(status: PartitionStatus) -> str:
    if status.redis_epoch is not None and status.redis_epoch != status.epoch and status.state == "live":
        return f"live under epoch {status.redis_epoch}"
    return status.state


def _lag(journal: JournalState) -> str:
    if journal.lag_entries is None:
        return "unknown"
    return _entries(journal.lag_entries)


def _entries(number: int) -> str:
    return f"{number:,} entries" if number else "none"
