"""A small HTTP/1.1 client for tests: keep-alive connections, one per request in flight, no retries.

httpx spends milliseconds of CPU per request once it has hundreds of connections; that is the cluster's CPU here.
"""

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

#: `host:port` of a server that wants a key -> the key.
KEYS: Final[dict[str, str]] = {}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class NoReply(Exception):
    """The connection broke, or the time ran out, before the whole reply came."""

    def __init__(self, what: str, *, sent: bool = True) -> None:
        super().__init__(what)
        #: Whether the request was sent at all; it is not when nothing listens there.
        self.sent = sent


class HttpClient:
    """`async with HttpClient() as http: await http.post(url, {...})`."""

    def __init__(self, timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._idle: dict[tuple[str, int], list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connections in self._idle.values():
            for _, writer in connections:
                writer.close()
        await asyncio.sleep(0)

    async def get(self, url: str) -> Reply:
        return await self.request("GET", url, b"")

    async def post(self, url: str, document: Any = None, headers: dict[str, str] | None = None) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        return await self.request("POST", url, body, headers)

    async def request(
        self, method: str, url: str, body: bytes, headers: dict[str, str] | None = None
    ) -> Reply:
        """Raises `NoReply`."""
        parts = urlsplit(url)
        address = (parts.hostname or "", parts.port or 80)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
        if parts.netloc in KEYS:
            lines.append(f"Authorization: Bearer {KEYS[parts.netloc]}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        ending: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                idle = self._idle.setdefault(address, [])
                # Drop idle connections that the server has ended, as any pool does before it sends.
                while idle and idle[-1][0].at_eof():
                    idle.pop()[1].close()
                reader, writer = idle.pop() if idle else await asyncio.open_connection(*address)
                ending = writer
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
                reply = await _read(reader)
            if reply.headers.get("connection") != "close":
                ending = None
                idle.append((reader, writer))
            return reply
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            raise NoReply(f"{method} {url}: {error!r}", sent=ending is not None) from None
        finally:  # also of a request that is cancelled
            if ending is not None:
                ending.close()


async def _read(reader: asyncio.StreamReader) -> Reply:
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Reply(int(status_line.split(" ")[1]), headers, body)
