"""`wallet-engine journal`: one journal copy. Drains every shard to disk, publishes receipts, recovers shards."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from prometheus_client import start_http_server

from wallet_engine.app.archiver import Archiver
from wallet_engine.app.running import check_listening, check_nodes, directory_options, run
from wallet_engine.app.snapshots import SnapshotSchedule
from wallet_engine.domain.errors import ConfigError, WalletError
from wallet_engine.engine.drain import GroupCommit
from wallet_engine.journal.receipts_server import ReceiptServer
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.keeper import ShardKeeper
from wallet_engine.routing.access import read_credentials
from wallet_engine.routing.directory import Directory, on_loop, open_directory
from wallet_engine.routing.model import JournalInfo, PartitionMap, Shard
from wallet_engine.telemetry.flags import journal_disk_options
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

log = get_logger(__name__)


@click.command()
@directory_options
@click.option(
    "--directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of this copy's segment files; the only thing that must never be lost.",
)
@click.option(
    "--journal-id", default="j1", show_default=True, help="Name of this copy; stays with its folder."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for receipts.")
@click.option("--port", default=0, show_default=True, help="Port for receipts; 0 takes a free one.")
@click.option("--metrics-port", type=int, help="Port for Prometheus metrics.  [default: none]")
@journal_disk_options
def journal(
    zookeeper: str | None,
    map_file: Path | None,
    zookeeper_user: str | None,
    zookeeper_password_file: Path | None,
    log_level: str,
    directory: Path,
    journal_id: str,
    host: str,
    port: int,
    metrics_port: int | None,
    archive_command: str | None,
    segment_bytes: int,
    snapshot_bytes: int,
) -> None:
    """Run one journal copy: what it has on disk is what happened."""
    check_listening(host, port)
    credentials = read_credentials(zookeeper_user, zookeeper_password_file)

    async def main(stop: asyncio.Event) -> None:
        tree = await asyncio.to_thread(open_directory, zookeeper, map_file, credentials=credentials)
        try:
            await asyncio.to_thread(tree.config)
            await asyncio.to_thread(check_nodes, tree)
            metrics = Metrics()
            open_writer = partial(JournalWriter, directory, journal_id, segment_bytes_max=segment_bytes)
            writer = await asyncio.to_thread(open_writer)
            try:
                await asyncio.to_thread(_check_copy, tree, writer)
                if metrics_port is not None:
                    start_http_server(metrics_port, host, metrics.registry)
                beside: list[Archiver | SnapshotSchedule] = []
                if archive_command:
                    beside.append(Archiver(directory, archive_command, metrics))
                if snapshot_bytes:
                    beside.append(SnapshotSchedule(directory, snapshot_bytes, metrics))
                async with _beside(beside):
                    await _keep(tree, writer, metrics, host, port, stop)
            finally:
                writer.close()
        finally:
            await asyncio.to_thread(tree.close)

    run(main, log_level)


@asynccontextmanager
async def _beside(workers: Iterable[Archiver | SnapshotSchedule]) -> AsyncIterator[None]:
    """Run what may fail without stopping payments; the log then says so."""

    async def watched(worker: Archiver | SnapshotSchedule) -> None:
        try:
            await worker.run()
        except (WalletError, OSError) as error:
            log.error("stopped until the journal is started again", worker=repr(worker), error=str(error))

    tasks = [asyncio.create_task(watched(worker)) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _check_copy(tree: Directory, writer: JournalWriter) -> None:
    """Refuse to be the truth when another copy is, or when this one has lost what it had. Raises `ConfigError`."""
    in_use = tree.copies_in_use() | tree.journals().keys()
    others = ", ".join(sorted(in_use - {writer.journal_id}))
    if others:
        raise ConfigError(
            f"journal copy {others} holds this cluster's entries, and a second copy is not supported yet: "
            f"start it with --journal-id {others} and its own --directory"
        )
    if writer.journal_id in in_use and not writer.positions():
        raise ConfigError(
            f"journal copy {writer.journal_id} has had entries, but {writer.directory} holds none: "
            f"give the --directory it was started with, or restore it; nothing was changed"
        )


async def _keep(
    tree: Directory, writer: JournalWriter, metrics: Metrics, host: str, port: int, stop: asyncio.Event
) -> None:
    """Serve receipts and keep every shard of the map until `stop` or until the disk fails."""
    keepers: dict[str, ShardKeeper] = {}

    def recover(shard: str, reason: str) -> None:
        log.warning("recovery asked for", shard=shard, reason=reason)
        if shard in keepers:
            keepers[shard].check()

    def written(partitions: list[int]) -> None:
        for keeper in keepers.values():
            keeper.written(partitions)

    server = ReceiptServer(writer, recover, written)
    commit = GroupCommit(writer, server, metrics)
    address = "{}:{}".format(*await server.start(host, port))
    info = JournalInfo(
        writer.journal_id, address, str(writer.directory.resolve()), os.getpid(), socket.gethostname()
    )
    await asyncio.to_thread(tree.register_journal, info)
    log.info("journal open", journal=writer.journal_id, directory=str(writer.directory), receipts=address)

    tasks: dict[str, asyncio.Task[None]] = {}

    latest_map: PartitionMap | None = None

    def shards_changed(shards: dict[str, Shard]) -> None:
        for shard in sorted(shards.keys() - keepers.keys()):
            keepers[shard] = keeper = ShardKeeper(shard, tree, writer, commit)
            if latest_map is not None:
                keeper.map_changed(latest_map)
            tasks[shard] = asyncio.create_task(keeper.run(), name=f"keeper-{shard}")
        mapped = set() if latest_map is None else {entry.shard for entry in latest_map.partitions}
        for shard in sorted(keepers.keys() - shards.keys() - mapped):
            del keepers[shard]
            tasks.pop(shard).cancel()

    def map_changed(partition_map: PartitionMap) -> None:
        nonlocal latest_map
        latest_map = partition_map
        for keeper in keepers.values():
            keeper.map_changed(partition_map)

    loop = asyncio.get_running_loop()
    unwatch_map = await asyncio.to_thread(tree.watch_map, on_loop(loop, map_changed))
    unwatch_shards = await asyncio.to_thread(tree.watch_shards, on_loop(loop, shards_changed))
    stopping = asyncio.create_task(stop.wait())
    noted = False
    try:
        while not stopping.done() and not commit.failed.done():
            waiting: list[asyncio.Future[Any]] = [stopping, commit.failed, *tasks.values()]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=1.0)
            if not noted and writer.positions():
                await asyncio.to_thread(tree.note_copy_in_use, writer.journal_id)
                noted = True
            for task in [task for task in tasks.values() if task.done()]:
                task.result()  # a keeper never returns: this raises its bug
        if commit.failed.done():
            commit.failed.result()
    finally:
        unwatch_shards()
        unwatch_map()
        stopping.cancel()
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await server.close()
        log.info("journal closed", journal=writer.journal_id)
