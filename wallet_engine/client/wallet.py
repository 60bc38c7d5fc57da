"""The synchronous client."""

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from wallet_engine.client import calls, calls_events, calls_past
from wallet_engine.client.calls import Call, Page, next_page
from wallet_engine.client.http import LOST, UNREACHED, request_of, settings
from wallet_engine.client.tries import DEADLINE_S, Done, Policy, Tries, now_s
from wallet_engine.client.types import Hold
from wallet_engine.client.types_events import Delivery, Event
from wallet_engine.client.types_past import PastTransfer, Transaction

P = ParamSpec("P")
T = TypeVar("T")


def _sends(build: Callable[P, Call[T]]) -> Callable[Concatenate["Wallet", P], T]:
    @wraps(build)
    def method(self: "Wallet", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.send(build(*args, **kwargs))

    return method


def _walks(build: Callable[P, Call[Any]], _item: type[T]) -> Callable[Concatenate["Wallet", P], Iterator[T]]:
    """A method that iterates over all items of a listing. It fetches a page when the one before is used up."""

    @wraps(build)
    def method(self: "Wallet", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        call: Call[Page[T]] = build(*args, **kwargs)
        cursor: str | None = ""
        while cursor is not None:
            page = self.send(next_page(call, cursor) if cursor else call)
            yield from page.items
            cursor = page.next_cursor

    return method


class Wallet:
    """`with Wallet("http://127.0.0.1:8080", key="wk_…") as wallet: wallet.transfer("ann", "bob", "1.00", "USD")`.

    Many threads may use one wallet at the same time. Every method may raise `errors.WalletError`. An iterator over a
    listing raises it when it fetches a page.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        deadline_s: float = DEADLINE_S,
        tls: ssl.SSLContext | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url`: `http://HOST:PORT` or `https://HOST:PORT`. `key`: the API key, if the service asks for one.

        `deadline_s`: maximum seconds of a call with all its tries. `tls`: the trusted authorities and, if needed, a
        client certificate; None for those of the system. `transport`: for tests. Raises `ValueError` for another URL,
        or a key that is none.
        """
        self._http = httpx.Client(**settings(url, key, tls), transport=transport)
        self._policy = Policy(deadline_s)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._http.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def send(self, call: Call[T]) -> T:
        """Send a `Call` (of `calls`, `calls_past`, `calls_events`) with retries, and return its answer.

        Raises `errors.WalletError`.
        """
        tries = Tries(call, self._policy, now_s())
        while True:
            try:
                status, headers, body = self._answer(call, tries)
            except LOST as error:
                unreached = isinstance(error, UNREACHED)
                result: Done[T] | Any = tries.lost(error, now_s(), unreached=unreached)
            else:
                result = tries.received(status, headers, body, now_s())
            if isinstance(result, Done):
                value: T = result.value
                return value
            time.sleep(result.wait_s)
            tries.go_on(now_s())

    def _answer(self, call: Call[Any], tries: Tries[Any]) -> tuple[int, httpx.Headers, bytes]:
        """Send one try: (status, headers, body). Raises one of `LOST`.

        The time-out of httpx covers each read only. So an answer that arrives byte by byte is cut off here, when
        the deadline of the call has passed.
        """
        began_s = now_s()
        until_s = began_s + tries.left_s(began_s)
        with self._http.stream(**request_of(call, tries.timeout_s(began_s))) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if now_s() > until_s:
                    raise httpx.ReadTimeout("the answer is not whole", request=response.request)
        return response.status_code, response.headers, bytes(body)

    def pages(self, path: str, field: str, **filters: str | int | None) -> Iterator[Any]:
        """Iterate over all items of a listing that has no method here. The items are plain JSON values.

        `path`: such as `/v1/webhooks/ID/deliveries`. `field`: the name of the list in a page.
        """
        cursor: str | None = None
        while True:
            page = self.send(calls.page(path, **filters, cursor=cursor))
            yield from page[field]
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def events(
        self,
        *,
        after: str | None = None,
        types: Sequence[str] | None = None,
        account: str | None = None,
        wait_s: float = 0.0,
    ) -> Iterator[Event]:
        """Iterate over the events after a place, the oldest first; see `calls_events.events_page`.

        Without `wait_s` the iterator ends at the newest event. With `wait_s` (seconds, at most 30) it never ends: each
        request waits that long for new events. Use `events_page` to keep the place for a restart.
        """
        while True:
            page = self.events_page(after=after, types=types, account=account, wait_s=wait_s)
            yield from page.events
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
