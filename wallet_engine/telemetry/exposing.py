"""Metrics of a process that serves no HTTP otherwise, for Prometheus."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from wallet_engine.domain.errors import ConfigError

#: How long a client may send nothing.
SILENT_S_MAX: Final = 5.0
#: Connections at a time; past it the oldest is closed.
CONNECTIONS_MAX: Final = 32

Context = Callable[[], ssl.SSLContext]


def expose(registry: CollectorRegistry, host: str, port: int, tls: Context | None = None) -> WSGIServer:
    """Answer every GET with the metrics, in threads that end with the process.

    `tls` is asked for each connection, so that renewed certificates count. Raises `ConfigError`.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = _Server(family, address, tls)
    except OSError as error:
        raise ConfigError(f"cannot listen on --metrics-port {port}: {error.strerror or error}") from None
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: it comes every few seconds."""


class _Server(ThreadingWSGIServer):
    """A thread for each connection, so that nobody waits behind one who says nothing."""

    #: Connections that may wait to be accepted; further clients would try again after a second.
    request_queue_size = 128

    def __init__(self, family: socket.AddressFamily, address: Any, tls: Context | None) -> None:
        self.address_family = family
        self._tls = tls
        self._lock = threading.Lock()
        self._open: dict[int, socket.socket] = {}
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        link, address = super().get_request()
        link.settimeout(SILENT_S_MAX)
        if self._tls is not None:
            # Hands are shaken where it is read, in its own thread.
            link = self._tls().wrap_socket(link, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            # Taken out here: its thread may take its time, and the next one needs another's place.
            oldest = self._open.pop(next(iter(self._open))) if len(self._open) >= CONNECTIONS_MAX else None
            self._open[id(link)] = link
        if oldest is not None:
            _hang_up(oldest)
        return link, address

    def close_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(id(request), None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Do nothing: the client has hung up, sent nothing, or shown no certificate."""


def _hang_up(link: socket.socket) -> None:
    with suppress(OSError):  # it may have done so itself
        socket.socket.shutdown(link, socket.SHUT_RDWR)
