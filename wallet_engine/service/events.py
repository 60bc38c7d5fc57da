"""Events and webhooks behind their policy: every call names its caller and is authorized first.

Callers that may read every account may read every event; others read those of one account that they may read.
A webhook can send events of all accounts to any address, so only `admin` creates and changes webhooks;
callers that may read everything can see them.
"""

import time
from collections.abc import Awaitable, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.events.event import SOURCE_DEFAULT, Event
from wallet_engine.history.database import as_outage
from wallet_engine.service.policy import Principal
from wallet_engine.webhooks.addresses import check_host
from wallet_engine.webhooks.endpoint import Endpoint, new_webhook_id
from wallet_engine.webhooks.log import EventLog, Logged, Place
from wallet_engine.webhooks.signing import new_secret
from wallet_engine.webhooks.store import DeliveryView, TooMany, WebhookStore

#: Type of the event that a test sends; no event of the journal has it.
TEST_TYPE: Final = "webhook.test"
#: Maximum time of a search for events that pass a filter; then the caller gets the place it has reached.
LOOK_S_MAX: Final = 2.0

T = TypeVar("T")


class EventsPage(NamedTuple):
    """Events, and the place after which the next ones follow."""

    events: list[Logged]
    next: Place


class WebhookWish(NamedTuple):
    """A caller's checked settings of an endpoint; None for those not given."""

    url: str | None = None
    types: tuple[str, ...] | None = None
    accounts: tuple[str, ...] | None = None
    description: str | None = None
    enabled: bool | None = None


class GuardedEvents:
    """Every method may raise `Forbidden` (nothing was done), and `Outage` when the database is away."""

    def __init__(self, log: EventLog, store: WebhookStore, *, allow_private: bool) -> None:
        self._log = log
        self._store = store
        self.allow_private = allow_private

    def __repr__(self) -> str:
        return f"<GuardedEvents {self._log!r}>"

    def stop_waiting(self) -> None:
        """Answer the calls that wait, and let no later one wait."""
        self._log.stop_waiting()

    async def events(
        self,
        by: Principal,
        after: Place,
        limit: int,
        types: Sequence[str] | None,
        account: str | None,
        wait_s: float,
    ) -> EventsPage:
        """Up to `limit` events after a place; if there are none, waits up to `wait_s` for new ones.

        A group's event has the legs that touch an account which the caller may read.
        """
        if account is None:
            by.check_reads_all("read the events of every account")
        else:
            by.check_reads(account)
        began_s = time.monotonic()
        while True:
            with as_outage():
                found, place = await self._log.read(after, limit, types, account)
            passed_s = time.monotonic() - began_s
            if found or (place == after and passed_s >= wait_s) or passed_s > max(wait_s, LOOK_S_MAX):
                return EventsPage([_seen_by(by, event) for event in found], place)
            if place == after:
                with as_outage():
                    if not await self._log.wait_beyond(after.number, wait_s - passed_s):
                        return EventsPage([], after)
            after = place

    async def create(self, by: Principal, wish: WebhookWish) -> Endpoint:
        """Raises `InvalidInput` for an address inside."""
        by.check_everything("make webhooks")
        if wish.url is None or wish.types is None:
            raise InvalidInput("invalid_request", "url and types are needed")
        await self._check(wish)
        made = Endpoint(
            *(new_webhook_id(), wish.url, wish.types, wish.accounts or (), wish.description or "", "", ""),
            *(new_secret(), "", 0.0, 0.0, 0, 0, 0),
        )
        try:
            return await self._asked(self._store.create(made))
        except TooMany as error:
            raise InvalidInput("invalid_request", str(error)) from None

    async def all(self, by: Principal) -> list[Endpoint]:
        by.check_reads_all("list webhooks")
        return await self._asked(self._store.all())

    async def get(self, by: Principal, webhook_id: str) -> Endpoint | None:
        by.check_reads_all("read webhooks")
        return await self._asked(self._store.get(webhook_id))

    async def change(self, by: Principal, webhook_id: str, wish: WebhookWish) -> Endpoint | None:
        """Raises `InvalidInput` for an address inside."""
        by.check_everything("change webhooks")
        await self._check(wish)
        return await self._asked(self._store.change(webhook_id, **wish._asdict()))

    async def delete(self, by: Principal, webhook_id: str) -> bool:
        by.check_everything("delete webhooks")
        return await self._asked(self._store.delete(webhook_id))

    async def rotate(self, by: Principal, webhook_id: str) -> Endpoint | None:
        """The endpoint with its new secret."""
        by.check_everything("rotate secrets of webhooks")
        return await self._asked(self._store.rotate(webhook_id, new_secret()))

    async def test(self, by: Principal, webhook_id: str) -> str | None:
        """Id of the event that is sent; None if there is no such endpoint, or it is disabled."""
        by.check_everything("test webhooks")
        now_ms = time.time_ns() // 1_000_000
        event = Event(f"test.{now_ms}", TEST_TYPE, webhook_id, now_ms, {"webhook_id": webhook_id}, ())
        body = event.encode(SOURCE_DEFAULT)
        sent = await self._asked(self._store.add_test(webhook_id, event.id, event.type, body))
        return event.id if sent else None

    async def replay(self, by: Principal, webhook_id: str, from_s: float) -> Endpoint | None:
        by.check_everything("replay webhooks")
        return await self._asked(self._store.replay(webhook_id, from_s))

    async def deliveries(
        self, by: Principal, webhook_id: str, status: str | None, limit: int, before: int | None
    ) -> list[DeliveryView] | None:
        """The deliveries, newest first; None if there is no such endpoint."""
        by.check_reads_all("list deliveries")
        if await self._asked(self._store.get(webhook_id)) is None:
            return None
        return await self._asked(self._store.deliveries(webhook_id, status, limit, before))

    async def _check(self, wish: WebhookWish) -> None:
        if wish.url is not None and not self.allow_private:
            await check_host(wish.url)

    async def _asked(self, question: Awaitable[T]) -> T:
        with as_outage():
            return await question


def _seen_by(by: Principal, event: Logged) -> Logged:
    """The event as the caller may see it. A leg has its index, where legs before it are left out."""
    if by.readable is None or not event.type.startswith("group."):
        return event
    document = msgspec.json.decode(event.document)
    document["data"]["legs"] = [
        leg if idx == place else {**leg, "leg": idx}
        for place, (idx, leg) in enumerate(
            (idx, leg)
            for idx, leg in enumerate(document["data"]["legs"])
            if by.may_read(leg["from_account"]) or by.may_read(leg["to_account"])
        )
    ]
    return event._replace(document=msgspec.Raw(msgspec.json.encode(document)))
