"""One event: CloudEvents 1.0 in JSON (cloudevents.io, "JSON Event Format").

id       <partition>.<seq>.<index>, and a letter if one operation makes several; the same at every repeat
source   the cluster's name, a URI reference
type     one of `TYPES`
subject  an account of the entry's partition, so that one account's events come from one partition
time     of the entry
data     amounts are decimal strings of major units
"""

import re
from typing import Any, Final, NamedTuple

import msgspec

from wallet_engine.domain.errors import WrongUsage
from wallet_engine.domain.times import time_text

ACCOUNT_OPENED: Final = "account.opened"
ACCOUNT_UPDATED: Final = "account.updated"
ACCOUNT_FROZEN: Final = "account.frozen"
ACCOUNT_UNFROZEN: Final = "account.unfrozen"
ACCOUNT_CLOSED: Final = "account.closed"
TRANSFER_SUCCEEDED: Final = "transfer.succeeded"
TRANSFER_DECLINED: Final = "transfer.declined"
HOLD_PLACED: Final = "hold.placed"
HOLD_CAPTURED: Final = "hold.captured"
HOLD_INCREASED: Final = "hold.increased"
HOLD_VOIDED: Final = "hold.voided"
HOLD_EXPIRED: Final = "hold.expired"
GROUP_SUCCEEDED: Final = "group.succeeded"
GROUP_DECLINED: Final = "group.declined"
REFUND_SUCCEEDED: Final = "refund.succeeded"
POSTING: Final = "posting"

#: All types.
TYPES: Final = (
    *(ACCOUNT_OPENED, ACCOUNT_UPDATED, ACCOUNT_FROZEN, ACCOUNT_UNFROZEN, ACCOUNT_CLOSED),
    *(TRANSFER_SUCCEEDED, TRANSFER_DECLINED),
    *(HOLD_PLACED, HOLD_CAPTURED, HOLD_INCREASED, HOLD_VOIDED, HOLD_EXPIRED),
    *(GROUP_SUCCEEDED, GROUP_DECLINED, REFUND_SUCCEEDED, POSTING),
)

SOURCE_DEFAULT: Final = "wallet-engine"
SOURCE_LENGTH_MAX: Final = 200
#: The characters of a URI reference (RFC 3986).
_source_match = re.compile(r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+\Z").match

_encode: Final = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """`accounts` are all accounts of the event, including the subject; a filter on any of them matches."""

    id: str
    type: str
    subject: str
    time_ms: int
    data: dict[str, Any]
    accounts: tuple[str, ...]

    def document(self, source: str = SOURCE_DEFAULT) -> dict[str, Any]:
        """The event as a JSON object."""
        id_, type_, subject, time_ms, data, _ = self
        return {
            "specversion": "1.0",
            "id": id_,
            "source": source,
            "type": type_,
            "subject": subject,
            "time": time_text(time_ms),
            "datacontenttype": "application/json",
            "data": data,
        }

    def encode(self, source: str = SOURCE_DEFAULT) -> bytes:
        """The event as JSON."""
        return _encode(self.document(source))


def check_source(text: str) -> str:
    """The source of events. Raises `WrongUsage` for what is no URI reference, or an empty one."""
    if len(text) > SOURCE_LENGTH_MAX or not _source_match(text):
        raise WrongUsage(
            f"--event-source {text[:40]!a} is no URI reference such as https://shop.example/wallet, "
            f"of at most {SOURCE_LENGTH_MAX} characters"
        )
    return text


def event_id(partition: int, seq: int, idx: int, nth: int) -> str:
    """The id of an operation's `nth` event, from 0: the first has no letter, then a, b, … z, aa, ab, …"""
    if nth == 0:
        return f"{partition}.{seq}.{idx}"
    letters = ""
    while nth > 0:
        nth, digit = divmod(nth - 1, 26)
        letters = chr(ord("a") + digit) + letters
    return f"{partition}.{seq}.{idx}{letters}"
