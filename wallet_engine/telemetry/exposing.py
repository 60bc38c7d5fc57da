"""Serves `/metrics` for Prometheus, in processes that have no other HTTP server."""

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

#: Time-out of a connection: a client that is silent for so long is disconnected.
SILENT_S_MAX: Final = 5.0
#: Maximum connections at a time. One more closes the oldest.
CONNECTIONS_MAX: Final = 32

Context = Callable[[], ssl.SSLContext]


def expose(registry: CollectorRegistry, host: str, port: int, tls: Context | None = None) -> WSGIServer:
    """Start a server that answers every GET with the metrics. Its threads end with the process.

    `tls` is called for each connection, so that renewed certificates are used. Raises `ConfigError` when the port
    cannot be used.
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
        """Log nothing: there is a request every few seconds."""


class _Server(ThreadingWSGIServer):
    """Uses a thread for each connection, so that a silent client delays no other."""

    #: Connections that may wait to be accepted. Without room, the kernel drops the SYN, and a client retries after 1 s.
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
            # The handshake happens at the first read, in the connection's own thread.
            link = self._tls().wrap_socket(link, server_side=True, do_handshake_on_connect=False)
        with self._lock:
            # Removed here and not by its thread, which may need time: the next connection must close another one.
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
        """Do nothing: the client has disconnected, was silent, or has no valid certificate."""


def _hang_up(link: socket.socket) -> None:
    with suppress(OSError):  # the client may have closed it already
        socket.socket.shutdown(link, socket.SHUT_RDWR)
