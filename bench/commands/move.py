"""`bench move`: measures payments while partitions move, and while `redis-cli --cluster reshard` moves a slot."""

import json
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click
import uvloop

from bench.cluster import Cluster, ClusterFailed, Shape
from bench.commands.session import Session, apis_option, folder_option, guard, json_option, partitions_option
from bench.funding import engine_of
from bench.moving import (
    PAYERS,
    Payments,
    Phase,
    names_in,
    names_outside,
    open_accounts,
    phase,
    redis_nodes,
    take,
)
from bench.text import table
from bench.workload import CURRENCY
from wallet_engine.dev.binaries import system_redis
from wallet_engine.dev.ports import free_port
from wallet_engine.dev.redis_node import RedisNode
from wallet_engine.redis_store.topology import find_primary

#: The moved partition. Its first slot is the first slot of its shard, and `reshard` moves that one.
PARTITION: Final = 0
QUIET_S: Final = 5.0
#: How long payments are watched after the reshard.
AFTER_RESHARD_S: Final = 10.0
COMMAND_S_MAX: Final = 300.0


@click.command()
@click.option(
    "--accounts",
    type=click.IntRange(1000, 10**6),
    default=100_000,
    show_default=True,
    help="Accounts in the moved partition.",
)
@click.option(
    "--rate", type=click.FloatRange(min=10), default=400.0, show_default=True, help="Transfers per second."
)
@click.option("--shards", type=click.IntRange(2, 16), default=3, show_default=True, help="Redis primaries.")
@partitions_option(2)
@apis_option
@folder_option
@json_option
def move(
    accounts: int,
    rate: float,
    shards: int,
    partitions: int,
    apis: int,
    folder: Path | None,
    json_file: Path | None,
) -> None:
    """Measure payments while a partition moves, a shard is drained, one is added, and all is rebalanced.

    At the end redis-cli reshards one slot, for comparison.

    Needs the system's redis-server, redis-cli and ZooKeeper.
    """
    session = Session(folder)

    def work() -> list[Phase]:
        with Cluster(Shape(shards, partitions, apis, False), session.say, folder=folder) as cluster:
            return uvloop.run(_measure(session, cluster, accounts, rate))

    phases: list[Phase] = guard(work)
    documents = [one.document() for one in phases]
    if json_file is not None:
        json_file.write_text(json.dumps(documents, indent=2) + "\n", "utf-8")
    click.echo(_table(documents))


async def _measure(session: Session, cluster: Cluster, accounts: int, rate: float) -> list[Phase]:
    partitions = cluster.shape.partitions
    ours = take(names_in(PARTITION, partitions), accounts)
    others = take(names_outside(PARTITION, partitions), PAYERS)
    session.say(f"opening {accounts:,} accounts in partition {PARTITION}")
    async with engine_of(cluster) as (engine, _):
        await open_accounts(engine, [*ours, *others])
    address = cluster.api_addresses[0]
    _fund(address, [*ours[:PAYERS], *others])
    source = _shard_of(cluster, PARTITION)
    names = [f"s{number + 1}" for number in range(cluster.shape.shards)]
    target = next(name for name in names if name != source)
    payments = Payments(address, rate, ours[:PAYERS], others)
    newcomer = RedisNode(system_redis(), "new", "new-1", cluster.root / "new-1", free_port(redis=True))
    await payments.start()
    phases = []

    async def watch(name: str, work: Any) -> None:
        phases.append(await phase(name, payments, redis_nodes(cluster), work))
        session.say(f"{name}: {len(phases[-1].answers)} requests, {phases[-1].failed} failed")

    def quiet() -> dict[str, Any]:
        time.sleep(QUIET_S)
        return {}

    try:
        await watch("before", quiet)
        await watch(f"move {PARTITION} {target}", lambda: _admin(cluster, "move", str(PARTITION), target))
        await watch("after", quiet)
        await watch(f"drain {names[-1]}", lambda: _admin(cluster, "drain", names[-1]))
        newcomer.start_and_wait()
        await watch("add-shard new", lambda: _admin(cluster, "add-shard", "new", newcomer.address))
        await watch("rebalance", lambda: _admin(cluster, "rebalance"))
        await watch("verify", lambda: _verify(cluster))
        await watch("redis-cli reshard", lambda: _reshard(cluster))
    finally:
        await payments.stop()
        newcomer.kill()
    return phases


