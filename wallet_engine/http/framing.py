"""Checks heads of requests before the parser sees them: their size, and text that two programs may read differently.

llhttp (`httptools`) does the framing. This module refuses or removes what llhttp would get wrong. For example, with an
`Upgrade`, which this server never accepts, it would take the body for another request.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

#: Size of the request line and the fields, with their line ends.
HEAD_BYTES_MAX: Final = 16 * 1024
FIELDS_MAX: Final = 64

HEAD_END: Final = b"\r\n\r\n"
#: So many of its bytes may be in what came before.
OVERLAP: Final = len(HEAD_END) - 1

_HTTP2_PREFACE: Final = b"PRI * HTTP/2.0"
_VERSION_WITHOUT_HOST: Final = b" HTTP/1.0"
_VERSIONS: Final = (b" HTTP/1.1", _VERSION_WITHOUT_HOST)
#: Fields that ask for another protocol on this connection.
_OF_UPGRADE: Final = frozenset((b"upgrade", b"http2-settings"))
#: The methods that some path takes, and one that none takes but llhttp knows: it refuses a request with any other.
_TAKEN: Final = tuple(f"{method} ".encode() for method in ("POST", "GET", "HEAD", "PATCH", "DELETE"))
_NOT_TAKEN: Final = b"TRACE "
_other_method: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ").match
_bare_line_end: Final = re.compile(rb"(?<!\r)\n|\r(?!\n)").search


class Fault(NamedTuple):
    """Why a request is not read any further: a code of `problems.KINDS`, and a text for people."""

    code: str
    detail: str


TOO_LARGE: Final = Fault(
    "head_too_large", f"the head of a request has at most {HEAD_BYTES_MAX} bytes and {FIELDS_MAX} fields"
)
NOT_HTTP: Final = Fault("invalid_request", "this is not an HTTP/1.1 request")


def prepare(head: bytes) -> bytes | Fault:
    """A complete head for the parser, without the fields that ask for another protocol; or the `Fault` in it.

    A method that no path takes becomes one that the parser knows, so that the router answers 405 or 404.
    """
    if len(head) > HEAD_BYTES_MAX:
        return TOO_LARGE
    request, *fields = head[: -len(HEAD_END)].split(b"\r\n")
    if len(fields) > FIELDS_MAX:
        return TOO_LARGE
    if request.startswith(_HTTP2_PREFACE):
        return Fault("invalid_request", "HTTP/2 is not supported")
    if not request.endswith(_VERSIONS):
        return NOT_HTTP
    if request.startswith(b"CONNECT "):
        return Fault("invalid_request", "CONNECT is not supported")
    if _bare_line_end(head):
        return Fault("invalid_request", "a line of the head ends in CR or LF alone")
    asked = request
    if not request.startswith(_TAKEN) and (method := _other_method(request)):
        request = _NOT_TAKEN + request[method.end() :]
    hosts, codings, kept = 0, 0, []
    for field in fields:
        if field[:1] in b" \t":
            return Fault("invalid_request", "a field of the head is folded")
        name = field.partition(b":")[0].lower()
        hosts += name == b"host"
        if name == b"transfer-encoding":
            codings += 1 if field.partition(b":")[2].strip().lower() == b"chunked" else 2
        if name == b"connection":
            kept += _without_upgrade(field)
        elif name not in _OF_UPGRADE:
            kept.append(field)
    if codings > 1 or (codings and request.endswith(_VERSION_WITHOUT_HOST)):
        return Fault("invalid_request", "Transfer-Encoding is chunked, once, and of HTTP/1.1")
    if hosts > 1 or (not hosts and not request.endswith(_VERSION_WITHOUT_HOST)):
        return Fault("invalid_request", f"a request has one Host, not {hosts}")
    if request is asked and len(kept) == len(fields):
        return head
    return b"\r\n".join((request, *kept, b"", b""))


def up_to_empty_lines(tail: bytes, data: bytes) -> Iterator[tuple[memoryview, int]]:
    """Parts of `data`, each up to an empty line, and where each ends; `tail`: the `OVERLAP` bytes before.

    The last chunk of a body and its trailers end with an empty line, so the message can only end there. Each byte is
    copied once, however many empty lines there are.
    """
    seen, at = tail + data, len(tail)
    view = memoryview(seen)
    while at < len(seen):
        found = seen.find(HEAD_END, max(0, at - OVERLAP))
        end = len(seen) if found < 0 else found + len(HEAD_END)
        yield view[at:end], end - len(tail)
        at = end


def _without_upgrade(field: bytes) -> list[bytes]:
    """The field `Connection` without `Upgrade`; no field when nothing else is in it."""
    name, _, value = field.partition(b":")
    words = [word.strip() for word in value.split(b",")]
    left = [word for word in words if word.lower() not in _OF_UPGRADE]
    return [field] if len(left) == len(words) else [b"%b: %b" % (name, b", ".join(left))] * bool(left)
