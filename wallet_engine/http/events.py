"""Reads events, and manages webhooks."""

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Any, Final

from msgspec import UNSET

from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.ids import check_account_id
from wallet_engine.domain.times import time_text
from wallet_engine.history.database import ms_of
from wallet_engine.http import wire, wire_events
from wallet_engine.http.endpoint import Endpoint, Request
from wallet_engine.http.parse import check_shape, load_object
from wallet_engine.http.parse_history import cursor_of, make_cursor, time_match
from wallet_engine.http.problems import MALFORMED, Answer, Refused, json_answer
from wallet_engine.http.wire_events import LIMIT_MAX, WAIT_S_MAX
from wallet_engine.service.events import GuardedEvents, WebhookWish
from wallet_engine.webhooks import endpoint as endpoints
from wallet_engine.webhooks.addresses import check_url
from wallet_engine.webhooks.endpoint import Filter, is_webhook_id
from wallet_engine.webhooks.log import START, EventsRemoved, OfAnotherLog, Place
from wallet_engine.webhooks.queue import PENDING, STATUSES
from wallet_engine.webhooks.store import DeliveryView

_LIMIT_DEFAULT: Final = 50
#: An id that no webhook has.
_NO_WEBHOOK: Final = "wh_"
#: Delivery numbers in cursors are below this: PostgreSQL's bigint ends there.
DELIVERIES_MAX: Final = 2**63

_place_match: Final = re.compile(r"([0-9]{1,19})\.([0-9]{1,10})(?:\.([0-9]{1,19}))?\Z").match
_number_match: Final = re.compile(r"[0-9]{1,9}\Z").match
_wait_match: Final = re.compile(r"[0-9]{1,2}(?:\.[0-9]{1,3})?\Z").match


async def read(request: Request) -> Answer:
    """Events after a place; waits for new ones when there are none."""
    events = _events(request)
    text = request.optional("after")
    after = START if text is None else _parse_place(text)
    limit = _limit(request)
    named = request.optional("types")
    types = None if named is None else sorted(Filter(endpoints.check_types(named.split(",")), ()).types)
    account = request.optional("account")
    if account is not None:
        check_account_id(account, "account")
    wait_text = request.optional("wait_s")
    wait_s = 0.0 if wait_text is None else _wait(wait_text)
    try:
        page = await events.events(request.visit.principal, after, limit, types, account, wait_s)
    except EventsRemoved as error:
        why = (
            "this place belongs to another log"
            if isinstance(error, OfAnotherLog)
            else "events after this place were removed"
        )
        detail = f"{why}: read from the oldest that are kept, without after"
        raise Refused("events_expired", detail) from None
    told = b",".join(bytes(event.document) for event in page.events)
    return json_answer(200, b'{"events":[' + told + b'],"next":"' + _place_text(page.next) + b'"}')


async def create(request: Request) -> Answer:
    """201, with the secret."""
    events, document = _events(request), load_object(await request.body())
    check_shape(document, frozenset(("url", "types", "accounts", "description")), ("url", "types"))
    wish = _wish(document, events, nullable=("accounts", "description"))
    made = await request.services.calls.run(events.create(request.visit.principal, wish))
    body = wire_events.CreatedWebhook(secret=made.secret, **_webhook(made))
    return json_answer(201, wire.encode(body))


async def all_of_them(request: Request) -> Answer:
    found = await _events(request).all(request.visit.principal)
    listed = [wire_events.Webhook(**_webhook(each)) for each in found]
    return json_answer(200, wire.encode(wire_events.Webhooks(listed)))


async def show(request: Request) -> Answer:
    return _shown(await _events(request).get(request.visit.principal, _id(request)))


async def patch(request: Request) -> Answer:
    """Change the given fields."""
    events, webhook_id, document = _events(request), _id(request), load_object(await request.body())
    check_shape(document, frozenset(("url", "types", "accounts", "description", "status")), ())
    if not document:
        raise Refused("invalid_request", "nothing to change")
    wish = _wish(document, events)
    return _shown(await request.services.calls.run(events.change(request.visit.principal, webhook_id, wish)))


async def delete(request: Request) -> Answer:
    """204; deliveries that are still to be sent are deleted too."""
    events = _events(request)
    if not await request.services.calls.run(events.delete(request.visit.principal, _id(request))):
        raise _unknown()
    return Answer(204, b"", ())


