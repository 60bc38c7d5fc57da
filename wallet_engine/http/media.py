"""Checks the media types of posted bodies, so that no page in a browser can post one.

A browser sends `application/json` to another site only after a preflight request, which this server never allows.
Without a preflight it sends other types, or none, and names its `Origin`. curl labels every body as a form. Such a
body, or one without a type, is accepted from this machine if there is no `Origin`.
"""

from collections.abc import Iterable
from typing import Final

from wallet_engine.http.gate import Peer
from wallet_engine.http.problems import Refused

JSON: Final = b"application/json"
#: The type that curl sends by default, and no type.
_PLAIN: Final = (b"application/x-www-form-urlencoded", b"")


def media_type(content_types: list[bytes]) -> bytes:
    """The type without its parameters; empty for no header, and an invalid type for several."""
    return (
        content_types[0].partition(b";")[0].strip().lower()
        if len(content_types) == 1
        else b"," * len(content_types)
    )


def taken(media: bytes, *, has_origin: bool) -> bool | None:
    """Whether a body of this type is accepted; None: only from this machine."""
    if media == JSON:
        return True
    return None if media in _PLAIN and not has_origin else False


def check_media(headers: Iterable[tuple[bytes, bytes]], peer: Peer) -> None:
    """Raises `Refused` for a request, other than GET, whose body must not be accepted."""
    types, has_origin, has_body = [], False, False
    for name, value in headers:
        if name == b"content-type":
            types.append(value)
        elif name == b"origin":
            has_origin = True
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0"):
            has_body = True
    answer = taken(media_type(types), has_origin=has_origin)
    refused = answer is False or (answer is None and not peer.is_local)
    if refused and (has_body or has_origin):
        raise Refused("unsupported_media_type", "the body of a request is application/json")
