"""`wallet-engine serve`: one API process. It is stateless; run as many as there are cores to spare."""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import click

from wallet_engine.app.certificates import watch_certificates
from wallet_engine.app.keys import watched_keyring
from wallet_engine.app.listening import Listening, advertise_option
from wallet_engine.app.pausing import watched_pause
from wallet_engine.app.registering import registering
from wallet_engine.app.running import (
    check_closed_door,
    check_nodes,
    directory_options,
    id_of,
    insecure_option,
    run,
)
from wallet_engine.app.tracing import Telling, otlp_option, told
from wallet_engine.app.versions import OWN_VERSIONS
from wallet_engine.app.webhooks import guarded_events, webhooks_option
from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import WrongUsage
from wallet_engine.domain.limits import ISSUED_AGE_MS_MAX
from wallet_engine.domain.principals import PeerRole
from wallet_engine.engine.horizons import Horizons
from wallet_engine.engine.reads import Reader
from wallet_engine.history.originals import Originals
from wallet_engine.history.reader import HistoryReader
from wallet_engine.http.application import create_app
from wallet_engine.http.gate import Gate
from wallet_engine.http.server import DRAIN_SECONDS_MAX, serve_http
from wallet_engine.http.tls import Certificates
from wallet_engine.routing.access import read_credentials
from wallet_engine.routing.directory import open_directory
from wallet_engine.routing.model import ServiceInfo
from wallet_engine.saga.expiry import Expirer
from wallet_engine.saga.group_sweeper import GroupSweeper
from wallet_engine.saga.open_ages import readings
from wallet_engine.saga.sweeper import Sweeper
from wallet_engine.service.history import GuardedHistory
from wallet_engine.service.wallet import ClusterWallet
from wallet_engine.telemetry.flags import PORT, FiniteRange, database_option
from wallet_engine.telemetry.logging import get_logger
from wallet_engine.telemetry.metrics import Metrics

#: How long the process may take to end after the last request in flight.
STOP_S_MAX: Final = 5.0
#: Long enough for a load balancer that checks `/readyz` every second.
LEAVE_S_DEFAULT: Final = 2.0

log = get_logger(__name__)


