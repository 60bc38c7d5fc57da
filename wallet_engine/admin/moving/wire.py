"""One connection to one Redis node that sends many commands in one round trip.

A move must mix ASKING, WATCH and MULTI with other commands, at one round trip per few hundred fields. Pipelines of
redis-py cannot do that.
"""

import socket
from collections.abc import Sequence
from typing import Any, Final

import hiredis

from wallet_engine.domain.addresses import split_address
from wallet_engine.domain.errors import WalletError
from wallet_engine.redis_store.connection import Word, pack
from wallet_engine.redis_store.login import login
from wallet_engine.redis_store.refusals import Obstacle, hindrance_of

CONNECT_S_MAX: Final = 2.0
REPLY_S_MAX: Final = 5.0
_READ_BYTES: Final = 256 * 1024

Command = Sequence[Word]


class Setback(WalletError):
    """The attempt failed because a node went away or was recovered meanwhile. Start the copy again."""


class Wire:
    """Sends commands and returns replies, in order. Never reconnects: a copy that lost its node starts again."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._reader = hiredis.Reader(replyError=hiredis.ReplyError)
        try:
            self._socket = _connected(address)
        except OSError as error:
            raise Setback(f"Redis at {address} {hindrance_of(error).text}") from None
        if words := login().auth():
            try:
                self.call(*words)
            except BaseException:
                self.close()
                raise

    def __repr__(self) -> str:
        return f"<Wire {self.address}>"

    def close(self) -> None:
        self._socket.close()

    def batch(self, commands: Sequence[Command]) -> list[Any]:
        """All replies, in order; an error reply is a `hiredis.ReplyError` among them. Raises `Setback`."""
        try:
            self._socket.sendall(b"".join(map(pack, commands)))
            replies = []
            for _ in commands:
                while (reply := self._reader.gets()) is False:
                    data = self._socket.recv(_READ_BYTES)
                    if not data:
                        raise Setback(f"Redis at {self.address} has closed the connection")
                    self._reader.feed(data)
                replies.append(reply)
        except (OSError, hiredis.ProtocolError) as error:
            raise Setback(f"Redis at {self.address} {hindrance_of(error).text}") from None
        return replies

    def call(self, *words: Word) -> Any:
        """The reply to one command. Raises `Setback`, also for an error reply."""
        [reply] = self.batch([words])
        return self.checked(reply)

    def checked(self, reply: Any) -> Any:
        """The reply. Raises `Setback` when it is an error."""
        if isinstance(reply, hiredis.ReplyError):
            raise Setback(_refused(self.address, reply))
        return reply


def _connected(address: str) -> socket.socket:
    """Raises OSError."""
    target = split_address(address)
    tls = login().tls()
    plain = socket.create_connection(target, timeout=CONNECT_S_MAX)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = plain if tls is None else tls.wrap_socket(plain, server_hostname=target[0])
    except BaseException:
        plain.close()
        raise
    link.settimeout(REPLY_S_MAX)
    return link


def _refused(address: str, reply: hiredis.ReplyError) -> str:
    hindrance = hindrance_of(reply)
    said = f": {reply}" if hindrance.obstacle is Obstacle.SILENT else f" {hindrance.text}"
    return f"Redis at {address}{said}"
