"""A receiver of webhooks that answers as told: at once, late, wrongly, never. It keeps what it got, in order."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec


@dataclass(slots=True)
class Received:
    """One request; names of headers in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        document: dict[str, Any] = msgspec.json.decode(self.body)
        return document


#: Request -> head and body of the answer; None closes the connection without an answer.
Behaviour = Callable[[Received], Awaitable[bytes | None]]


def status(code: int, *headers: str) -> Behaviour:
    """Answers with this status at once."""

    async def answer(received: Received) -> bytes | None:
        return "\r\n".join([f"HTTP/1.1 {code} Told", "Content-Length: 0", *headers, "", ""]).encode()

    return answer


async def never(received: Received) -> bytes | None:
    await asyncio.Event().wait()
    return None


async def hang_up(received: Received) -> bytes | None:
    return None


@dataclass
class WebhookServer:
    """`behaviours` by path, without the query; any other is answered 204. Use it as an async context."""

    behaviours: dict[str, Behaviour] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        """The requests to a path."""
        return [received for received in self.received if received.path == path]

    async def until(self, count: int, path: str, timeout_s: float = 30) -> list[Received]:
        """The requests to a path, once there are `count`."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.at(path)) >= count)
        return self.at(path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (received := await _read(reader)) is not None:
                self.received.append(received)
                async with self._changed:
                    self._changed.notify_all()
                behaviour = self.behaviours.get(received.path, status(204))
                answer = await behaviour(received)
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # they hung up, or the server ends
        finally:
            self._tasks.discard(task)
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Received(first.split(" ")[1].partition("?")[0], headers, body)
