"""The client for code on an event loop; with `batching`, the single transfers of many coroutines go as batches."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from wallet_engine.client import calls
from wallet_engine.client.calls import Call
from wallet_engine.client.gathering import Gatherer
from wallet_engine.client.http import CONNECTIONS_MAX, LOST, request_of, settings
from wallet_engine.client.tries import DEADLINE_S, Done, Policy, Tries

P = ParamSpec("P")
T = TypeVar("T")


def _sends(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate["AsyncWallet", P], Coroutine[Any, Any, T]]:
    @wraps(build)
    async def method(self: "AsyncWallet", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    return method


class AsyncWallet:
    """`async with AsyncWallet(url, key="wk_…") as wallet: await wallet.transfer("ann", "bob", "1.00", "USD")`.

    Use it on one event loop. Every method may raise `errors.WalletError`.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        batching: bool = False,
        deadline_s: float = DEADLINE_S,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`batching`: up to 1,000 transfers of one 2 ms go in one call, each with its own answer."""
        self._http = httpx.AsyncClient(**settings(url, key, tls), transport=transport)
        self._policy = Policy(deadline_s)
        # The pool of httpx looks at all who wait for a connection whenever one is free: here they wait in a queue.
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._gatherer = Gatherer(self._send) if batching else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._http.base_url} batching={self._gatherer is not None}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send what waits, then close all connections."""
        if self._gatherer is not None:
            await self._gatherer.close()
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Make a call of `calls`, as often as it takes. Raises `errors.WalletError`."""
        if self._gatherer is not None and call.element is not None:
            gathered: Any = await self._gatherer.transfer(call)  # type: ignore[arg-type]
            answer: T = gathered
            return answer
        return await self._send(call)

    async def _send(self, call: Call[T]) -> T:
        clock = asyncio.get_running_loop().time
        tries = Tries(call, self._policy, clock())
        while True:
            try:
                async with self._free:
                    response = await self._http.request(**request_of(call, tries.timeout_s(clock())))
            except LOST as error:
                result: Done[T] | Any = tries.lost(error, clock())
            else:
                result = tries.received(response.status_code, response.headers, response.content, clock())
            if isinstance(result, Done):
                value: T = result.value
                return value
            await asyncio.sleep(result.wait_s)

    async def pages(self, path: str, field: str, **filters: str | int | None) -> AsyncIterator[Any]:
        """Everything in a listing, page by page while there is a `next_cursor`; `field` is where a page has it."""
        cursor: str | None = None
        while True:
            page = await self.send(calls.page(path, **filters, cursor=cursor))
            for item in page[field]:
                yield item
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    open_account = _sends(calls.open_account)
    account = _sends(calls.account)
    balance = _sends(calls.balance)
    patch_account = _sends(calls.patch_account)
    freeze_account = _sends(calls.freeze_account)
    unfreeze_account = _sends(calls.unfreeze_account)
    close_account = _sends(calls.close_account)

    transfer = _sends(calls.transfer)
    transfer_batch = _sends(calls.transfer_batch)
    transfer_group = _sends(calls.transfer_group)
    find_transfer = _sends(calls.find_transfer)
    refund = _sends(calls.refund)

    place_hold = _sends(calls.place_hold)
    hold = _sends(calls.hold)
    capture_hold = _sends(calls.capture_hold)
    increase_hold = _sends(calls.increase_hold)
    void_hold = _sends(calls.void_hold)

    readiness = _sends(calls.readiness)
