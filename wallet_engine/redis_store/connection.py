"""One pipelined connection to one Redis node, on hiredis: the write path.

Nothing is ever retried here. A command was either never sent (`NotSent`), answered (a reply, or a
`hiredis.ReplyError` value), or lost with the connection (`ConnectionLost`: it may have run).
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, cast

import hiredis

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import WalletError
from wallet_engine.redis_store.login import login
from wallet_engine.redis_store.refusals import hindrance_of
from wallet_engine.telemetry.logging import get_logger

#: Commands sent and not yet answered on one connection.
COMMANDS_IN_FLIGHT_MAX: Final = 4096
CONNECT_TIMEOUT_S: Final = 2.0
#: If a node answers nothing for this long, the connection is closed; the outcome of its commands is unknown.
REPLY_TIMEOUT_S: Final = 5.0

Word = str | int | bytes
Reply = Any
Callback = Callable[[Reply], None]

log = get_logger(__name__)


def pack(words: Iterable[Word]) -> bytes:
    """A command in the form of the Redis protocol."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]  # its stub asks for one word
    return packed


class NotSent(WalletError):
    """The command was not sent: no connection, or too many commands in flight."""


class ConnectionLost(WalletError):
    """The connection broke before the reply came: it is not known whether the command ran."""


class NotAdmitted(ConnectionError):
    """The node answers, but does not accept our login or TLS."""


class Connection(asyncio.Protocol):
    """Commands go out in order, replies come back in order; each reply is handed to its command's callback."""

    def __init__(self, address: str, on_lost: Callable[["Connection"], None]) -> None:
        self.address = address
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Callback] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._answered_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._watchdog: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        state = "open" if self._transport else "closed"
        return f"<Connection {self.address} {state} in_flight={len(self._waiting)}>"

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    @property
    def in_flight(self) -> int:
        return len(self._waiting)

    @classmethod
    async def open(cls, address: str, on_lost: Callable[["Connection"], None]) -> "Connection":
        """Connect to `host:port` with the login of this process. Raises OSError (`NotAdmitted`) or TimeoutError."""
        host, port = split_address(address)
        loop = asyncio.get_running_loop()
        entering = login()
        tls = entering.tls()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: cls(address, on_lost), host, port, ssl=tls
                )
                if words := entering.auth():
                    await connection._enter(words)
        except TimeoutError:
            what = "a connection" if tls is None else "a TLS connection"
            raise TimeoutError(f"{address} has not taken {what} within {CONNECT_TIMEOUT_S:g} s") from None
        except ssl.SSLError as error:
            raise NotAdmitted(f"Redis at {address} {hindrance_of(error).text}") from None
        return connection

    async def _enter(self, words: Sequence[Word]) -> None:
        try:
            await self.call(*words)
        except BaseException as error:
            self.close()
            if isinstance(error, hiredis.ReplyError | ConnectionLost | NotSent):
                raise NotAdmitted(f"Redis at {self.address} {hindrance_of(error).text}") from None
            raise

    def send(self, command: bytes, callback: Callback) -> None:
        """Queue one packed command; `callback` gets the reply, a `ReplyError` or `ConnectionLost`."""
        if self._transport is None or len(self._waiting) >= COMMANDS_IN_FLIGHT_MAX:
            raise NotSent(f"{self!r} takes no command")
        if not self._waiting:
            self._answered_s = self._loop.time()
        self._waiting.append(callback)
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent.append(command)

    def flush(self) -> None:
        """Write all commands of this turn of the loop in one system call.

        The loop also calls it at its end.
        """
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None:
            self._transport.write(b"".join(unsent) if len(unsent) > 1 else unsent[0])

    async def call(self, *words: Word) -> Reply:
        """Send one command and wait for its reply. Raises `NotSent`, `ConnectionLost` or `ReplyError`."""
        future: asyncio.Future[Reply] = self._loop.create_future()

        def resolve(reply: Reply) -> None:
            if future.done():
                return
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

        self.send(pack(words), resolve)
        return await future

    async def call_all(self, commands: Sequence[bytes]) -> list[Reply]:
        """Send packed commands together. Returns the replies in order, errors as values. Raises `NotSent`."""
        replies: list[Reply] = []
        if not commands:
            return replies
        answered: asyncio.Future[None] = self._loop.create_future()

        def collect_last(reply: Reply) -> None:
            replies.append(reply)
            if not answered.done():
                answered.set_result(None)

        for command in commands[:-1]:
            self.send(command, replies.append)
        self.send(commands[-1], collect_last)
        await answered
        return replies

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not a subclass
        self._watch()

    def data_received(self, data: bytes) -> None:
        self._answered_s = self._loop.time()
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                waiting.popleft()(reply)
        except (hiredis.ProtocolError, IndexError):
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._watchdog is not None:
            self._watchdog.cancel()
        lost = ConnectionLost(f"connection to {self.address} lost: {exc or 'closed'}")
        lost.__cause__ = exc
        waiting, self._waiting = self._waiting, deque()
        for callback in waiting:
            try:
                callback(lost)
            except Exception:
                # A bug in one of them must not leave the others, or a reconnect, waiting for ever.
                log.exception("the loss of a connection was not taken", connection=repr(self))
        self._on_lost(self)

    def _watch(self) -> None:
        if self._waiting and self._loop.time() - self._answered_s > REPLY_TIMEOUT_S:
            self.close()
        else:
            self._watchdog = self._loop.call_later(REPLY_TIMEOUT_S / 4, self._watch)
