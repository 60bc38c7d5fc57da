"""`wallet-engine journal`: one journal copy. It drains every shard to disk, gives receipts, and recovers shards."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import click

from wallet_engine.app.archiver import Archiver
from wallet_engine.app.certificates import (
    METRICS_PORT_HELP,
    expose_metrics,
    peers_identify_themselves,
    watch_certificates,
)
from wallet_engine.app.copy_process import CopyProcess
from wallet_engine.app.disk_watch import DiskWatch
from wallet_engine.app.listening import Listening, advertise_option
from wallet_engine.app.running import (
    check_closed_door,
    check_nodes,
    directory_options,
    id_of,
    insecure_option,
    run,
)
from wallet_engine.app.snapshots import SnapshotSchedule
from wallet_engine.app.stall_watch import StallWatch
from wallet_engine.app.troubles import Troubles
from wallet_engine.domain.errors import ConfigError, WalletError, WrongUsage, text_of
from wallet_engine.domain.principals import PeerRole
from wallet_engine.journal.copy import JournalCopy
from wallet_engine.journal.peer_tls import peer_tls
from wallet_engine.journal.restore import RESTORED_NAME, Restorer
from wallet_engine.journal.segments import restore_by
from wallet_engine.journal.snapshots import check_known
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.recovery.join import check_may_join
from wallet_engine.recovery.pruning import parse_keep
from wallet_engine.routing.access import read_credentials
from wallet_engine.routing.directory import open_directory
from wallet_engine.telemetry.flags import PORT, journal_disk_options
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

#: How long the process may take to end; it first gives up a running archive command and snapshot.
STOP_S_MAX: Final = 8.0

#: Tasks that run beside the journal, and may fail without stopping payments.
#: Pause after a worker beside payments has failed.
WORKER_RETRY_S: Final = 60.0

Worker = Archiver | SnapshotSchedule | DiskWatch | StallWatch

log = get_logger(__name__)


@click.command()
@partial(directory_options, role=PeerRole.JOURNAL)
@click.option(
    "--directory",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Directory of this copy's segment files; it must never be lost.",
)
@click.option(
    "--journal-id", default="j1", show_default=True, help="Name of this copy; stays with its directory."
)
@click.option(
    "--replaces",
    metavar="ID",
    help="Replace this copy, whose disk is lost, after catching up from the others.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for services and other copies.")
@advertise_option
@click.option(
    "--port", type=PORT, default=0, show_default=True, help="Port for receipts; 0 takes a free one."
)
@click.option("--metrics-port", type=PORT, help=METRICS_PORT_HELP)
@journal_disk_options
@insecure_option
def journal(
    zookeeper: str | None,
    map_file: Path | None,
    zookeeper_user: str | None,
    zookeeper_password_file: Path | None,
    log_level: str,
    directory: Path,
    journal_id: str,
    replaces: str | None,
    host: str,
    advertise: str | None,
    port: int,
    metrics_port: int | None,
    archive_command: str | None,
    restore_command: str | None,
    keep: str | None,
    segment_bytes: int,
    snapshot_bytes: int,
    insecure: bool,
) -> None:
    """Run one journal copy: entries on the disks of a quorum of copies are durable.

    The first copy of a cluster starts with the content of its directory. Each further one, with another --journal-id,
    catches up from the existing copies, and counts from then on. A copy that returns does the same.
    """
    for flag, name in (("--journal-id", journal_id), ("--replaces", replaces)):
        id_of(name, flag, "journal")
    listening = Listening.checked(host, port, advertise)
    credentials = read_credentials(zookeeper_user, zookeeper_password_file)
    kept = parse_keep(keep) if keep else None
    if kept is not None and not archive_command:
        raise WrongUsage("--keep removes only what is archived: give --archive-command too")
    _check_holder(journal_id)

    async def main(stop: asyncio.Event) -> None:
        closing = f"give --peer-ca, --peer-cert and --peer-key (wallet-admin ca issue journal {journal_id})"
        check_closed_door(listening.host, closing, closed=peers_identify_themselves(), insecure=insecure)
        tree = await asyncio.to_thread(open_directory, zookeeper, map_file, credentials=credentials)
        try:
            await asyncio.to_thread(tree.config)
            await asyncio.to_thread(check_nodes, tree)
            metrics = Metrics()
            watch_certificates(metrics)
            troubles = Troubles()
            restorer = restorer_of(restore_command, directory, troubles)
            open_writer = partial(JournalWriter, directory, journal_id, segment_bytes_max=segment_bytes)
            writer = await asyncio.to_thread(open_writer)
            try:
                await asyncio.to_thread(check_known, directory)
                await asyncio.to_thread(check_may_join, tree, JournalCopy(writer), replaces)
                if metrics_port is not None:
                    expose_metrics(metrics, listening.host, metrics_port)
                beside: dict[str, Worker] = {
                    "disk": DiskWatch(directory, troubles.teller("disk")),
                    "stall": StallWatch(metrics),
                }
                if archive_command:
                    tell = troubles.teller("archive")
                    beside["archive"] = Archiver(directory, archive_command, metrics, tell)
                if snapshot_bytes:
                    tell = troubles.teller("snapshots")
                    beside["snapshots"] = SnapshotSchedule(
                        directory, snapshot_bytes, metrics, tell, restore_command
                    )
                async with _beside(beside, troubles):
                    copy = CopyProcess(tree, writer, metrics, troubles, keep=kept)
                    await copy.run(listening, stop, replaces, insecure=insecure)
            finally:
                if restorer is not None:
                    restorer.close()
                writer.close()
        finally:
            await asyncio.to_thread(tree.close)

    run(main, log_level, STOP_S_MAX)


def restorer_of(command: str | None, journal: Path, troubles: Troubles) -> Restorer | None:
    """The function that restores archived segments of this journal, in any thread. Raises `ConfigError`."""
    if not command:
        restore_by(None)
        return None
    loop, tell = asyncio.get_running_loop(), troubles.teller("restore")

    def tell_from_thread(why: str) -> None:
        loop.call_soon_threadsafe(tell, why)

    def restored(name: str) -> None:
        log.info("segment restored", name=name)

    restorer = Restorer(command, journal.resolve() / RESTORED_NAME, tell_from_thread, restored)
    restore_by(restorer.restore)
    return restorer


def _check_holder(journal_id: str) -> None:
    """Raises `ConfigError` for the certificate of another copy: no other process would accept it."""
    tls = peer_tls()
    if tls is not None and (holder := tls.principal()).id != journal_id:
        raise ConfigError(f"--peer-cert is for {holder}, and this is --journal-id {journal_id}")


@asynccontextmanager
async def _beside(workers: Mapping[str, Worker], troubles: Troubles) -> AsyncIterator[None]:
    """Run workers whose failure must not stop payments. It is logged and reported in `troubles`, and they run again."""

    async def watched(name: str, worker: Worker) -> None:
        tell = troubles.teller(name)
        while True:
            try:
                await worker.run()
            except Exception as error:
                unforeseen = not isinstance(error, WalletError | OSError)
                log.error(
                    "a worker beside payments failed",
                    worker=repr(worker),
                    error=text_of(error),
                    again_in_s=WORKER_RETRY_S,
                    exc_info=error if unforeseen else None,
                )
                tell(f"{name}: failed, and is tried again every {WORKER_RETRY_S:g} s: {text_of(error)}")
            await asyncio.sleep(WORKER_RETRY_S)
            tell("")

    tasks = [asyncio.create_task(watched(name, worker)) for name, worker in workers.items()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
