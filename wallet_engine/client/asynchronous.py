"""The asyncio client. With `batching` it sends single transfers of many coroutines as batches."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from wallet_engine.client import calls, calls_events, calls_past
from wallet_engine.client.calls import Call, Page, next_page
from wallet_engine.client.gathering import Gatherer
from wallet_engine.client.http import CONNECTIONS_MAX, LOST, UNREACHED, request_of, settings
from wallet_engine.client.tries import DEADLINE_S, Done, Policy, Tries, now_s
from wallet_engine.client.types import Hold
from wallet_engine.client.types_events import Delivery, Event
from wallet_engine.client.types_past import PastTransfer, Transaction

P = ParamSpec("P")
T = TypeVar("T")


def _sends(
    build: Callable[P, Call[T]],
) -> Callable[Concatenate["AsyncWallet", P], Coroutine[Any, Any, T]]:
    @wraps(build)
    async def method(self: "AsyncWallet", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.send(build(*args, **kwargs))

    return method


def _walks(
    build: Callable[P, Call[Any]], _item: type[T]
) -> Callable[Concatenate["AsyncWallet", P], AsyncIterator[T]]:
    """A method that iterates over all items of a listing. It fetches a page when the one before is used up."""

    @wraps(build)
    async def method(self: "AsyncWallet", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        call: Call[Page[T]] = build(*args, **kwargs)
        cursor: str | None = ""
        while cursor is not None:
            page = await self.send(next_page(call, cursor) if cursor else call)
            for item in page.items:
                yield item
            cursor = page.next_cursor

    return method


class AsyncWallet:
    """`async with AsyncWallet(url, key="wk_…") as wallet: await wallet.transfer("ann", "bob", "1.00", "USD")`.

    Use a wallet on one event loop only. Every method may raise `errors.WalletError`. An iterator over a listing
    raises it when it fetches a page.
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
        """As `Wallet.__init__`. `batching`: transfers that begin within the same 2 ms go in one request.

        A request has up to 1,000 of them. Each caller gets its own answer or error; `replayed` and `position` are then
        None.
        """
        self._http = httpx.AsyncClient(**settings(url, key, tls), transport=transport)
        self._policy = Policy(deadline_s)
        # The pool of httpx scans all waiting requests whenever a connection is free. So requests wait here instead.
        self._free = asyncio.Semaphore(CONNECTIONS_MAX)
        self._gatherer = Gatherer(self._send, self._policy) if batching else None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._http.base_url} batching={self._gatherer is not None}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Send the transfers that wait for a batch, wait for their answers, then close all connections."""
        if self._gatherer is not None:
            await self._gatherer.close()
        await self._http.aclose()

    async def send(self, call: Call[T]) -> T:
        """Send a `Call` (of `calls`, `calls_past`, `calls_events`) with retries, and return its answer.

        Raises `errors.WalletError`.
        """
        if self._gatherer is not None and call.element is not None:
            gathered: Any = await self._gatherer.transfer(call)  # type: ignore[arg-type]
            answer: T = gathered
            return answer
        return await self._send(call)

    async def _send(self, call: Call[T], tries: Tries[T] | None = None) -> T:
        tries = Tries(call, self._policy, now_s()) if tries is None else tries
        while True:
            try:
                # The time-out of httpx covers each read only, and not the wait for a free connection.
                async with asyncio.timeout(tries.left_s(now_s())), self._free:
                    tries.go_on(now_s())  # it may have waited for the connection, too
                    response = await self._http.request(**request_of(call, tries.timeout_s(now_s())))
            except LOST as error:
                result: Done[T] | Any = tries.lost(error, now_s(), unreached=isinstance(error, UNREACHED))
            else:
                result = tries.received(response.status_code, response.headers, response.content, now_s())
            if isinstance(result, Done):
                value: T = result.value
                return value
            await asyncio.sleep(result.wait_s)
            tries.go_on(now_s())

    async def pages(self, path: str, field: str, **filters: str | int | None) -> AsyncIterator[Any]:
        """Iterate over all items of a listing that has no method here. The items are plain JSON values.

        `path`: such as `/v1/webhooks/ID/deliveries`. `field`: the name of the list in a page.
        """
        cursor: str | None = None
        while True:
            page = await self.send(calls.page(path, **filters, cursor=cursor))
            for item in page[field]:
                yield item
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    async def events(
        self,
        *,
        after: str | None = None,
        types: Sequence[str] | None = None,
        account: str | None = None,
        wait_s: float = 0.0,
    ) -> AsyncIterator[Event]:
        """Iterate over the events after a place, the oldest first; see `calls_events.events_page`.

        Without `wait_s` the iterator ends at the newest event. With `wait_s` (seconds, at most 30) it never ends: each
        request waits that long for new events. Use `events_page` to keep the place for a restart.
        """
        while True:
            page = await self.events_page(after=after, types=types, account=account, wait_s=wait_s)
            for event in page.events:
                yield event
            if not page.events and not wait_s:
                return
            after = page.next

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

    past_balance = _sends(calls_past.past_balance)
    transactions = _walks(calls_past.transactions, Transaction)
    statement = _sends(calls_past.statement)
    account_holds = _walks(calls_past.account_holds, Hold)
    transfers = _walks(calls_past.transfers, PastTransfer)

    events_page = _sends(calls_events.events_page)
    create_webhook = _sends(calls_events.create_webhook)
    webhooks = _sends(calls_events.webhooks)
    webhook = _sends(calls_events.webhook)
    patch_webhook = _sends(calls_events.patch_webhook)
    delete_webhook = _sends(calls_events.delete_webhook)
    rotate_webhook = _sends(calls_events.rotate_webhook)
    test_webhook = _sends(calls_events.test_webhook)
    replay_webhook = _sends(calls_events.replay_webhook)
    deliveries = _walks(calls_events.deliveries, Delivery)

    health = _sends(calls.health)
    readiness = _sends(calls.readiness)
