"""Finds out what a node that closes connections speaks: plain Redis, protected mode, TLS, or nothing.

In protected mode a node sends an error on connecting and closes at once. A client that sends first, as
redis-py does, usually gets a reset instead of that error. So this code connects again, and listens before it
sends anything.
"""

import socket
import ssl
from contextlib import suppress
from enum import Enum, auto
from typing import Final

from wallet_engine.domain.addresses import split_address
from wallet_engine.redis_store.refusals import Hindrance, Obstacle, hindrance_of, is_broken_off

#: How long to wait for a message that a node sends on connecting; also for TLS and for a PING.
GREETING_S_MAX: Final = 0.5
_BYTES_MAX: Final = 200


class Speech(Enum):
    PLAIN = auto()
    PROTECTED = auto()
    TLS = auto()
    NOTHING = auto()


def hindrance_at(address: str, error: BaseException) -> Hindrance:
    """`hindrance_of`, with another check of a node that broke off the connection or where TLS failed."""
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
    """What the node speaks. Opens up to three connections."""
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
    """Whether the node speaks TLS, even if it wants a certificate from us. Sends no data."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), socket.create_connection(split_address(address), GREETING_S_MAX) as link:
        try:
            context.wrap_socket(link).close()
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")
        return True
    return False
