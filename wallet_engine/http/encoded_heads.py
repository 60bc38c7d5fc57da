"""Encoded heads of answers."""

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from wallet_engine.http.problems import Headers


class EncodedHeads:
    """Caches encoded heads without the lines unique to one answer: the same few are sent until the date changes."""

    def __init__(self) -> None:
        self._default_headers: list[tuple[bytes, bytes]] = []
        self._heads: dict[tuple[int, Headers], bytes] = {}

    def __repr__(self) -> str:
        return f"<EncodedHeads {len(self._heads)}>"

    def head(self, status: int, headers: Headers, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of an answer with these headers, encoded as uvicorn does, without the empty line."""
        if default_headers is not self._default_headers:
            self._default_headers = default_headers
            self._heads.clear()
        head = self._heads.get((status, headers))
        if head is None:
            lines = [b"%b: %b\r\n" % header for header in (*default_headers, *headers)]
            head = self._heads[status, headers] = b"".join((STATUS_LINE[status], *lines))
        return head
