"""A wallet for the unit tests of services: no cluster, no network, and the same decisions, codes and checks.

    def test_an_order_is_paid() -> None:
        with FakeWallet() as wallet:
            wallet.open_account("alice", "USD")
            wallet.transfer("@bank", "alice", "10.00", "USD")
            pay_order(wallet, ...)

The same oracle decides that checks the engine, and the service's own code reads and answers the requests. Each wallet
begins empty.
"""

import asyncio
from threading import Thread

import httpx

from wallet_engine.client.asynchronous import AsyncWallet
from wallet_engine.client.testing.oracle_wallet import OracleWallet
from wallet_engine.client.wallet import Wallet
from wallet_engine.http.application import create_app

_URL = "http://wallet.fake"


class FakeWallet(Wallet):
    """A `Wallet` without a cluster. `with` or `close` ends its thread; a program may also end without either."""

    def __init__(self) -> None:
        self.oracle = OracleWallet()
        self._transport = _InProcess(self.oracle)
        super().__init__(_URL, transport=self._transport)

    def advance(self, seconds: float) -> None:
        """Let time pass: holds may expire."""
        self.oracle.ahead_ms += round(seconds * 1000)


class AsyncFakeWallet(AsyncWallet):
    """An `AsyncWallet` without a cluster."""

    def __init__(self, *, batching: bool = False) -> None:
        self.oracle = OracleWallet()
        super().__init__(
            _URL,
            batching=batching,
            transport=httpx.ASGITransport(create_app(self.oracle)),
        )

    def advance(self, seconds: float) -> None:
        """Let time pass: holds may expire."""
        self.oracle.ahead_ms += round(seconds * 1000)


class _InProcess(httpx.BaseTransport):
    """Runs the application on an event loop in its own thread, so that callers with or without a loop can use it."""

    def __init__(self, oracle: OracleWallet) -> None:
        self._app = httpx.ASGITransport(create_app(oracle))
        self._loop = asyncio.new_event_loop()
        # At its end Python waits for a thread that is no daemon: a test run never ended after a test without `close`.
        self._thread = Thread(target=self._loop.run_forever, name="FakeWallet", daemon=True)
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        handling = self._handle(request, request.read())
        return asyncio.run_coroutine_threadsafe(handling, self._loop).result()

    async def _handle(self, request: httpx.Request, body: bytes) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        response = await self._app.handle_async_request(asked)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
