"""HTTP/1.1 on one connection: one request after the other, with a direct way for requests that arrive in one piece.

`framing.py` checks heads before the parser gets them. So the bytes are cut at the ends of heads and bodies, and the
parser must find the same ends. Bytes after a request are held until it is answered, and reading pauses meanwhile.
"""

import asyncio
import logging
from typing import Any, Final, cast
from urllib.parse import unquote

import httptools
from uvicorn import Config
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from wallet_engine.http import connections, framing
from wallet_engine.http.connections import NEVER, Connections
from wallet_engine.http.cycles import AnswerTransport, UntilClosedCycle
from wallet_engine.http.direct import ASKED_KEY, PEER_KEY, Direct
from wallet_engine.http.encoded_heads import EncodedHeads
from wallet_engine.http.framing import HEAD_BYTES_MAX, HEAD_END, NOT_HTTP, TOO_LARGE, Fault, prepare
from wallet_engine.http.gate import Peer
from wallet_engine.http.outbox import JoiningTransport, Outbox
from wallet_engine.http.problems import Answer, Headers, problem
from wallet_engine.http.request_ids import REQUEST_ID, Asked, header_line, names_of, new_number, request_id_of
from wallet_engine.http.tls import key_of_certificate, shown_on

_CLOSE: Final = (b"connection", b"close")
_NO_ROOM: Final = problem("overloaded", "this process has no room for more connections", headers=(_CLOSE,))
_SLOW_HEAD: Final = Fault(
    "request_timeout", f"the head did not arrive within {connections.HEAD_SECONDS_MAX:.0f} s"
)
_logger: Final = logging.getLogger("uvicorn.error")
_encoded: Final = EncodedHeads()


