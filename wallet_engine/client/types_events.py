"""The answers about events and webhooks."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class Event(Struct, frozen=True):
    """An event, as CloudEvents 1.0. It may be delivered twice, with the same id. Events of one subject are in order."""

    id: str
    source: str
    type: str
    #: The account.
    subject: str
    time: datetime
    data: dict[str, Any]


class Events(Struct, frozen=True):
    """A page of events. `next`: the value of `after` for the next call."""

    events: list[Event]
    next: str


class Webhook(Struct, frozen=True):
    webhook_id: str
    url: str
    types: list[str]
    accounts: list[str]
    description: str
    status: Literal["enabled", "disabled"]
    created_at: datetime
    #: Why it was disabled.
    reason: str | None = None
    #: For `verify_webhook`. Only in the answer to `create_webhook`.
    secret: str | None = None


class Webhooks(Struct, frozen=True):
    webhooks: list[Webhook]


class RotatedSecret(Struct, frozen=True):
    """The new secret. Until `previous_until` deliveries are signed with the old secret too."""

    webhook_id: str
    secret: str
    previous_until: datetime


class TestSent(Struct, frozen=True):
    webhook_id: str
    event_id: str


class Delivery(Struct, frozen=True):
    """The delivery of an event to a webhook. `parked`: given up after the last attempt.

    `next_at`: time of the next attempt. `tried_at`: time of the last one. `answer`: the HTTP status of its answer; None
    without an answer, then `error` says why.
    """

    event_id: str
    type: str
    subject: str
    status: Literal["pending", "delivered", "parked"]
    attempts: int
    created_at: datetime
    next_at: datetime | None
    tried_at: datetime | None
    answer: int | None
    error: str


class DeliveryPage(Struct, frozen=True, rename={"items": "deliveries"}):
    items: list[Delivery]
    next_cursor: str | None
