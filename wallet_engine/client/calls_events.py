"""The calls about events and webhooks. They need a service with a history (`serve --database`).

`types`: names of events such as `transfer.succeeded` and `posting`, or all of a kind: `transfer.*`; `*` for all.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Literal
from urllib.parse import quote

from wallet_engine.client.calls import Call, body_of, query_text, time_text
from wallet_engine.client.types_events import (
    DeliveryPage,
    Events,
    RotatedSecret,
    TestSent,
    Webhook,
    Webhooks,
)


def _path(webhook_id: str, rest: str = "") -> str:
    return f"/v1/webhooks/{quote(webhook_id, safe='')}{rest}"


def _listed(words: Iterable[str] | None) -> list[str] | None:
    return None if words is None else list(words)


def events_page(
    *,
    after: str | None = None,
    types: Iterable[str] | None = None,
    account: str | None = None,
    page_size: int | None = None,
    wait_s: float = 0.0,
) -> Call[Events]:
    """The events after a place, the oldest first. Continue with the answer's `next` as `after`.

    `after`: None for the oldest event that is kept. `account`: only events of this account. `wait_s`: when there are no
    events, wait so many seconds (at most 30) for one. Raises `EventsExpired` for an `after` that is too old or unknown.
    """
    named = None if types is None else ",".join(types)
    waits = f"{wait_s:.3f}" if wait_s else None
    query = query_text(after=after, types=named, account=account, limit=page_size, wait_s=waits)
    return Call("GET", f"/v1/events{query}", Events, wait_s=wait_s)


def create_webhook(
    url: str, types: Iterable[str], *, accounts: Iterable[str] | None = None, description: str | None = None
) -> Call[Webhook]:
    """Have later events posted to a URL. The answer has the `secret`, which is shown only this once.

    `accounts`: only events of these accounts; a name may end in `*`. The call has no id: after `OutcomeUnknown` look
    into `webhooks` before you repeat it.
    """
    body = body_of(url=url, types=list(types), accounts=_listed(accounts), description=description)
    return Call("POST", "/v1/webhooks", Webhook, body, once=True)


def webhooks() -> Call[Webhooks]:
    """All webhooks."""
    return Call("GET", "/v1/webhooks", Webhooks)


def webhook(webhook_id: str) -> Call[Webhook]:
    """One webhook. Raises `WebhookNotFound`."""
    return Call("GET", _path(webhook_id), Webhook)


def patch_webhook(
    webhook_id: str,
    *,
    url: str | None = None,
    types: Iterable[str] | None = None,
    accounts: Iterable[str] | None = None,
    description: str | None = None,
    status: Literal["enabled", "disabled"] | None = None,
) -> Call[Webhook]:
    """Change a webhook. Values that are None stay as they are. Raises `WebhookNotFound`."""
    words = {"types": _listed(types), "accounts": _listed(accounts)}
    body = body_of(url=url, description=description, status=status, **words)
    return Call("PATCH", _path(webhook_id), Webhook, body)


def delete_webhook(webhook_id: str) -> Call[None]:
    """Delete a webhook for ever, with its undelivered events. Raises `WebhookNotFound`."""
    return Call("DELETE", _path(webhook_id), type(None))


def rotate_webhook(webhook_id: str) -> Call[RotatedSecret]:
    """Make a new secret. For a day deliveries are signed with both. Raises `WebhookNotFound`."""
    return Call("POST", _path(webhook_id, "/rotate"), RotatedSecret, once=True)


def test_webhook(webhook_id: str) -> Call[TestSent]:
    """Send a webhook a test event. Raises `WebhookNotFound`."""
    return Call("POST", _path(webhook_id, "/test"), TestSent, once=True)


def replay_webhook(webhook_id: str, from_: datetime) -> Call[Webhook]:
    """Send a webhook all events since this time again, in order. Raises `WebhookNotFound`."""
    return Call("POST", _path(webhook_id, "/replay"), Webhook, body_of(**{"from": time_text(from_)}))


def deliveries(
    webhook_id: str,
    *,
    status: Literal["pending", "delivered", "parked"] | None = None,
    page_size: int | None = None,
) -> Call[DeliveryPage]:
    """List the deliveries of a webhook, also those that are still pending, the newest first."""
    return Call(
        "GET", _path(webhook_id, f"/deliveries{query_text(status=status, limit=page_size)}"), DeliveryPage
    )
