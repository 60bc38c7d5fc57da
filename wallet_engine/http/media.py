"""Which media types a posted body may have, so that no page in a browser can post one.

A browser sends `application/json` to another site only after a preflight request, which this server never allows. What
it sends without one has other types, or none, and names its `Origin`. curl calls every body a form: this is accepted on
this machine without an `Origin`, and so is a body of no type.
"""

from collections.abc import Iterable
from typing import Final

from wallet_engine.http.gate import Peer
from wallet_engine.http.problems import Refused

JSON: Final = b"application/json"
#: What curl says of a body, and what a client says that knows of no types.
_PLAIN: Final = (b"application/x-www-form-urlencoded", b"")


def media_type(content_types: list[bytes]) -> bytes:
    """The type without its parameters; of none, an empty one; of several, one that nobody takes."""
    return (
        content_types[0].partition(b";")[0].strip().lower()
        if len(content_types) == 1
        else b"," * len(content_types)
    )


def taken(media: bytes, *, has_origin: bool) -> bool | None:
    """Whether a body of this type is taken; None: from this machine alone."""
    if media == JSON:
        return True
    return None if media in _PLAIN and not has_origin else False


def check_media(headers: Iterable[tuple[bytes, bytes]], peer: Peer) -> None:
    """Raises `Refused` for a request that is no GET, and whose body nobody should take."""
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
