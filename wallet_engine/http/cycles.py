"""Answers by ASGI: where they are written, and how those to HTTP/1.0 end.

HTTP/1.0 has no chunks: an answer without a length ends with its connection. So half an answer ends with a reset.
"""

import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

#: SO_LINGER of no seconds: closing drops what is not sent yet, and resets the connection.
_RESET: Final = struct.pack("ii", 1, 0)


class Answering(Protocol):
    """What `AnswerTransport` needs of a connection."""

    transport: Any

    def close_after_answer(self) -> None: ...


class AnswerTransport:
    """The transport for answers by ASGI: it may be closed before the request's body is complete."""

    def __init__(self, protocol: Answering) -> None:
        self._protocol = protocol
        self.write = protocol.transport.write
        self.is_closing = protocol.transport.is_closing
        #: Whether the client may take the end of the connection for the end of the answer.
        self.is_whole: Callable[[], bool] = lambda: True

    def close(self) -> None:
        if self.is_whole():
            self._protocol.close_after_answer()
        else:
            _reset(self._protocol.transport)


class UntilClosedCycle(RequestResponseCycle):
    """The cycle of a request of HTTP/1.0."""

    _unmeasured = False

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            if not any(name == b"content-length" for name, _ in message.get("headers", ())):
                self._unmeasured, self.chunked_encoding = True, False
                transport: Any = self.transport
                transport.is_whole = lambda: self.response_complete
        elif self._unmeasured:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


def _reset(transport: Any) -> None:
    """With TLS the missing close_notify tells as well that this is no end."""
    connected = transport.get_extra_info("socket")
    if connected is not None:
        with socket.socket(fileno=os.dup(connected.fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
