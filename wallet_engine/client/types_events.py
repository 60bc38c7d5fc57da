"""What the wallet tells of what happens, and whom it tells."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct


class Event(Struct, frozen=True):
    """CloudEvents 1.0. It can come twice, always with the same id; those of one subject come in order."""

    id: str
    source: str
    type: str
    #: An account.
    subject: str
    time: datetime
    data: dict[str, Any]


class Events(Struct, frozen=True):
    """`next` is what the next call says as `after`."""

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
    #: Why it is disabled.
    reason: str | None = None
    #: Shown once, when it is made; for `verify_webhook`.
    secret: str | None = None


class Webhooks(Struct, frozen=True):
    webhooks: list[Webhook]


class RotatedSecret(Struct, frozen=True):
    """Until then what is sent is signed with the secret before, too."""

    webhook_id: str
    secret: str
    previous_until: datetime


class TestSent(Struct, frozen=True):
    webhook_id: str
    event_id: str


class Delivery(Struct, frozen=True):
    """`answer` is the status of the last answer; None without one, and then `error` says why."""

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
