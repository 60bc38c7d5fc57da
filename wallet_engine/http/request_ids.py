"""The id of a request, the same at its caller, in our logs and in traces. Every answer carries one.

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
_made: Final = b"x-request-id: %b%%08x\r\n\r\n" % _prefix


class Names(NamedTuple):
    """What a head says about which request it is."""

    request_id: bytes
    #: As it came, if it is one; else empty.
    traceparent: bytes = b""


#: Of a request that is not named, the number is enough: most numbers are seen by nobody but who gets the answer.
Asked = Names | int

#: The number of a request; no other of this process has it.
new_number: Final = itertools.count(1).__next__


def request_id_of(asked: Asked) -> bytes:
    """Of a number, an id that no request has elsewhere either."""
    return b"%b%08x" % (_prefix, asked) if isinstance(asked, int) else asked.request_id


def header_line(asked: Asked) -> bytes:
    """As the last one of a head, with the empty line."""
    return _made % asked if isinstance(asked, int) else b"x-request-id: %b\r\n\r\n" % asked.request_id


def names_of(head: bytes) -> Asked:
    """The names in a head, or a number where there is none."""
    trace, named = _traceparent(head), _request_id(head)
    if trace is None:
        return new_number() if named is None else Names(named[1])
    return Names(trace[2].lower() if named is None else named[1], trace[1])


def without_names(head: bytes) -> bytes:
    """The head as it is of other requests of the same caller."""
    return _fields.sub(b"", head)
