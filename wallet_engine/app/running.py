"""What both processes share: their flags, the event loop, and stopping on a signal."""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click
import uvloop

from wallet_engine.domain.errors import ConfigError
from wallet_engine.redis_store.topology import check_settings
from wallet_engine.routing.directory import Directory
from wallet_engine.telemetry.flags import credentials_options
from wallet_engine.telemetry.logging import configure_logging


def directory_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--zookeeper`, `--map-file`, the credentials for ZooKeeper, and `--log-level`."""
    command = credentials_options(command)
    for option in (
        click.option(
            "--zookeeper", metavar="HOST:PORT,…", help="ZooKeeper ensemble that holds the partition map."
        ),
        click.option(
            "--map-file",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Local file in ZooKeeper's place (embedded mode).",
        ),
        click.option(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            show_default=True,
            help="Least important messages to log.",
        ),
    ):
        command = option(command)
    return command


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]], log_level: str) -> None:
    """Run `main` on uvloop until it returns; SIGTERM and SIGINT set the event it is given."""
    configure_logging(log_level)
    collect_rarely()

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    uvloop.run(until_stopped())


def collect_rarely() -> None:
    """Tell the cyclic garbage collector that what there is now stays, and that what comes is freed without it.

    The hot path makes no cycles, so a collection only finds what rare failures left behind.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def default_id(kind: str) -> str:
    """An id for a process that was not given one: host, kind and pid."""
    return f"{socket.gethostname().split('.')[0]}-{kind}-{os.getpid()}"


def check_listening(host: str, port: int) -> None:
    """Raises `ConfigError` for an address that cannot be listened on, before anything else is begun."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"{host}:{port} is not an address: --port is 0 to 65535")
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def check_nodes(directory: Directory) -> None:
    """Refuse to start on Redis nodes that could lose or evict money; one that is down is looked at when it is back.

    Raises `ConfigError` with the line to change.
    """
    for shard in directory.shards().values():
        for address in shard.nodes:
            check_settings(address, must_answer=False)
