"""`bench rebuild`: measures how long a cluster whose Redis lost everything needs to serve again.

Without snapshots, and with them.
"""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

import click
from redis.exceptions import RedisError

from bench.cluster import Cluster, ClusterFailed
from bench.commands import session
from bench.commands.session import Session, shape_of, write_json
from bench.machine import commit, machine
from bench.measure import Moment, usage
from bench.result import Document
from bench.runner import Prepared
from bench.text import table
from wallet_engine.journal.snapshots import snapshots_directory
from wallet_engine.recovery.snapshotting import make_snapshots

SERVING_S_MAX: Final = 900.0
_POLL_S: Final = 0.05
HEADINGS: Final = (
    "from",
    "accounts",
    "operations",
    "seconds until serving",
    "steal %",
    "core speed",
    "journal CPU s",
    "load",
)


@click.command()
@click.option(
    "--accounts", type=click.IntRange(1_000, 10**8), default=10**6, show_default=True, help="Accounts."
)
@session.embedded_option
@session.folder_option
@session.json_option
def rebuild(accounts: int, embedded: bool, folder: Path | None, json_file: Path | None) -> None:
    """Kill all Redis nodes at once, and measure the time until every partition is live again.

    Each account has two operations in the journal: it is opened and funded. The first rebuild replays them all; then
    snapshots are made, and the second rebuild loads these. The times include the start of the nodes.
    """
    bench = Session(folder)

    async def work(cluster: Cluster, prepared: Prepared) -> list[Document]:
        rows = [await asyncio.to_thread(_lose_and_wait, bench, cluster, prepared, "the journal")]
        bench.say("making snapshots")
        began_s = time.monotonic()
        journal = cluster.data_dir / "journal"
        made = await asyncio.to_thread(make_snapshots, journal)
        if made.broken or made.refused:
            raise ClusterFailed(f"snapshots could not be made: {made}")
        size = sum(path.stat().st_size for path in snapshots_directory(journal).iterdir())
        taken_s = time.monotonic() - began_s
        rows.append(await asyncio.to_thread(_lose_and_wait, bench, cluster, prepared, "snapshots"))
        rows[-1] |= {
            "making_s": round(taken_s, 1),
            "snapshot_bytes": size,
            "journal_bytes": cluster.journal_bytes(),
        }
        return rows

    rows: list[Document] = bench.on_cluster(shape_of(3, 64, 1, embedded=embedded), accounts, work)
    write_json(json_file, rows)
    made = rows[-1]
    cells = [
        [f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in _COLUMNS]
        for row in rows
    ]
    click.echo(
        table(HEADINGS, cells)
        + f"\nmaking the snapshots took {made['making_s']} s and {made['snapshot_bytes']:,} bytes; "
        f"the journal has {made['journal_bytes']:,}"
    )


_COLUMNS: Final = (
    *("from", "accounts", "operations", "serving_s"),
    *("steal", "core_speed", "journal_cpu_s", "load_average"),
)


def _lose_and_wait(bench: Session, cluster: Cluster, prepared: Prepared, source: str) -> Document:
    before = _stand(cluster)
    bench.say(f"killing all Redis nodes; rebuilding from {source}")
    lasting = {role: pids for role, pids in cluster.pids().items() if role in ("journal", "api")}
    at_first, began_s = Moment.now(), time.monotonic()
    for process in cluster.state.processes:
        if process.role == "redis":
            os.kill(process.pid, signal.SIGKILL)
    while not _serving_again(cluster, before):
        if time.monotonic() - began_s > SERVING_S_MAX:
            raise ClusterFailed(f"not all partitions are live after {SERVING_S_MAX:.0f} s")
        time.sleep(_POLL_S)
    seconds = time.monotonic() - began_s
    spent = usage(at_first, Moment.now(), lasting)
    return {
        "from": source,
        "accounts": prepared.accounts,
        "operations": 2 * prepared.accounts,
        "serving_s": round(seconds, 1),
        "steal": spent.steal_percent,
        "journal_cpu_s": round(spent.cpu_s["journal"], 1),
        "core_speed": spent.core_speed,
        "load_average": spent.load_average,
        "machine": machine(),
        "commit": commit(),
    }


def _stand(cluster: Cluster) -> dict[int, tuple[int, int]]:
    """Partition -> (seq, epoch); only live partitions."""
    found = {}
    with cluster.places() as places:
        for place in places:
            state, seq, epoch = place.client.hmget(place.keys.meta, ["state", "seq", "epoch"])
            if state == "live":
                found[place.partition] = (int(seq or 0), int(epoch or 0))
    return found


def _serving_again(cluster: Cluster, before: dict[int, tuple[int, int]]) -> bool:
    """Whether every partition is live again under a new epoch.

    Raises `ClusterFailed` when a partition has fewer entries than before.
    """
    try:
        now: dict[int, Any] = _stand(cluster)
    except (RedisError, OSError, ClusterFailed):
        return False
    if now.keys() != before.keys() or any(now[p][1] <= before[p][1] for p in before):
        return False
    if any(now[p][0] < before[p][0] for p in before):
        raise ClusterFailed(f"entries are missing after the rebuild: {before} became {now}")
    return True
