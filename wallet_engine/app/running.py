"""The common part of the long-running processes: their flags, the event loop, and stopping on a signal."""

import asyncio
import functools
import gc
import io
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import click
import uvloop

from wallet_engine.domain.errors import ConfigError, as_usage
from wallet_engine.domain.principals import PeerRole
from wallet_engine.journal import peer_tls
from wallet_engine.redis_store import login
from wallet_engine.redis_store.refusals import Obstacle
from wallet_engine.redis_store.topology import check_settings
from wallet_engine.routing import zookeeper_tls
from wallet_engine.routing.directory import Directory
from wallet_engine.routing.model import check_name
from wallet_engine.telemetry.descriptors import raise_limit
from wallet_engine.telemetry.flags import credentials_options, peer_options, redis_options
from wallet_engine.telemetry.logging import configure_logging, get_logger
from wallet_engine.telemetry.loopback import is_loopback

#: Frames logged of each thread when the process is ended by force.
_FRAMES_SHOWN: Final = 6
#: Redis nodes that a start asks at the same time.
ASKED_AT_ONCE_MAX: Final = 32

log = get_logger(__name__)


def directory_options(
    command: Callable[..., None], role: PeerRole = PeerRole.FOLLOWER
) -> Callable[..., None]:
    """The flags by which a process of this role finds and authenticates to the others, and `--log-level`.

    The flags for Redis, and for TLS to ZooKeeper and between our processes, take effect here.
    """

    @functools.wraps(command)
    def entering(*args: Any, **kwargs: Any) -> None:
        login.use_flags(kwargs)
        zookeeper_tls.use_flags(kwargs)
        peer_tls.use_flags(kwargs, role)
        command(*args, **kwargs)

    decorated = credentials_options(redis_options(peer_options(entering)))
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
        decorated = option(decorated)
    return decorated


def run(
    main: Callable[[asyncio.Event], Coroutine[Any, Any, None]], log_level: str, stop_s_max: float
) -> None:
    """Run `main` on uvloop until it returns; SIGTERM and SIGINT set the event that it gets.

    If the process has not ended `stop_s_max` after such a signal, because its loop or a thread is blocked, it is ended
    by force, with a line in the log. That is safe: at any moment, everything that must last is on disk.
    """
    configure_logging(log_level)
    raise_limit()
    collect_rarely()

    async def until_stopped() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def told(_number: int, _frame: FrameType | None) -> None:
            # A handler of the loop would wait for the loop; this one runs between two instructions.
            loop.call_soon_threadsafe(stop.set)
            late = threading.Timer(stop_s_max, _end_late, (stop_s_max,))
            late.daemon = True
            late.start()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, told)
        await main(stop)

    uvloop.run(until_stopped())


def _end_late(stop_s_max: float) -> None:
    stacks = io.StringIO()
    for thread, frame in sys._current_frames().items():
        if thread != threading.get_ident():
            stacks.write("".join(traceback.format_stack(frame, _FRAMES_SHOWN)))
    log.error("does not stop in time: ended by force", after_s=stop_s_max, stacks=stacks.getvalue())
    os._exit(1)


def collect_rarely() -> None:
    """Exempt all present objects from the cyclic garbage collector, and let it run rarely.

    The hot path makes no cycles, so a collection only finds what rare failures left behind.
    """
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def id_of(given: str | None, flag: str, kind: str) -> str:
    """The id of a process: that of the flag, or one made of host, kind and pid. Raises `WrongUsage`."""
    if given is not None:
        with as_usage():
            return check_name(given, flag)
    return f"{socket.gethostname().split('.')[0]}-{kind}-{os.getpid()}"


def insecure_option(command: Callable[..., None]) -> Callable[..., None]:
    """`--insecure`, for `check_closed_door`."""
    return click.option(
        "--insecure",
        is_flag=True,
        help="Accept callers that do not identify themselves, also from other machines. Logged at each start.",
    )(command)


def check_closed_door(host: str, closing: str, *, closed: bool, insecure: bool) -> None:
    """Raises `ConfigError` when other machines could call without identifying themselves.

    `closing`: the advice in the error text.
    """
    if insecure:
        log.warning("insecure: anyone who can reach this address is let in", host=host)
    elif not closed and not is_loopback(host):
        raise ConfigError(
            f"--host {host} is open to other machines, and callers need not identify themselves: "
            f"{closing}, or add --insecure"
        )


def check_nodes(directory: Directory) -> None:
    """Raises `ConfigError` for Redis nodes that could lose or evict money. Nodes that are down are checked later.

    A node that refuses our login is logged; when all nodes do, that is a `ConfigError` too. Nodes that hang are waited
    for together.
    """
    asked = [address for shard in directory.readable_shards().values() for address in shard.nodes]
    with ThreadPoolExecutor(ASKED_AT_ONCE_MAX) as pool:
        found = dict(zip(asked, pool.map(partial(check_settings, must_answer=False), asked), strict=True))
    refused = [
        f"Redis at {address} {hindrance.text}"
        for address, hindrance in found.items()
        if hindrance is not None and hindrance.obstacle is not Obstacle.SILENT
    ]
    if refused and all(found.values()):
        raise ConfigError("; ".join(refused))
    for why in refused:
        log.warning("a Redis node does not let us in", error=why)
