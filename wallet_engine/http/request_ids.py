"""The id by which a request is found again: at its caller, in our logs, in traces. Every answer carries one.

It is the caller's own (`X-Request-Id`), else the trace id of a W3C `traceparent`, else it is made here.
"""

import itertools
import os
import re
from typing import Final, NamedTuple

REQUEST_ID: Final = b"x-request-id"

#: Of an id that a caller gives; a longer one is passed over.
REQUEST_ID_BYTES_MAX: Final = 128

#: What differs from request to request and changes nothing about it: whole lines of a head.
_fields: Final = re.compile(
    rb"\r\n(?:(x-request-id)|traceparent|tracestate):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_request_id: Final = re.compile(
    rb"\r\nx-request-id:[ \t]*([\x21-\x7e]{1,%d})[ \t]*\r\n" % REQUEST_ID_BYTES_MAX, re.IGNORECASE
).search
#: https://www.w3.org/TR/trace-context/#traceparent-header; of a later version, what 00 has stands in front.
_traceparent: Final = re.compile(
    rb"\r\ntraceparent:[ \t]*((?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})"
    rb"(?:-[\x21-\x7e]*)?[ \t]*\r\n",
    re.IGNORECASE,
).search

_prefix: Final = os.urandom(8).hex().encode()
_numbers: Final = itertools.count()


class Names(NamedTuple):
    """What a head says about which request it is."""

    request_id: bytes
    #: As it came, if it is one; else empty.
    traceparent: bytes = b""


def new_request_id() -> bytes:
    """One that no other request has, of this process or of others."""
    return b"%b%08x" % (_prefix, next(_numbers))


def names_of(head: bytes) -> Names:
    """The names in a head, or a new one."""
    trace, named = _traceparent(head), _request_id(head)
    traceparent = b"" if trace is None else trace[1]
    if named is not None:
        return Names(named[1], traceparent)
    return Names(new_request_id() if trace is None else trace[2].lower(), traceparent)


def without_names(head: bytes) -> bytes:
    """The head as it is of other requests of the same caller."""
    return _fields.sub(b"", head)
