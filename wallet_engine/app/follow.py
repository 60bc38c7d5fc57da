"""`wallet-engine follow`: a process that follows the journal for one or several sinks, off the payment path."""

import asyncio
import os
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from wallet_engine.app.certificates import (
    METRICS_PORT_HELP,
    expose_metrics,
    peers_identify_themselves,
    watch_certificates,
)
from wallet_engine.app.listening import Listening
from wallet_engine.app.priority import take_priority
from wallet_engine.app.running import (
    check_closed_door,
    directory_options,
    id_of,
    insecure_option,
    run,
)
from wallet_engine.app.troubles import Troubles
from wallet_engine.app.versions import OWN_VERSIONS
from wallet_engine.app.webhooks import webhooks_option
from wallet_engine.domain.errors import ConfigError, WrongUsage
from wallet_engine.events.event import SOURCE_DEFAULT, check_source
from wallet_engine.exports.kafka import read_settings
from wallet_engine.follow.claims import Claims
from wallet_engine.follow.follower import Follower
from wallet_engine.follow.sink import Sink, Telling
from wallet_engine.follow.sinks import SINKS, Surroundings, make_sink
from wallet_engine.journal.feed import DirectoryFeed, Feed
from wallet_engine.journal.feed_client import CopyAddress, FeedClient
from wallet_engine.routing.access import read_credentials
from wallet_engine.routing.directory import Directory, open_directory
from wallet_engine.routing.following import WHOLE, FollowerInfo
from wallet_engine.telemetry.flags import PORT, FiniteRange, database_option
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics
from wallet_engine.webhooks.outbox import EVENTS_KEPT_DAYS

#: How long the process may take to end: a batch that is under way is stored or given up.
STOP_S_MAX: Final = 8.0
#: Timeout of the ZooKeeper session: how long the partitions of a dead process wait for another one.
SESSION_S: Final = 6.0
#: How often the announced troubles are compared with the present ones.
ANNOUNCE_S: Final = 1.0

log = get_logger(__name__)


@click.command()
@directory_options
@click.option(
    "--to",
    "targets",
    metavar="SINK",
    multiple=True,
    required=True,
    help=f"Where to send entries; may be repeated: {', '.join(SINKS)}.",
)
@database_option
@click.option(
    "--directory",
    "journal",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Read this journal directory (the only copy, or a stopped one) instead of asking the journal copies.",
)
@click.option("--follower-id", help="Name of this process in ZooKeeper.  [default: made from host and pid]")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address for metrics.")
@click.option("--metrics-port", type=PORT, help=METRICS_PORT_HELP)
@webhooks_option
@click.option(
    "--kafka-config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings of librdkafka for kafka://, one per line: sasl.username=wallet. Other users must not read it.",
)
@click.option(
    "--event-source",
    metavar="URI",
    default=SOURCE_DEFAULT,
    show_default=True,
    help="The `source` of events; it distinguishes clusters.",
)
@click.option(
    "--events-kept-days",
    type=FiniteRange(min=1),
    default=EVENTS_KEPT_DAYS,
    show_default=True,
    help="How long --to webhooks keeps events in its log; always until every enabled webhook has them.",
)
@click.option(
    "--priority",
    type=click.Choice(["normal", "low", "idle"]),
    help="CPU priority against payments on the same cores: low, behind them; idle, only on unused cores, maybe none.  "
    "[default: low, normal with the oracle]",
)
@insecure_option
def follow(
    zookeeper: str | None,
    map_file: Path | None,
    zookeeper_user: str | None,
    zookeeper_password_file: Path | None,
    log_level: str,
    targets: tuple[str, ...],
    database: str | None,
    journal: Path | None,
    follower_id: str | None,
    host: str,
    metrics_port: int | None,
    webhooks_allow_private: bool,
    kafka_config: Path | None,
    event_source: str,
    events_kept_days: float,
    priority: str | None,
    insecure: bool,
) -> None:
    """Follow the journal: send durable entries to where they are read, queried or passed on.

    Payments never wait for it. It continues where each sink stopped, however long ago. Several processes share the
    partitions.
    """
    listening = Listening.checked(host, metrics_port or 0, None)
    credentials = read_credentials(zookeeper_user, zookeeper_password_file)
    check_source(event_source)
    if len(set(targets)) != len(targets):
        raise WrongUsage("--to names a sink twice")
    librdkafka = {} if kafka_config is None else read_settings(kafka_config)
    take_priority(priority or default_priority(targets))

    async def main(stop: asyncio.Event) -> None:
        directory = await asyncio.to_thread(
            open_directory, zookeeper, map_file, credentials=credentials, timeout_s=SESSION_S
        )
        try:
            config = await asyncio.to_thread(directory.config)
            metrics = Metrics()
            watch_certificates(metrics)
            name = id_of(follower_id, "--follower-id", "follower")
            feed = _feed(directory, journal, name)
            around = Surroundings(
                directory,
                config.partitions,
                metrics,
                database,
                feed,
                name,
                webhooks_allow_private,
                librdkafka,
                event_source,
                events_kept_days * 86_400,
            )
            sinks = [make_sink(target, around) for target in targets]
            check_names_differ(targets, sinks)
            if metrics_port is not None:
                closing = "give --peer-ca, --peer-cert and --peer-key (wallet-admin ca issue follower ID)"
                closed = peers_identify_themselves()
                check_closed_door(listening.host, closing, closed=closed, insecure=insecure)
                expose_metrics(metrics, listening.host, metrics_port)
            address = "" if metrics_port is None else listening.advertised(metrics_port)
            tasks: list[asyncio.Task[None]] = []
            made: list[tuple[Claims, Follower]] = []
            for sink in sinks:
                words = (name, sink.name, address, os.getpid(), socket.gethostname())
                info = FollowerInfo(*words, versions=OWN_VERSIONS)
                groups = 1 if sink.name in WHOLE else None
                claims = Claims(directory.following, info, config.partitions, groups)
                follower = Follower(feed, sink, claims, directory.followers, metrics)
                made.append((claims, follower))
                tasks += [
                    asyncio.create_task(claims.run(), name=f"claims-{sink.name}"),
                    asyncio.create_task(follower.run(), name=f"follow-{sink.name}"),
                    asyncio.create_task(_announce(claims, follower, sink), name=f"announce-{sink.name}"),
                ]
            log.info("follows the journal", follower=name, sinks=[sink.name for sink in sinks])
            await _until_stopped(stop, tasks)
            for claims, follower in made:
                await follower.note()
                await claims.close()
        finally:
            await asyncio.to_thread(directory.close)

    run(main, log_level, STOP_S_MAX)


