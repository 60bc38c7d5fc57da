"""The id of a request: the same for its caller, in our logs and in traces. Every answer has one.

It is the caller's own (`X-Request-Id`), or else the trace id of a W3C `traceparent`, or else it is made here.
"""

import itertools
import os
import re
from typing import Final, NamedTuple

REQUEST_ID: Final = b"x-request-id"

#: Maximum length of a caller's id; a longer one is ignored.
REQUEST_ID_BYTES_MAX: Final = 128

#: The lines of a head that only name a request: they differ between requests that are otherwise equal.
_fields: Final = re.compile(
    rb"\r\n(?:(x-request-id)|traceparent|tracestate):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*(?=\r\n)",
    re.IGNORECASE,
)
_request_id: Final = re.compile(
    rb"\r\nx-request-id:[ \t]*([\x21-\x7e]{1,%d})[ \t]*\r\n" % REQUEST_ID_BYTES_MAX, re.IGNORECASE
).search
#: https://www.w3.org/TR/trace-context/#traceparent-header; later versions begin with the fields of version 00.
_traceparent: Final = re.compile(
    rb"\r\ntraceparent:[ \t]*((?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})"
    rb"(?:-[\x21-\x7e]*)?[ \t]*\r\n",
    re.IGNORECASE,
).search

_prefix: Final = os.urandom(8).hex().encode()
_made: Final = b"x-request-id: %b%%08x\r\n\r\n" % _prefix


class Names(NamedTuple):
    """The names that a head gives its request."""

    request_id: bytes
    #: As received, if it is valid; else empty.
    traceparent: bytes = b""


#: A request without a name needs only a number: it becomes an id in the answer, and elsewhere only if it is logged.
Asked = Names | int

#: A number for a request, unique in this process.
new_number: Final = itertools.count(1).__next__


def request_id_of(asked: Asked) -> bytes:
    """The id of a request. A number becomes an id that is unique beyond this process."""
    return b"%b%08x" % (_prefix, asked) if isinstance(asked, int) else asked.request_id


def header_line(asked: Asked) -> bytes:
    """The header line, as the last one of a head, with the empty line."""
    return _made % asked if isinstance(asked, int) else b"x-request-id: %b\r\n\r\n" % asked.request_id


def names_of(head: bytes) -> Asked:
    """The names in a head, or a number when there are none."""
    trace, named = _traceparent(head), _request_id(head)
    if trace is None:
        return new_number() if named is None else Names(named[1])
    return Names(trace[2].lower() if named is None else named[1], trace[1])


def without_names(head: bytes) -> bytes:
    """The head without these lines: it is equal for many requests of the same caller."""
    return _fields.sub(b"", head)