async def rotate(request: Request) -> Answer:
    """A new secret; for a day, deliveries are signed with the old one too."""
    events = _events(request)
    made = await request.services.calls.run(events.rotate(request.visit.principal, _id(request)))
    if made is None:
        raise _unknown()
    body = wire_events.RotatedSecret(made.webhook_id, made.secret, _time_text(made.previous_until_s))
    return json_answer(200, wire.encode(body))


async def test(request: Request) -> Answer:
    """202; the test event appears among the deliveries."""
    events, webhook_id = _events(request), _id(request)
    event_id = await request.services.calls.run(events.test(request.visit.principal, webhook_id))
    if event_id is None:
        raise Refused("webhook_not_found", "there is no such webhook, or it is disabled")
    return json_answer(202, wire.encode(wire_events.TestSent(webhook_id, event_id)))


async def replay(request: Request) -> Answer:
    """202; everything since `from` is sent again, in order."""
    events, webhook_id, document = _events(request), _id(request), load_object(await request.body())
    check_shape(document, frozenset(("from",)), ("from",))
    from_s = _parse_time(document["from"])
    made = await request.services.calls.run(events.replay(request.visit.principal, webhook_id, from_s))
    if made is None:
        raise _unknown()
    return json_answer(202, wire.encode(wire_events.Webhook(**_webhook(made))))


async def deliveries(request: Request) -> Answer:
    """Deliveries, the newest first."""
    status = request.optional("status")
    if status is not None and status not in STATUSES:
        raise Refused("invalid_request", f"status must be one of {', '.join(STATUSES)}")
    events, webhook_id, limit = _events(request), _id(request), _limit(request)
    filters = ("deliveries", webhook_id, status)
    before = cursor_of(request, filters, (DELIVERIES_MAX,))
    found = await events.deliveries(
        request.visit.principal, webhook_id, status, limit + 1, None if before is None else before[0]
    )
    if found is None:
        raise _unknown()
    more = len(found) > limit
    listed = [_delivery(each) for each in found[:limit]]
    cursor = make_cursor(filters, (found[limit - 1].delivery_id,)) if more else None
    return json_answer(200, wire.encode(wire_events.Deliveries(listed, cursor)))


def _events(request: Request) -> GuardedEvents:
    events = request.services.events
    if events is None:
        raise Refused("history_not_configured", "this process was started without --database")
    return events


def _wish(document: dict[str, Any], events: GuardedEvents, nullable: tuple[str, ...] = ()) -> WebhookWish:
    """The wished fields. A null stands for an absent field if it is `nullable`; else it is refused."""
    for name, value in document.items():
        if value is None and name not in nullable:
            raise Refused("invalid_request", f"{name} must not be null")
    given = {name: value for name, value in document.items() if value is not None}
    status = given.get("status")
    if status not in (None, endpoints.ENABLED, endpoints.DISABLED):
        raise Refused("invalid_request", "status must be enabled or disabled")
    return WebhookWish(
        check_url(given["url"], allow_private=events.allow_private) if "url" in given else None,
        endpoints.check_types(given["types"]) if "types" in given else None,
        endpoints.check_accounts(given["accounts"]) if "accounts" in given else None,
        endpoints.check_description(given["description"]) if "description" in given else None,
        None if status is None else status == endpoints.ENABLED,
    )


def _webhook(found: endpoints.Endpoint) -> dict[str, Any]:
    return {
        "webhook_id": found.webhook_id,
        "url": found.url,
        "types": list(found.types),
        "accounts": list(found.accounts),
        "description": found.description,
        "status": found.status,
        "created_at": _time_text(found.created_s),
        "reason": found.reason or UNSET,
    }


def _shown(found: endpoints.Endpoint | None) -> Answer:
    if found is None:
        raise _unknown()
    return json_answer(200, wire.encode(wire_events.Webhook(**_webhook(found))))


def _delivery(view: DeliveryView) -> wire_events.Delivery:
    return wire_events.Delivery(
        view.event_id,
        view.type,
        view.subject,
        view.status,  # type: ignore[arg-type]  # one of `STATUSES`
        view.attempts,
        _time_text(view.created_s),
        _time_text(max(view.next_s, view.created_s)) if view.status == PENDING else None,
        None if view.tried_s is None else _time_text(view.tried_s),
        view.answer,
        view.error,
    )


def _id(request: Request) -> str:
    """The id in the path. Text that cannot be an id becomes one that nothing has: rights are checked before."""
    webhook_id = request.path("webhook_id")
    return webhook_id if is_webhook_id(webhook_id) else _NO_WEBHOOK


