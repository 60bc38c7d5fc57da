"""The calls about events and webhooks, as `calls.py` has the others."""

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
    """Events behind a place, from the oldest on; where there are none it waits for some, up to 30 s."""
    named = None if types is None else ",".join(types)
    waits = f"{wait_s:.3f}" if wait_s else None
    query = query_text(after=after, types=named, account=account, limit=page_size, wait_s=waits)
    return Call("GET", f"/v1/events{query}", Events, wait_s=wait_s)


def create_webhook(
    url: str, types: Iterable[str], *, accounts: Iterable[str] | None = None, description: str | None = None
) -> Call[Webhook]:
    """Have events posted to a URL from now on. Its `secret` is shown this once."""
    body = body_of(url=url, types=list(types), accounts=_listed(accounts), description=description)
    return Call("POST", "/v1/webhooks", Webhook, body, once=True)


def webhooks() -> Call[Webhooks]:
    """All of them."""
    return Call("GET", "/v1/webhooks", Webhooks)


def webhook(webhook_id: str) -> Call[Webhook]:
    """One of them."""
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
    """Change what is given."""
    words = {"types": _listed(types), "accounts": _listed(accounts)}
    body = body_of(url=url, description=description, status=status, **words)
    return Call("PATCH", _path(webhook_id), Webhook, body)


def delete_webhook(webhook_id: str) -> Call[None]:
    """For good, with what was still to be sent."""
    return Call("DELETE", _path(webhook_id), type(None))


def rotate_webhook(webhook_id: str) -> Call[RotatedSecret]:
    """A new secret; the one before signs too for a day."""
    return Call("POST", _path(webhook_id, "/rotate"), RotatedSecret, once=True)


def test_webhook(webhook_id: str) -> Call[TestSent]:
    """Send it an event that says nothing."""
    return Call("POST", _path(webhook_id, "/test"), TestSent, once=True)


def replay_webhook(webhook_id: str, from_: datetime) -> Call[Webhook]:
    """Send it everything since then again, in order."""
    return Call("POST", _path(webhook_id, "/replay"), Webhook, body_of(**{"from": time_text(from_)}))


def deliveries(
    webhook_id: str,
    *,
    status: Literal["pending", "delivered", "parked"] | None = None,
    page_size: int | None = None,
) -> Call[DeliveryPage]:
    """What was sent, or is to be, the newest first."""
    return Call(
        "GET", _path(webhook_id, f"/deliveries{query_text(status=status, limit=page_size)}"), DeliveryPage
    )
