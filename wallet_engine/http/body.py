"""Reads the bodies of requests within limits: 4 MiB each, and a limit on all that are partly received (G10)."""

import asyncio
from typing import Final

from starlette.types import Receive, Scope

from wallet_engine.domain.limits import BODY_BYTES_MAX
from wallet_engine.http.problems import Refused

#: How long the parts of a body may take after the first one.
BODY_SECONDS_MAX: Final = 30.0
#: Minimum rate at which a body must arrive, and the time after which that is checked: also that of its first byte.
BYTES_PER_S_MIN: Final = 1000
SLOW_SECONDS: Final = 5.0

#: Total bytes reserved for bodies that are arriving in more than one part.
BODIES_BYTES_MAX: Final = 256 * 1024 * 1024


class ClientGone(Exception):
    """The client hung up before its request was complete: nothing was done, and there is nobody to answer."""


class BodyReader:
    """Reads bodies, and counts the bytes reserved for those that are still arriving."""

    def __init__(self, bytes_max: int = BODIES_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes_reserved = 0

    def __repr__(self) -> str:
        return f"<BodyReader bytes_reserved={self._bytes_reserved}>"

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body. Raises `Refused` (too large, too slow, overloaded) and `ClientGone`."""
        length = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                # Refused before the first byte is asked for: `Expect: 100-continue` then sends none.
                length = int(value[:20]) if value.isdigit() else None
                if length is not None and length > BODY_BYTES_MAX:
                    raise _too_large()
        try:
            async with asyncio.timeout(SLOW_SECONDS):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        if message["type"] != "http.request":
            raise ClientGone
        first: bytes = message.get("body", b"")
        if len(first) > BODY_BYTES_MAX:
            raise _too_large()
        if not message.get("more_body", False):
            return first
        return await self._read_rest(first, BODY_BYTES_MAX if length is None else length, receive)

    async def _read_rest(self, first: bytes, bytes_expected: int, receive: Receive) -> bytes:
        if self._bytes_reserved + bytes_expected > self._bytes_max:
            raise Refused("overloaded", "too many large requests are arriving at once")
        self._bytes_reserved += bytes_expected
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            body = bytearray(first)
            while True:
                # So far it was fast enough; if the next part comes later than this, it is too slow.
                due_s = began_s + min(BODY_SECONDS_MAX, SLOW_SECONDS + len(body) / BYTES_PER_S_MIN)
                async with asyncio.timeout_at(due_s):
                    message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                body += message.get("body", b"")
                if len(body) > BODY_BYTES_MAX:
                    raise _too_large()
                if not message.get("more_body", False):
                    return bytes(body)
        except TimeoutError:
            raise _too_slow() from None
        finally:
            self._bytes_reserved -= bytes_expected


def _too_large() -> Refused:
    # The connection stays open: a client that is still sending would otherwise see a reset, not this answer.
    return Refused("request_too_large", f"a body has at most {BODY_BYTES_MAX} bytes")


def _too_slow() -> Refused:
    return Refused(
        "request_timeout",
        f"the body took longer than {BODY_SECONDS_MAX:.0f} s, or came slower than {BYTES_PER_S_MIN} B/s",
        headers=((b"connection", b"close"),),
    )
