"""The bodies of events and webhooks; see `wire.py`."""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from wallet_engine.events.event import TYPES
from wallet_engine.webhooks.endpoint import DESCRIPTION_LENGTH_MAX, PATTERNS_MAX

EventType = Annotated[
    str, Meta(description="A type of events, `hold.*` or `*`.", extra_json_schema={"examples": list(TYPES)})
]
Pattern = Annotated[
    str, Meta(description="Account, or several: `shop-*`.", extra_json_schema={"examples": ["shop-*"]})
]
Time = Annotated[str, Meta(description="RFC 3339.", extra_json_schema={"format": "date-time"})]
Url = Annotated[
    str,
    Meta(
        description="Where events are posted to. Without --webhooks-allow-private: https, and on the public internet.",
        extra_json_schema={"format": "uri", "maxLength": 2048},
    ),
]
Types = Annotated[list[EventType], Meta(extra_json_schema={"minItems": 1})]
Accounts = Annotated[list[Pattern], Meta(extra_json_schema={"maxItems": PATTERNS_MAX})]
Description = Annotated[str, Meta(extra_json_schema={"maxLength": DESCRIPTION_LENGTH_MAX})]
Secret = Annotated[str, Meta(description="Shown only now; signs by the standard of standardwebhooks.com.")]


class CloudEvent(Struct):
    """CloudEvents 1.0."""

    specversion: Literal["1.0"]
    id: Annotated[str, Meta(description="<partition>.<seq>.<index>; the same at every repeat.")]
    source: str
    type: str
    subject: Annotated[str, Meta(description="An account; the events of one account come in order.")]
    time: Time
    datacontenttype: str
    data: dict[str, Any]


class Events(Struct):
    events: list[CloudEvent]
    next: Annotated[str, Meta(description="The value of `after` for the next call.")]


class CreateWebhookRequest(Struct, forbid_unknown_fields=True):
    url: Url
    types: Types
    accounts: Accounts | None = None
    description: Description | None = None


class PatchWebhookRequest(Struct, forbid_unknown_fields=True):
    url: Url | UnsetType = UNSET
    types: Types | UnsetType = UNSET
    accounts: Accounts | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    status: Literal["enabled", "disabled"] | UnsetType = UNSET


class ReplayRequest(Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    from_: Time


class Webhook(Struct):
    webhook_id: str
    url: str
    types: list[str]
    accounts: list[str]
    description: str
    status: Literal["enabled", "disabled"]
    created_at: Time
    #: Why it is disabled.
    reason: str | UnsetType = UNSET


class CreatedWebhook(Webhook, kw_only=True):
    secret: Secret


class Webhooks(Struct):
    webhooks: list[Webhook]


class RotatedSecret(Struct):
    webhook_id: str
    secret: Secret
    #: Until then, deliveries are also signed with the previous secret.
    previous_until: Time


class TestSent(Struct):
    webhook_id: str
    event_id: str


class Delivery(Struct):
    event_id: str
    type: str
    subject: str
    status: Literal["pending", "delivered", "parked"]
    attempts: int
    created_at: Time
    #: Null unless it is pending.
    next_at: Time | None
    tried_at: Time | None
    #: Status of the last answer; null without one.
    answer: int | None
    #: Why there was no answer.
    error: str


class Deliveries(Struct):
    deliveries: list[Delivery]
    next_cursor: str | None


def _whole(least: int, most: int) -> Any:
    return Annotated[int, Meta(ge=least, le=most)]


LIMIT_MAX: Final = 200
WAIT_S_MAX: Final = 30

_TYPE: Final = "|".join(name.replace(".", "[.]") for name in TYPES)
_WebhookId = Annotated[str, Meta(extra_json_schema={"pattern": "^wh_[0-9a-f]{24}$"})]
_Opaque = Annotated[str, Meta(description="As given by the answer before.")]

#: Query and path parameters of these endpoints -> type.
PARAMETERS: Final[dict[str, Any]] = {
    "webhook_id": _WebhookId,
    "after": _Opaque,
    "cursor": _Opaque,
    "types": Annotated[
        str,
        Meta(
            description="Types of events, separated by commas.",
            extra_json_schema={"pattern": f"^({_TYPE})(,({_TYPE}))*$"},
        ),
    ],
    "limit": _whole(1, LIMIT_MAX),
    "wait_s": Annotated[float, Meta(ge=0, le=WAIT_S_MAX)],
    "status": Literal["pending", "delivered", "parked"],
}