def _admin(cluster: Cluster, *words: str) -> dict[str, Any]:
    document = _run(cluster, "--json", "--yes", *words)
    moved = document.get("moved", [])
    return {"moved": len(moved), "freeze_ms_max": max((one["freeze_ms"] for one in moved), default=None)}


def _verify(cluster: Cluster) -> dict[str, Any]:
    return {"verify_ok": _run(cluster, "--json", "verify")["ok"]}


def _run(cluster: Cluster, *words: str) -> dict[str, Any]:
    command = str(Path(sys.executable).with_name("wallet-admin"))
    argv = [command, "--zookeeper", cluster.state.zookeeper or "", *words]
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=COMMAND_S_MAX, check=False)
    if done.returncode:
        raise ClusterFailed(f"{' '.join(words)}: {done.stderr.strip()}")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _reshard(cluster: Cluster) -> dict[str, Any]:
    """Move one slot of the partition with Redis's own tool, which does not know the partition map."""
    with closing(cluster.open_directory()) as directory:
        shards = directory.shards()
        source = directory.partition_map().shard_of(PARTITION)
    nodes = {name: find_primary(shard.nodes) for name, shard in shards.items()}
    giver = nodes[source]
    taker = next(node for name, node in nodes.items() if name != source and node is not None)
    if giver is None:
        raise ClusterFailed(f"shard {source} has no primary")
    argv = ["redis-cli", "--cluster", "reshard", giver.address, "--cluster-from", giver.node_id]
    argv += ["--cluster-to", taker.node_id, "--cluster-slots", "1", "--cluster-yes"]
    began_s = time.perf_counter()
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", timeout=COMMAND_S_MAX, check=False)
    seconds = time.perf_counter() - began_s
    time.sleep(AFTER_RESHARD_S)
    return {"exit_status": done.returncode, "command_seconds": round(seconds, 2)}


def _fund(address: str, names: list[str]) -> None:
    transfers = [
        {
            "from_account": "@bank",
            "to_account": name,
            "amount": "1000.00",
            "currency": CURRENCY,
            "transaction_id": str(uuid.uuid4()),
        }
        for name in names
    ]
    body = json.dumps({"transfers": transfers}).encode()
    request = urllib.request.Request(f"http://{address}/v1/transfers/batch", body)
    with urllib.request.urlopen(request, timeout=60) as reply:
        results = json.load(reply)["results"]
    if {result["status"] for result in results} != {"success"}:
        raise ClusterFailed("the payers could not be funded")


def _shard_of(cluster: Cluster, partition: int) -> str:
    with closing(cluster.open_directory()) as directory:
        return directory.partition_map().shard_of(partition)


def _table(documents: list[dict[str, Any]]) -> str:
    headings = ("phase", "s", "requests", "failed", "p50 ms", "p99", "worst", "its p99", "worst", "pause ms")
    rows = []
    for document in documents:
        every, its = document["latency_ms"], document["its_latency_ms"]
        figures = (every["p50"], every["p99"], every["max"], its["p99"], its["max"], document["its_pause_ms"])
        counts = (f"{document['seconds']:.1f}", str(document["requests"]), str(document["failed"]))
        slowest, command = max(document["slowest_command"].values(), default=(0.0, ""))
        freeze = document.get("freeze_ms_max")
        tail = (f"{slowest:.1f}", "" if freeze is None else f"{freeze:.0f}", command)
        rows.append((document["phase"], *counts, *(f"{figure:.1f}" for figure in figures), *tail))
    return table((*headings, "longest command ms", "longest freeze ms", "that command"), rows)