class WalletHttpProtocol(asyncio.Protocol):
    """For `uvicorn.Config(http=…)`, with the direct way; the outbox and `connections` are shared by all."""

    def __init__(
        self,
        direct: Direct,
        outbox: Outbox,
        connections: Connections,
        idle_s_max: float,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._direct = direct
        self._outbox = outbox
        self._connections = connections
        self._idle_s_max = idle_s_max
        self._app = config.loaded_app
        self._server_state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self.deadline_s = NEVER
        self._peer = Peer("")
        #: Id of the request that is being read or answered; None before the first.
        self._asked: Asked | None = None
        #: A request is being answered, on the direct way or by `_cycle`.
        self._busy = False
        self._cycle: RequestResponseCycle | None = None
        #: Bytes that arrived while a request was being answered, or its answer was not read.
        self._held: list[bytes] = []
        #: The beginning of the next head.
        self._head = bytearray()
        #: A body is arriving: `_body_left` bytes, or in chunks when that is None.
        self._in_body = False
        self._body_left: int | None = 0
        #: The last three bytes of a body in chunks.
        self._tail = b""
        self._parser: httptools.HttpRequestParser | None = None
        self._complete = False
        #: The client sends nothing more; the server takes no further request; all received bytes are dropped.
        self._eof = self._closing = self._discarding = False

    def __repr__(self) -> str:
        state = "discarding" if self._discarding else "busy" if self._busy else "idle"
        return f"<WalletHttpProtocol {self._peer.address} {state}>"

    # The connection --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        given = cast(asyncio.Transport, transport)
        self._server_state.connections.add(cast(Any, self))
        self.transport = JoiningTransport(given, self._outbox)
        self.flow = FlowControl(cast(asyncio.Transport, self.transport))
        self._server = get_local_addr(given)
        self._client = get_remote_addr(given)
        self._scheme = "https" if is_ssl(given) else "http"
        tls = given.get_extra_info("ssl_object")
        certificate = None if tls is None else key_of_certificate(tls.getpeercert())
        shown = None if certificate is None else shown_on(tls)
        self._peer = self._direct.gate.peer(self._client[0] if self._client else "", certificate, shown)
        self.deadline_s = self._loop.time() + self._idle_s_max
        connected = given.get_extra_info("socket")
        self._closing = self._connections.leaving
        if not self._connections.admit(self, None if connected is None else connected.fileno()):
            self._turn_away(_NO_ROOM)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.discard(self)
        self._server_state.connections.discard(cast(Any, self))
        self.deadline_s = NEVER
        self._forget_cycle()
        self.flow.resume_writing()
        self._parser = None

    def eof_received(self) -> bool:
        """A client whose requests are complete still gets its answers; any other counts as gone.

        Returns whether the other direction stays open; with TLS it cannot.
        """
        self._eof = True
        answers_to_come = self._held or (self._busy and not self._in_body and not self._discarding)
        plain = self._scheme == "http"
        if not answers_to_come or not plain:
            self.transport.close()
        return plain

    def pause_writing(self) -> None:
        self.flow.pause_writing()
        self.deadline_s = self._loop.time() + connections.UNREAD_SECONDS_MAX

    def resume_writing(self) -> None:
        self.flow.resume_writing()
        if self._discarding:
            return
        self.deadline_s = NEVER if self._busy else self._loop.time() + self._idle_s_max
        if not self._busy or self._in_body:
            self._go_on()

    @property
    def silent(self) -> bool:
        """Whether its first request has not come yet."""
        return self._asked is None and not self.transport.is_closing()

    def leave(self) -> None:
        """Take one more request at most; its answer says that the connection ends."""
        self._closing = True
        if self._cycle is not None:
            self._cycle.keep_alive = False

    def shutdown(self) -> None:
        """Take no further request; those already received, parsed or not, are answered first."""
        self.leave()
        if not self._busy and not self._head:
            self.transport.close_unless_asked()

    def expired(self) -> None:
        """Called when its deadline has passed."""
        self.deadline_s = NEVER
        if self.flow.write_paused or self._discarding:
            self.transport.abort()
        elif self._head and not self._busy:
            self._refuse(_SLOW_HEAD)
        elif self._busy or self._in_body:
            self._forget_cycle()
            self.transport.close()
        elif not self.transport.close_unless_asked():
            self.deadline_s = self._loop.time() + connections.HEAD_SECONDS_MAX

    # Received bytes --------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if (self._busy and not self._in_body) or self.flow.write_paused:
            self._hold(data)
        elif (
            not self._in_body
            and not self._head
            and (request := self._direct.heads.split(data)) is not None
            and (not request[0].local_only or self._peer.is_local)
        ):
            self._busy = True
            self.deadline_s = NEVER
            head, body = request
            asked = self._asked = head.names or new_number()
            self._direct.begin(head, body, self._peer, asked, self._answer, self._outbox.add)
        else:
            self._take(data)

    def _hold(self, data: bytes) -> None:
        if not self._discarding:
            self._held.append(data)
            self.flow.pause_reading()

    def _take(self, data: bytes) -> None:
        """Cut the bytes at the ends of heads and bodies."""
        try:
            while data:
                if self._in_body:
                    data = self._take_body(data)
                elif self._busy:
                    self._hold(data)
                    return
                else:
                    data = self._take_head(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(NOT_HTTP)
        if self._eof and (self._in_body or not self._busy):
            self.transport.close()

    def _take_head(self, data: bytes) -> bytes:
        """Returns the part of `data` after the head, if the head ends in it."""
        head = self._head
        if not head:
            self.deadline_s = self._loop.time() + connections.HEAD_SECONDS_MAX
        begin = max(0, len(head) - len(HEAD_END) + 1)
        head += data
        if head[:2] == b"\r\n":  # an empty line before a request is ignored (RFC 9112, 2.2)
            del head[:2]
            begin = 0
        end = head.find(HEAD_END, begin)
        if end < 0:
            if len(head) > HEAD_BYTES_MAX:
                self._refuse(TOO_LARGE)
            elif len(head) > 1 and head[0] in b"\r\n":
                self._refuse(NOT_HTTP)
            return b""
        end += len(HEAD_END)
        whole, rest = bytes(head[:end]), bytes(head[end:])
        prepared, self._asked = prepare(whole), names_of(whole)
        head.clear()
        if isinstance(prepared, Fault):
            self._refuse(prepared)
            return b""
        self._begin(prepared)
        return rest

    def _take_body(self, data: bytes) -> bytes:
        """Returns the part of `data` after the body, if the body ends in it."""
        assert self._parser is not None
        left = self._body_left
        if left is not None:
            piece = data[:left]
            self._body_left = left - len(piece)
            self._parser.feed_data(piece)
            if self._complete == bool(self._body_left):
                raise httptools.HttpParserError("the parser sees another end")
        else:
            piece = data
            for part, end in framing.up_to_empty_lines(self._tail, data):
                self._parser.feed_data(part)
                if self._complete:
                    piece = data[:end]
                    break
            self._tail = (self._tail + piece[-framing.OVERLAP :])[-framing.OVERLAP :]
        if self._complete:
            self._in_body = False
            if not self._busy:  # it was answered before its body was complete
                self._await_next()
        return data[len(piece) :]

    # A request by ASGI -----------------------------------------------------------------------------------

    def _begin(self, head: bytes) -> None:
        self._complete = False
        self._url = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._tail = b""
        parser = self._parser = httptools.HttpRequestParser(self)
        self._busy = True
        self.deadline_s = self._loop.time() + connections.BODY_SECONDS_MAX
        parser.feed_data(head)
        if self._complete:
            self.deadline_s = NEVER
            return
        lengths = [value for name, value in self._fields if name == b"content-length"]
        self._in_body = True
        self._body_left = int(lengths[0]) if lengths else None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        version = self._parser.get_http_version()
        asked = self._asked
        assert asked is not None
        url = httptools.parse_url(self._url)
        path = url.path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "method": self._parser.get_method().decode("ascii"),
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self._fields,
            "state": self._app_state.copy(),
            PEER_KEY: self._peer,
            ASKED_KEY: asked,
        }
        keep_alive = version != "1.0" and self._parser.should_keep_alive() and not self._closing
        made = UntilClosedCycle if version == "1.0" else RequestResponseCycle
        cycle = self._cycle = made(
            scope=cast(Any, scope),
            transport=cast(asyncio.Transport, AnswerTransport(self)),
            flow=self.flow,
            logger=_logger,
            access_logger=_logger,
            access_log=False,
            default_headers=[*self._server_state.default_headers, (REQUEST_ID, request_id_of(asked))],
            message_event=asyncio.Event(),
            expect_100_continue=self._expects_continue,
            keep_alive=keep_alive,
            on_response=self._ended,
        )
        task = self._loop.create_task(cycle.run_asgi(cast(Any, self._app)))
        task.add_done_callback(self._server_state.tasks.discard)
        self._server_state.tasks.add(task)

    def on_body(self, body: bytes) -> None:
        cycle = self._cycle
        if cycle is None or cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        self._complete = True
        cycle = self._cycle
        if cycle is not None and not cycle.response_complete:
            self.deadline_s = NEVER
            cycle.more_body = False
            cycle.message_event.set()

    def _forget_cycle(self) -> None:
        """Tell the running cycle that its client is gone."""
        cycle = self._cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    # Answers ---------------------------------------------------------------------------------------------

    def _answer(self, answer: Answer) -> None:
        """Send the answer to a request of the direct way."""
        if self.transport.is_closing():
            return
        status, body, headers, _, position = answer
        if self._closing:
            headers = (*headers, _CLOSE)
        own = b"wallet-position: %b\r\n" % position.encode() if position else b""
        self._write(status, headers, own, body)
        if self._held or self._eof or self._closing:
            self._ended()
        else:  # the usual case
            self._busy = False
            self.deadline_s = self._loop.time() + self._idle_s_max

    def _write(self, status: int, headers: Headers, own: bytes, body: bytes) -> None:
        """Write an answer; `own`: lines of its head that are unique to it."""
        head = _encoded.head(status, headers, self._server_state.default_headers)
        assert self._asked is not None
        self.transport.write(b"%b%b%b%b" % (head, own, header_line(self._asked), body))

    def _ended(self) -> None:
        """A request was answered; the rest of its body may still come."""
        if self.transport.is_closing() or self._discarding:
            return
        self._busy = False
        if not self._in_body:
            self._await_next()
        if not self.flow.write_paused:
            self._go_on()

    def _await_next(self) -> None:
        self._cycle = None
        self.deadline_s = self._loop.time() + self._idle_s_max
        if self._closing:
            self.transport.close()

    def _go_on(self) -> None:
        """Continue with the held bytes, if there are any."""
        if self._held:
            held, self._held = self._held, []
            self.flow.resume_reading()
            self.data_received(b"".join(held))
        elif self._eof:
            self.transport.close()
        else:
            self.flow.resume_reading()

    def close_after_answer(self) -> None:
        """Close as soon as the written bytes are sent."""
        if self._in_body:
            self._linger()
        else:
            self.transport.close()

    def _linger(self) -> None:
        """Send what was written, and drop what arrives: else a client that is still sending would not read it."""
        self._in_body, self._busy, self._discarding = False, True, True
        self._held, self._parser = [], None
        self._head.clear()
        self.deadline_s = self._loop.time() + connections.LINGER_SECONDS_MAX
        self.flow.resume_reading()
        if self._eof or self._scheme == "https":
            self.transport.close()
        else:
            self.transport.write_eof()

    def _refuse(self, fault: Fault) -> None:
        """Answer with the fault, and read no further request."""
        self._forget_cycle()
        self._turn_away(problem(fault.code, fault.detail, headers=(_CLOSE,)))
        self._linger()

    def _turn_away(self, answer: Answer) -> None:
        """Answer a request that does not reach the gate."""
        self._direct.gate.metrics.turned_away(answer.status)
        if self._head or self._asked is None:
            self._asked = names_of(bytes(self._head))
        self._write(answer.status, answer.headers, b"", answer.body)
