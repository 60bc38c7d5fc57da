"""One attempt: a POST and its outcome. Redirects are not followed; proxies are not used."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, Final

import httpcore

from wallet_engine.domain.errors import text_of
from wallet_engine.webhooks.addresses import Unreachable, resolve
from wallet_engine.webhooks.reply import Reply

#: Maximum time for an answer; a later one does not count.
ANSWER_S_MAX: Final = 10.0
#: Maximum deliveries to one endpoint at a time, each of another account.
AT_ONCE_MAX: Final = 16
_IDLE_S_MAX: Final = 30.0
#: Bytes read of an answer's body, so that the connection can be reused; a longer body ends it.
_READ_BYTES_MAX: Final = 16 * 1024

_HTTP_ERRORS: Final = (
    *(httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError),
    *(httpcore.UnsupportedProtocol, httpcore.ConnectionNotAvailable),
)


class Sender:
    """The connections to one endpoint, shared with no other. Close it after use."""

    def __init__(self, *, allow_private: bool, answer_s_max: float = ANSWER_S_MAX) -> None:
        self._answer_s_max = answer_s_max
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)
        self._names = ThreadPoolExecutor(1, thread_name_prefix="webhook-names")
        context, backend = ssl.create_default_context(), _Pinned(allow_private, self._names)
        # Each connection has its own pool, because a pool checks all its connections, twice, for each
        # request. The pool has no limit: a request that is given up while it waits in a pool keeps its
        # connection for ever.
        self._free = [
            httpcore.AsyncConnectionPool(
                ssl_context=context,
                max_connections=None,
                max_keepalive_connections=1,
                keepalive_expiry=_IDLE_S_MAX,
                network_backend=backend,
            )
            for _ in range(AT_ONCE_MAX)
        ]
        self._pools = tuple(self._free)

    def __repr__(self) -> str:
        return f"<Sender under_way={AT_ONCE_MAX - len(self._free)}>"

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Send the request once; at most `AT_ONCE_MAX` run at a time."""
        async with self._turns:
            pool = self._free.pop()
            try:
                return await self._post(pool, url, headers, body)
            finally:
                self._free.append(pool)

    async def _post(
        self, pool: httpcore.AsyncConnectionPool, url: str, headers: Mapping[str, str], body: bytes
    ) -> Reply:
        status: int | None = None
        try:
            async with asyncio.timeout(self._answer_s_max):
                async with pool.stream("POST", url, headers=list(_bytes(headers)), content=body) as answer:
                    status = answer.status
                    read = 0
                    async for piece in answer.aiter_stream():
                        read += len(piece)
                        if read > _READ_BYTES_MAX:
                            break
        except TimeoutError:
            if status is None:
                return Reply(None, f"no answer within {self._answer_s_max:g} s")
        except (Unreachable, OSError, ssl.SSLError, *_HTTP_ERRORS) as error:
            if status is None:
                return Reply(None, text_of(error)[:200])
        return Reply(status)

    async def close(self) -> None:
        self._names.shutdown(wait=False, cancel_futures=True)
        for pool in self._pools:
            await pool.aclose()


def _bytes(headers: Mapping[str, str]) -> Iterable[tuple[bytes, bytes]]:
    return ((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to an address checked just before.

    TLS still checks the name, which httpcore passes separately.
    """

    def __init__(self, allow_private: bool, names: Executor) -> None:
        """Host names are looked up in the thread `names`."""
        self._allow_private = allow_private
        self._names = names
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        last: Exception = Unreachable(f"{host} has no address")
        for address in await resolve(host, port, self._names, allow_private=self._allow_private):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
