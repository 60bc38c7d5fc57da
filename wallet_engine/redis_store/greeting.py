"""What a node that closes connections says to a client: plain Redis, protected mode, TLS, or nothing.

Protected mode answers on connecting and closes at once. A client that sends first, as redis-py does, mostly loses that
answer to a reset. So this connects again, and listens before it says anything.
"""

import socket
import ssl
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from wallet_engine.domain.addresses import split_address
from wallet_engine.redis_store.refusals import Hindrance, Obstacle, hindrance_of, is_broken_off

#: A node that has something to say on connecting says it within this; TLS and a PING have as long.
GREETING_S_MAX: Final = 0.5
_BYTES_MAX: Final = 200


class Speech(Enum):
    PLAIN = auto()
    PROTECTED = auto()
    TLS = auto()
    NOTHING = auto()


def hindrance_at(address: str, error: BaseException) -> Hindrance:
    """`hindrance_of`, after another look at a node that has broken off, or where TLS failed."""
    found = hindrance_of(error)
    if found.obstacle is Obstacle.TLS:
        speech = speech_of(address)
        if speech is Speech.PROTECTED:
            return Hindrance(Obstacle.PROTECTED, Obstacle.PROTECTED)
        if speech is Speech.PLAIN:
            return Hindrance(
                Obstacle.TLS,
                f"speaks no TLS: leave --redis-ca out, or give the node a tls-port ({found.text})",
            )
    if found.obstacle is Obstacle.SILENT and is_broken_off(error):
        speech = speech_of(address)
        if speech is Speech.PROTECTED:
            return Hindrance(Obstacle.PROTECTED, Obstacle.PROTECTED)
        if speech is Speech.TLS:
            return Hindrance(
                Obstacle.TLS, "speaks TLS only: give --redis-ca, and --redis-cert with --redis-key"
            )
    return found


def speech_of(address: str) -> Speech:
    """Asks up to three times, with a connection each."""
    said = _heard(address, b"")
    if said.startswith(b"-DENIED"):
        return Speech.PROTECTED
    if _shakes_hands(address):
        return Speech.TLS
    # `+PONG`, or an error of Redis.
    return Speech.PLAIN if _heard(address, b"PING\r\n").startswith((b"+", b"-")) else Speech.NOTHING


def _heard(address: str, first: bytes) -> bytes:
    with suppress(OSError), socket.create_connection(split_address(address), GREETING_S_MAX) as link:
        link.sendall(first)
        return link.recv(_BYTES_MAX)
    return b""


def _shakes_hands(address: str) -> bool:
    """Whether there is TLS behind it, also one that wants a certificate of us. Nothing is sent by it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), socket.create_connection(split_address(address), GREETING_S_MAX) as link:
        try:
            context.wrap_socket(link).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        return True
    return False
