"""Finds requests of which only the head must be parsed: those that arrive in one piece, with a body of known length."""

from collections.abc import Iterable
from typing import Final, NamedTuple

import httptools

from wallet_engine.http import framing
from wallet_engine.http.framing import FIELDS_MAX, HEAD_END, Fault, prepare
from wallet_engine.http.media import media_type, taken
from wallet_engine.http.request_ids import Asked, names_of, without_names

TRANSFER_PATH: Final = "/v1/wallet/balance_transfer"

#: Number of heads that are remembered, and their maximum length: clients send the same ones again and again.
HEADS_MAX: Final = 1_000
HEAD_BYTES_MAX: Final = 2_000

#: Headers that ask for more than a normal answer.
_SPECIAL: Final = frozenset((b"expect", b"transfer-encoding", b"upgrade"))


class Head(NamedTuple):
    """The parsed content of such a head."""

    body_bytes: int
    idempotency_key: str | None
    #: The header `Authorization`.
    authorization: bytes | None
    #: Its media type is not JSON; such a body is only taken from this machine.
    local_only: bool = False
    #: The ids that the request asks for; None without any.
    names: Asked | None = None
    path: str = TRANSFER_PATH
    #: All headers; empty for a single transfer, which needs none of them.
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Heads:
    """Reads heads with the same parser as all other requests, and remembers them."""

    def __init__(self, paths: Iterable[str] = (TRANSFER_PATH,)) -> None:
        """`paths`: those that take a `POST`."""
        self._request_lines = tuple(f"POST {path} HTTP/1.1\r\n".encode() for path in paths)
        self._known: dict[bytes, Head | None] = {}

    def __repr__(self) -> str:
        return f"<Heads known={len(self._known)}>"

    def split(self, data: bytes) -> tuple[Head, bytes] | None:
        """Head and body when `data` is one such request; else None."""
        if not data.startswith(self._request_lines):
            return None
        start = data.find(HEAD_END) + len(HEAD_END)
        text = data[:start]
        head = self._known[text] if text in self._known else self._read(text)
        if head is None or head.body_bytes != len(data) - start:
            return None
        return head, data[start:]

    def _read(self, text: bytes) -> Head | None:
        bare = without_names(text)
        if len(bare) < len(text):  # not remembered: no other request has the same head
            if len(text) > framing.HEAD_BYTES_MAX or text.count(b"\r\n") > FIELDS_MAX + 2:
                return None
            head = self._known[bare] if bare in self._known else self._read(bare)
            return head and head._replace(names=names_of(text))
        head = read_head(text)
        if len(text) <= HEAD_BYTES_MAX and (head is None or head.idempotency_key is None):
            if len(self._known) >= HEADS_MAX:
                self._known.clear()
            self._known[text] = head
        return head


def read_head(text: bytes) -> Head | None:
    """The head of a request; None when it is incomplete, invalid, or asks for more than a normal answer."""
    if isinstance(prepare(text), Fault) or not text.endswith(HEAD_END):
        return None
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(text)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    lengths, keys = _values(reader, b"content-length"), _values(reader, b"idempotency-key")
    authorizations = _values(reader, b"authorization")
    if (
        not reader.complete
        or not parser.should_keep_alive()
        or any(name in _SPECIAL for name, _ in reader.headers)
        or len(lengths) != 1
        or not lengths[0].isdigit()
        or len(keys) > 1
        or len(authorizations) > 1
    ):
        return None
    body_is_taken = taken(
        media_type(_values(reader, b"content-type")), has_origin=bool(_values(reader, b"origin"))
    )
    if body_is_taken is False:
        return None
    key = keys[0].decode("latin-1").strip() if keys else None
    authorization = authorizations[0] if authorizations else None
    path = reader.url.decode()
    headers = () if path == TRANSFER_PATH else tuple(reader.headers)
    return Head(
        int(lengths[0]), key, authorization, local_only=body_is_taken is None, path=path, headers=headers
    )


def _values(reader: "_Reader", name: bytes) -> list[bytes]:
    return [value for each, value in reader.headers if each == name]


class _Reader:
    """The callbacks of the parser."""

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self.url = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True
