"""A wallet for the unit tests of services: no cluster, no network, and the same decisions, codes and checks.

    def test_an_order_is_paid() -> None:
        with FakeWallet() as wallet:
            wallet.open_account("alice", "USD")
            wallet.transfer("@bank", "alice", "10.00", "USD")
            pay_order(wallet, ...)

The same oracle decides that checks the engine, and the service's own code reads and answers the requests. Each wallet
begins empty.
"""

from contextlib import AbstractContextManager

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from wallet_engine.client.asynchronous import AsyncWallet
from wallet_engine.client.testing.oracle_wallet import OracleWallet
from wallet_engine.client.wallet import Wallet
from wallet_engine.http.application import create_app

_URL = "http://wallet.fake"


class FakeWallet(Wallet):
    """A `Wallet` without a cluster. Close it, or use `with`: it has a thread."""

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
        self._running: AbstractContextManager[BlockingPortal] = start_blocking_portal()
        self._portal = self._running.__enter__()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._handle, request, request.read())

    async def _handle(self, request: httpx.Request, body: bytes) -> httpx.Response:
        asked = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        response = await self._app.handle_async_request(asked)
        return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

    def close(self) -> None:
        self._running.__exit__(None, None, None)
