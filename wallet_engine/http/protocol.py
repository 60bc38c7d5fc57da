"""uvicorn's HTTP protocol with a short way for single transfers, and one system call per answer."""

import asyncio
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from wallet_engine.domain.errors import Outage
from wallet_engine.http.application import PEER_KEY
from wallet_engine.http.direct import DirectTransfers
from wallet_engine.http.gate import Peer
from wallet_engine.http.outbox import JoiningTransport, Outbox
from wallet_engine.http.problems import Answer, Headers, outage
from wallet_engine.telemetry.descriptors import Reserve


class EncodedHeads:
    """Heads of answers as bytes: the same few are sent until their date changes, a second later."""

    def __init__(self) -> None:
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._heads: dict[tuple[int, Headers], bytes] = {}

    def __repr__(self) -> str:
        return f"<EncodedHeads {len(self._heads)}>"

    def head(self, status: int, headers: Headers, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of an answer with these headers, written as uvicorn writes it."""
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._heads.clear()
        head = self._heads.get((status, headers))
        if head is None:
            lines = [b"%b: %b\r\n" % header for header in (*default_headers, *headers)]
            head = self._heads[status, headers] = b"".join((STATUS_LINE[status], *lines, b"\r\n"))
        return head


_encoded: Final = EncodedHeads()
_reserve: Final = Reserve()
_NO_ROOM: Final = outage(Outage("overloaded", "this process has no room for more connections"))


class WalletHttpProtocol(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`, with the short way and an outbox for all."""

    def __init__(self, direct: DirectTransfers, outbox: Outbox, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._direct = direct
        self._outbox = outbox
        #: A request is on the short way, and what the client sent behind it waits.
        self._on_direct = False
        self._held: list[bytes] = []
        #: The parser is within a request.
        self._parsing = False
        self._closing = False
        self._answered_s = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        joining = JoiningTransport(transport, self._outbox)
        super().connection_made(cast(asyncio.Transport, joining))
        self._peer = Peer(self.client[0] if self.client else "")
        connected = transport.get_extra_info("socket")
        if connected is not None and _reserve.refuses(connected.fileno()):
            self._closing = True
            self._answer(_NO_ROOM)

    def data_received(self, data: bytes) -> None:
        if self._on_direct:
            self._held.append(data)
            self.flow.pause_reading()
        elif (
            not self._parsing
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
            and (request := self._direct.heads.split(data)) is not None
        ):
            self._on_direct = True
            self._direct.begin(*request, self._peer, self._answer, self._outbox.add)
        else:
            super().data_received(data)

    def _answer(self, answer: Answer) -> None:
        """The request on the short way is answered."""
        self._on_direct = False
        if self.transport.is_closing():
            return
        status, body, headers = answer
        if self._closing:
            headers = (*headers, (b"connection", b"close"))
        self.transport.write(_encoded.head(status, headers, self.server_state.default_headers) + body)
        if self._closing:
            self.transport.close()
            return
        self._answered_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idle(self.timeout_keep_alive)
        if self._held:
            held, self._held = self._held, []
            self.flow.resume_reading()
            self.data_received(b"".join(held))

    def on_message_begin(self) -> None:
        self._parsing = True
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[PEER_KEY] = self._peer

    def on_message_complete(self) -> None:
        self._parsing = False
        super().on_message_complete()

    def shutdown(self) -> None:
        """As uvicorn's: what is in flight is answered first."""
        self._closing = True
        if not self._on_direct:
            super().shutdown()

    def _watch_idle(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Requests on the short way leave the timer alone: it finds out how long ago they were."""
        left_s = self._answered_s + self.timeout_keep_alive - self.loop.time()
        if self._on_direct or left_s > 0:
            self._watch_idle(left_s if left_s > 0 else self.timeout_keep_alive)
        else:
            super().timeout_keep_alive_handler()
