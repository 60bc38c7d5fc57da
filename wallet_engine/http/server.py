"""Runs the application under uvicorn, and ends it without losing a request in flight."""

import asyncio
import contextlib
import math
import socket
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Final

import uvicorn

from wallet_engine.domain.addresses import join_address
from wallet_engine.domain.errors import ConfigError
from wallet_engine.http.application import Application
from wallet_engine.http.connections import CONNECTIONS_MAX, Connections
from wallet_engine.http.crowd import Crowd
from wallet_engine.http.outbox import Outbox
from wallet_engine.http.protocol import WalletHttpProtocol
from wallet_engine.http.tls import Certificates

#: How long an idle connection is kept. Longer than in the pools of common clients, so that a client rarely sends on a
#: connection that is just being closed.
KEEP_ALIVE_SECONDS: Final = 75

#: How long requests in flight may take to end after `stop` is set.
DRAIN_SECONDS_MAX: Final = 30.0

#: How long the last connections have time to send their first request.
SILENT_SECONDS_MAX: Final = 0.5
_LOOK_SECONDS: Final = 0.01

_BACKLOG_CONNECTIONS: Final = 2048


async def serve_http(
    app: Application,
    host: str,
    port: int,
    *,
    stop: asyncio.Event,
    on_listening: Callable[[str], None] | None = None,
    drain_seconds_max: float = DRAIN_SECONDS_MAX,
    keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    connections_max: int = CONNECTIONS_MAX,
    reuse_port: bool = False,
    certificates: Certificates | None = None,
    leave_seconds: float = 0.0,
) -> None:
    """Serve until `stop` is set, then refuse new connections and return once requests in flight are answered.

    Between the two, for `leave_seconds`, requests are answered as before, but `/readyz` answers 503 and each answer
    ends its connection. So the load balancer sends requests elsewhere before any is refused.

    Port 0 takes a free one. `on_listening` is called with the base URL when requests are taken. After
    `drain_seconds_max`, requests in flight are cancelled. The caller handles signals and starts the event loop
    (`uvloop.run`). With `certificates` it speaks HTTPS. Raises `ConfigError` when the address cannot be bound.
    """
    listener = _listen(host, port, reuse_port)
    connections = Connections(connections_max)
    protocol = partial(WalletHttpProtocol, app.direct, Outbox(), connections, keep_alive_seconds)
    context = None if certificates is None else certificates.context
    app.gate.certificates = certificates
    crowd = Crowd(listener, protocol, context)
    config = uvicorn.Config(
        app,
        loop="none",
        http=crowd,  # type: ignore[arg-type]  # called like the class
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=math.ceil(drain_seconds_max),
    )
    server = _Server(config, crowd)
    following = None if certificates is None else asyncio.create_task(certificates.follow())
    serving = asyncio.create_task(server.serve(sockets=[] if crowd.accepts_all else [listener]))
    try:
        await _first_of(server.listening.wait(), serving)
        if on_listening is not None and server.listening.is_set():
            on_listening(_base_url(host, listener, "http" if certificates is None else "https"))
        await _first_of(stop.wait(), serving)
        if leave_seconds:
            app.gate.leaving = True
            await _first_of(server.leave(leave_seconds, connections), serving)
    finally:
        if following is not None:
            following.cancel()
        server.should_exit = True
        await asyncio.shield(serving)


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own, and with an event that says when it listens."""

    def __init__(self, config: uvicorn.Config, crowd: Crowd) -> None:
        super().__init__(config)
        self._crowd = crowd
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def leave(self, leave_seconds: float, connections: Connections) -> None:
        """Serve for that time. Then take no new connections, and wait briefly for first requests on new ones."""
        connections.leave()
        await asyncio.sleep(leave_seconds)
        await self._crowd.let_in_the_last()
        for listening in self.servers:
            listening.close()
        if self._crowd.accepts_all:
            self._crowd.close()
        await _all_heard(self._crowd, connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._crowd.accepts_all:
            self._crowd.begin(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._crowd.accepts_all:
            self._crowd.close()
        await super().shutdown(sockets)


async def _all_heard(crowd: Crowd, connections: Connections) -> None:
    """Return when the first request of each connection has come, or after `SILENT_SECONDS_MAX`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SILENT_SECONDS_MAX):
            while crowd.coming or connections.silent:
                await asyncio.sleep(_LOOK_SECONDS)


async def _first_of(event: Coroutine[object, object, object], serving: asyncio.Task[None]) -> None:
    waiting = asyncio.create_task(event)
    try:
        await asyncio.wait((waiting, serving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


def _listen(host: str, port: int, reuse_port: bool) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server(
            (host, port), family=family, backlog=_BACKLOG_CONNECTIONS, reuse_port=reuse_port
        )
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    listener.setblocking(False)
    return listener


def _base_url(host: str, listener: socket.socket, scheme: str) -> str:
    port = listener.getsockname()[1]
    return f"{scheme}://{join_address(host, port)}"