def check_names_differ(targets: Sequence[str], sinks: Sequence[Sink]) -> None:
    """Two sinks of one name would share claims and notes. Raises `ConfigError`."""
    first: dict[str, str] = {}
    for target, sink in zip(targets, sinks, strict=True):
        other = first.setdefault(sink.name, target)
        if other != target:
            raise ConfigError(
                f"--to {other} and --to {target} are both the sink {sink.name}: give them different topics or folders"
            )


def default_priority(targets: Iterable[str]) -> str:
    """`low`, so that payments come first; `normal` for the oracle, which may have to stop them."""
    return "normal" if any(target.partition(":")[0] in WHOLE for target in targets) else "low"


def _feed(directory: Directory, journal: Path | None, name: str) -> Feed:
    """The source of entries: the live journal copies that count, or a directory."""
    if journal is not None:
        return DirectoryFeed(journal)

    async def copies() -> dict[str, CopyAddress]:
        found = await asyncio.to_thread(directory.readable_journals)
        counted = (await asyncio.to_thread(directory.members)).copies
        return {
            journal_id: CopyAddress(info.address, info.tls)
            for journal_id, info in found.items()
            if journal_id in counted
        }

    return FeedClient(copies, name)


async def _announce(claims: Claims, follower: Follower, sink: Sink) -> None:
    """Keep the troubles in the registration of this process up to date: failures of its sink, and its findings."""
    troubles = Troubles()
    finding = troubles.teller("finding")
    failing, forked, beyond = troubles.teller("sink"), troubles.teller("fork"), troubles.teller("beyond")
    while True:
        failing(follower.trouble and f"{claims.info.sink}: {follower.trouble}")
        forked("; ".join(follower.forked.values()))
        beyond("; ".join(follower.beyond.values()))
        if isinstance(sink, Telling):
            finding(sink.trouble)
        if troubles.now() != claims.info.troubles:
            claims.info = replace(claims.info, troubles=troubles.now())
        await asyncio.sleep(ANNOUNCE_S)


async def _until_stopped(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Return on `stop`. No task ends by itself: one that does raises its error here."""
    stopping = asyncio.create_task(stop.wait())
    try:
        waiting: list[asyncio.Future[Any]] = [stopping, *tasks]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (stopping, *tasks):
            task.cancel()
        await asyncio.gather(stopping, *tasks, return_exceptions=True)
