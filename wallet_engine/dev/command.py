"""The command `wallet-engine dev`."""

import os
from collections.abc import MutableMapping
from pathlib import Path

import click

from wallet_engine.dev.beginning import DevOptions
from wallet_engine.dev.layout import (
    JOURNALS_DEFAULT,
    PARTITIONS_DEFAULT,
    REPLICAS_DEFAULT,
    SHARDS_DEFAULT,
    Wishes,
)
from wallet_engine.dev.process import preempt_others, share_cores
from wallet_engine.dev.supervisor import Supervisor
from wallet_engine.domain.errors import as_usage
from wallet_engine.domain.limits import (
    STREAM_ENTRIES_MAX,
    STREAM_ENTRIES_MAX_LEAST,
    STREAM_ENTRIES_MAX_MOST,
)
from wallet_engine.recovery.pruning import parse_keep
from wallet_engine.routing.model import ClusterConfig
from wallet_engine.telemetry.descriptors import raise_limit
from wallet_engine.telemetry.flags import journal_disk_options


@click.command()
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Folder for journal, map, logs and dev.json. A later start continues with its data.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    default=8080,
    show_default=True,
    help="Port of the first API process; further ones take the next ports.",
)
@click.option("--apis", type=click.IntRange(1, 16), default=1, show_default=True, help="API processes.")
@click.option("--shards", type=click.IntRange(1, 64), help=f"Redis primaries. [default: {SHARDS_DEFAULT}]")
@click.option(
    "--replicas", type=click.IntRange(0, 5), help=f"Replicas of each primary. [default: {REPLICAS_DEFAULT}]"
)
@click.option(
    "--partitions",
    type=click.IntRange(1),
    help=f"A power of two. It cannot be changed after the first start. [default: {PARTITIONS_DEFAULT}]",
)
@click.option(
    "--journals",
    type=click.IntRange(1, 9),
    help=f"Journal copies. A payment is answered when a majority has it on disk. [default: {JOURNALS_DEFAULT}]",
)
@click.option(
    "--stream-entries-max",
    type=click.IntRange(STREAM_ENTRIES_MAX_LEAST, STREAM_ENTRIES_MAX_MOST),
    help=f"Entries of a partition that may wait in Redis for the journal. [default: {STREAM_ENTRIES_MAX}]",
)
@click.option("--embedded", is_flag=True, help="Bundled Valkey, and a local file in place of ZooKeeper.")
@click.option(
    "--auth",
    is_flag=True,
    help="Require API keys from callers, certificates between the engine's processes, and passwords for Redis and "
    "ZooKeeper. DIR/keys.json has a key for each role, DIR/admin.env the variables for wallet-admin. Redis uses TLS, "
    "except the bundled Valkey, which has none; PostgreSQL and the API do not. All listen on 127.0.0.1 only.",
)
@click.option(
    "--certificates",
    is_flag=True,
    help="Use mutual TLS between journal copies, services and followers, with certificates made in DIR/ca. On with "
    "--auth.",
)
@click.option(
    "--history",
    is_flag=True,
    help="Start a PostgreSQL (the system's, else a bundled one) for the history, and a follower that fills it.",
)
@click.option(
    "--webhooks-allow-private",
    is_flag=True,
    help="With --history: allow webhooks to private and loopback addresses, and over plain http.",
)
@click.option(
    "--oracle",
    is_flag=True,
    help="Decide every entry again in a separate process, and stop a partition that differs. On with --auth.",
)
@journal_disk_options
def dev(
    data_dir: Path,
    port: int,
    apis: int,
    shards: int | None,
    replicas: int | None,
    partitions: int | None,
    journals: int | None,
    stream_entries_max: int | None,
    embedded: bool,
    auth: bool,
    certificates: bool,
    history: bool,
    webhooks_allow_private: bool,
    oracle: bool,
    archive_command: str | None,
    restore_command: str | None,
    keep: str | None,
    segment_bytes: int,
    snapshot_bytes: int,
) -> None:
    """Start Redis Cluster, ZooKeeper, journal and API on this machine, for development and tests.

    Prints `ready http://…` when it takes transfers, and runs until Ctrl-C. DIR/dev.json lists the processes.
    Without --embedded it uses the system's redis-server (6.2 or newer) and ZooKeeper.
    """
    if history:
        preempt_others()
    else:
        share_cores()
    raise_limit()
    _pass_over_other_databases(os.environ)
    wishes = Wishes(shards, replicas, partitions, embedded, journals, stream_entries_max)
    journal_flags = [f"--segment-bytes={segment_bytes}", f"--snapshot-bytes={snapshot_bytes}"]
    if archive_command:
        journal_flags.append(f"--archive-command={archive_command}")
    if restore_command:
        journal_flags.append(f"--restore-command={restore_command}")
    if partitions is not None:
        with as_usage():
            ClusterConfig(partitions)
    if keep:
        parse_keep(keep)
        journal_flags.append(f"--keep={keep}")
    Supervisor(
        DevOptions(
            data_dir,
            port,
            wishes,
            apis,
            tuple(journal_flags),
            auth,
            history,
            webhooks_allow_private,
            auth or oracle,
            auth or certificates,
            {"RESTORE_COMMAND": restore_command} if restore_command else {},
        )
    ).run()


def _pass_over_other_databases(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of PostgreSQL's clients: they are for a database of the user's, this one is ours."""
    for name in [name for name in environ if name.startswith("PG")]:
        del environ[name]