def _unknown() -> Refused:
    return Refused("webhook_not_found", "there is no such webhook")


def _limit(request: Request) -> int:
    text = request.optional("limit")
    if text is None:
        return _LIMIT_DEFAULT
    if not _number_match(text) or not 1 <= int(text) <= LIMIT_MAX:
        raise Refused("invalid_request", f"limit must be 1 to {LIMIT_MAX}")
    return int(text)


def _wait(text: str) -> float:
    if not _wait_match(text) or float(text) > WAIT_S_MAX:
        raise Refused("invalid_request", f"wait_s must be 0 to {WAIT_S_MAX}")
    return float(text)


def _parse_time(given: object) -> float:
    if not isinstance(given, str) or not time_match(given):
        raise Refused("invalid_request", "from must be a time such as 2026-11-21T10:00:00Z")
    try:
        return ms_of(datetime.fromisoformat(given.upper()).astimezone(UTC)) / 1000
    except (ValueError, OverflowError):
        raise Refused("invalid_request", f"from: there is no time {given[:40]}") from None


def _time_text(seconds: float) -> str:
    return time_text(round(seconds * 1_000_000) // 1000)


def _place_text(place: Place) -> bytes:
    text = ".".join(str(part) for part in place if part is not None)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=")


def _parse_place(text: str) -> Place:
    match = _place_match(_opened(text))
    if match is None:
        raise InvalidInput("invalid_request", "after is not a value of next")
    return Place(min(int(match[1]), 2**62), int(match[2]), None if match[3] is None else int(match[3]))


def _opened(text: str) -> str:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, UnicodeError, ValueError):
        raise InvalidInput("invalid_request", "after is not a value of next") from None


_NEEDED: Final = ("history_not_configured", "history_unavailable")
_ONE: Final = (*MALFORMED, "webhook_not_found", *_NEEDED)

ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/events",
        read,
        "Events after `after`, in one order; waits up to 30 s for new ones. With `next`, none is missed or repeated.",
        {200: wire_events.Events},
        (*MALFORMED, "events_expired", *_NEEDED),
        optional_query=("after", "types", "account", "limit", "wait_s"),
    ),
    Endpoint(
        "POST",
        "/v1/webhooks",
        create,
        "Have events posted to a URL, signed by the standard of standardwebhooks.com.",
        {201: wire_events.CreatedWebhook},
        (*MALFORMED, "request_too_large", *_NEEDED),
        wire_events.CreateWebhookRequest,
    ),
    Endpoint(
        "GET",
        "/v1/webhooks",
        all_of_them,
        "All webhooks.",
        {200: wire_events.Webhooks},
        (*MALFORMED, *_NEEDED),
    ),
    Endpoint("GET", "/v1/webhooks/{webhook_id}", show, "A webhook.", {200: wire_events.Webhook}, _ONE),
    Endpoint(
        "PATCH",
        "/v1/webhooks/{webhook_id}",
        patch,
        "Change a webhook; deliveries still to be sent go to the new URL.",
        {200: wire_events.Webhook},
        (*_ONE, "request_too_large"),
        wire_events.PatchWebhookRequest,
    ),
    Endpoint(
        "DELETE",
        "/v1/webhooks/{webhook_id}",
        delete,
        "Delete a webhook, and its deliveries still to be sent.",
        {204: None},
        _ONE,
    ),
    Endpoint(
        "POST",
        "/v1/webhooks/{webhook_id}/rotate",
        rotate,
        "Make a new secret; for a day, deliveries are also signed with the old one.",
        {200: wire_events.RotatedSecret},
        _ONE,
    ),
    Endpoint(
        "POST",
        "/v1/webhooks/{webhook_id}/test",
        test,
        "Send a test event, once.",
        {202: wire_events.TestSent},
        _ONE,
    ),
    Endpoint(
        "POST",
        "/v1/webhooks/{webhook_id}/replay",
        replay,
        "Send all events since a time again, with the same ids.",
        {202: wire_events.Webhook},
        (*_ONE, "request_too_large"),
        wire_events.ReplayRequest,
    ),
    Endpoint(
        "GET",
        "/v1/webhooks/{webhook_id}/deliveries",
        deliveries,
        "Deliveries, sent and still to be sent, the newest first.",
        {200: wire_events.Deliveries},
        (*_ONE, "cursor_mismatch"),
        optional_query=("status", "limit", "cursor"),
    ),
)