def tls_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--tls-cert`, `--tls-key` and `--tls-client-ca`, for `certificates_of`."""
    path = click.Path(path_type=Path, dir_okay=False)
    for option in (
        click.option(
            "--tls-client-ca",
            type=path,
            metavar="FILE",
            help="Authorities (PEM) of client certificates: one for the URI wallet:key/ID counts as that API key.",
        ),
        click.option("--tls-key", type=path, metavar="FILE", help="Private key (PEM) of --tls-cert."),
        click.option(
            "--tls-cert",
            type=path,
            metavar="FILE",
            help="Certificate (PEM, followed by its chain): HTTPS. Changed files are reloaded.",
        ),
    ):
        command = option(command)
    return command


def certificates_of(cert: Path | None, key: Path | None, client_ca: Path | None) -> Certificates | None:
    """The certificates for HTTPS; None without. Raises `ConfigError` when a file is missing or unfit."""
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise WrongUsage("--tls-cert and --tls-key are given together, and --tls-client-ca only with them")
    return Certificates(cert, key, client_ca)


@click.command()
@partial(directory_options, role=PeerRole.SERVICE)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@advertise_option
@click.option(
    "--port", type=PORT, default=8080, show_default=True, help="Port to listen on; 0 takes a free one."
)
@click.option("--service-id", help="Name of this process in ZooKeeper.  [default: made from host and pid]")
@click.option(
    "--issued-age-s",
    type=FiniteRange(min=1),
    default=ISSUED_AGE_MS_MAX / 1000,
    show_default=True,
    help="Maximum age of an operation that Redis accepts, for example from a process that was stopped.",
)
@click.option(
    "--look-up-age-s",
    type=FiniteRange(min=0),
    help="An interrupted transfer older than this is looked up in the journal before it is ended.  "
    "[default: half of the retention, which is also the most]",
)
@tls_options
@database_option
@webhooks_option
@otlp_option
@click.option(
    "--leave-s",
    type=FiniteRange(0, 60),
    default=LEAVE_S_DEFAULT,
    show_default=True,
    help="At the end: how long /readyz answers 503 before requests are refused, so that callers go elsewhere.",
)
@insecure_option
def serve(
    zookeeper: str | None,
    map_file: Path | None,
    zookeeper_user: str | None,
    zookeeper_password_file: Path | None,
    log_level: str,
    host: str,
    advertise: str | None,
    port: int,
    service_id: str | None,
    issued_age_s: float,
    look_up_age_s: float | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    database: str | None,
    webhooks_allow_private: bool,
    otlp_endpoint: str | None,
    leave_s: float,
    insecure: bool,
) -> None:
    """Run one API process: it takes transfers over HTTP, and answers when they are durable.

    If the cluster has API keys, callers need one. Without keys it listens only on this machine.
    """
    listening = Listening.checked(host, port, advertise)
    credentials = read_credentials(zookeeper_user, zookeeper_password_file)
    certificates = certificates_of(tls_cert, tls_key, tls_client_ca)
    name = id_of(service_id, "--service-id", "api")
    look_up_age_ms = None if look_up_age_s is None else int(look_up_age_s * 1000)
    horizons = Horizons(int(issued_age_s * 1000), look_up_age_ms)

    async def main(stop: asyncio.Event) -> None:
        async with told(otlp_endpoint, name, log_level) as telling:
            await serving(stop, telling)

    async def serving(stop: asyncio.Event, telling: Telling) -> None:
        directory = await asyncio.to_thread(open_directory, zookeeper, map_file, credentials=credentials)
        keys = await asyncio.to_thread(directory.api_keys.all)
        closing = "make keys with wallet-admin key create"
        check_closed_door(listening.host, closing, closed=keys is not None, insecure=insecure)
        await asyncio.to_thread(check_nodes, directory)
        metrics = Metrics()
        watch_certificates(metrics, tls_cert, tls_client_ca)
        engine = telling.engine(directory, metrics, horizons)
        reader = Reader(engine)
        sweeper = Sweeper(engine, reader)
        expirer, group_sweeper = Expirer(engine), GroupSweeper(engine)
        try:
            await engine.start()
            await sweeper.look()
            sweeper.start()
            expirer.start()
            group_sweeper.start()

            def taken(url: str) -> None:
                _, bound = split_address(url.partition("//")[2])
                info = ServiceInfo(
                    *(name, listening.advertised(bound), os.getpid(), insecure, certificates is not None),
                    versions=OWN_VERSIONS,
                )
                register(info)
                log.info("serving", url=url, service=name)

            past = None if database is None else HistoryReader(database, engine.cluster.homes)
            wallet = ClusterWallet(engine, reader, None if past is None else Originals(past))
            history = None if past is None else GuardedHistory(past, wallet.newest)
            metrics.transfers_in_flight.set_function(lambda: wallet.in_flight)
            metrics.observe_readiness(wallet.readings)
            metrics.observe_partitions(partial(readings, engine, sweeper.open, group_sweeper.open))
            async with (
                registering(directory) as register,
                watched_keyring(directory, insecure=insecure) as keyring,
                guarded_events(database, stop, allow_private=webhooks_allow_private) as events,
            ):
                gate = Gate(metrics, keyring, make_visit=telling.visit)
                app = create_app(wallet, metrics=metrics, gate=gate, events=events, history=history)
                async with watched_pause(directory, gate, metrics):
                    await serve_http(
                        app,
                        listening.host,
                        port,
                        stop=stop,
                        on_listening=taken,
                        certificates=certificates,
                        leave_seconds=leave_s,
                    )
            if past is not None:
                await past.close()
            log.info("stopped serving", service=name)
        finally:
            await group_sweeper.close()
            await expirer.close()
            await sweeper.close()
            await engine.close()
            await asyncio.to_thread(directory.close)

    run(main, log_level, leave_s + DRAIN_SECONDS_MAX + STOP_S_MAX)
