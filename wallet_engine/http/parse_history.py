"""Parses query parameters of calls about the past: times, pages, filters, positions."""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from wallet_engine.domain.ids import check_account_id
from wallet_engine.domain.money import check_currency, parse_amount
from wallet_engine.history.database import ms_of
from wallet_engine.history.facts import TYPES
from wallet_engine.history.listing import Listing
from wallet_engine.history.reader import Position
from wallet_engine.http.endpoint import Request
from wallet_engine.http.parse_notes import parse_reference
from wallet_engine.http.problems import Refused

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 200
STATUSES: Final = ("success", "declined", "pending", "all")
DIRECTIONS: Final = {"in": "in", "out": "out", "credit": "in", "debit": "out"}
CURSOR_LENGTH_MAX: Final = 400
#: The last time that a date has: the end of the year 9999.
TIME_MS_MAX: Final = 253_402_300_799_999
#: Bounds of the numbers in cursors of postings and transfers: time, partition, seq, idx, sub or leg.
PLACE: Final = (TIME_MS_MAX + 1, 4096, 2**53, 4096, 2**15)

#: A time of RFC 3339; its group has the digits after the milliseconds.
time_match: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{3}(\d{0,6})|\.\d{1,2})?(?:[Zz]|[+-]\d\d:[0-5]\d)\Z", re.ASCII
).match
_positions_match = re.compile(r"[0-9]{1,4}\.[0-9]{1,16}(?:, ?[0-9]{1,4}\.[0-9]{1,16})*\Z").match


def time_ms(request: Request, name: str, *, up: bool = False) -> int | None:
    """A time in Unix milliseconds, rounded down, or `up`; None when it is not given. Raises `Refused`."""
    text = request.optional(name)
    if text is None:
        return None
    # In a query, a plus sign that was not encoded arrives as a space.
    text = re.sub(r"(?<=\d) (?=\d\d:\d\d\Z)", "+", text)
    try:
        match = time_match(text)
        if match is None:
            raise ValueError
        found = datetime.fromisoformat(text.upper()).astimezone(UTC)
        return min(TIME_MS_MAX, ms_of(found) + (up and bool((match[1] or "").strip("0"))))
    except (ValueError, OverflowError):
        raise Refused("invalid_request", f"{name} must be a time such as 2026-11-21T10:00:00Z") from None


def limit_of(request: Request) -> int:
    text = request.optional("limit")
    if text is None:
        return LIMIT_DEFAULT
    if not re.fullmatch(r"[0-9]{1,3}", text, re.ASCII) or not 1 <= int(text) <= LIMIT_MAX:
        raise Refused("invalid_request", f"limit must be 1 to {LIMIT_MAX}")
    return int(text)


def positions_of(request: Request) -> list[Position]:
    """`min_position`, a value of `Wallet-Position`. Raises `Refused`."""
    text = request.optional("min_position")
    if text is None:
        return []
    if not _positions_match(text):
        raise Refused("invalid_request", "min_position must be a value of Wallet-Position, such as 3.1234")
    return [Position(*map(int, each.split("."))) for each in text.split(",")]


def choice(request: Request, name: str, choices: Sequence[str]) -> str | None:
    text = request.optional(name)
    if text is not None and text not in choices:
        raise Refused("invalid_request", f"{name} must be one of {', '.join(choices)}")
    return text


def reference_of(request: Request) -> str | None:
    return parse_reference({"reference": request.optional("reference")})


def span_of(request: Request) -> tuple[int | None, int | None]:
    # Entries have whole milliseconds, so a bound between two milliseconds is rounded up, for `from` and for `to`.
    span = time_ms(request, "from", up=True), time_ms(request, "to", up=True)
    if span[0] is not None and span[1] is not None and span[0] > span[1]:
        raise Refused("invalid_request", "from must not be after to")
    return span


def listing_of(request: Request, account: str) -> Listing:
    """The selection of an account's transactions. Raises `Refused` and `InvalidInput`."""
    currency = request.optional("currency")
    if currency is not None:
        check_currency(currency)
    amounts = {}
    for name in ("min_amount", "max_amount"):
        text = request.optional(name)
        if text is not None and currency is None:
            raise Refused("invalid_request", f"{name} needs currency")
        amounts[name] = None if text is None else parse_amount(text, currency or "", zero_allowed=True)
    types = request.optional("type")
    named = tuple(types.split(",")) if types is not None else TYPES
    if any(name not in TYPES for name in named):
        raise Refused("invalid_request", f"type must be one of {', '.join(TYPES)}")
    counterparty = request.optional("counterparty")
    direction = choice(request, "direction", tuple(DIRECTIONS))
    from_ms, to_ms = span_of(request)
    order = choice(request, "order", ("desc", "asc"))
    listing = Listing(
        account=account,
        currency=currency,
        types=named,
        direction=None if direction is None else DIRECTIONS[direction],
        status=choice(request, "status", STATUSES) or "success",
        counterparty=None if counterparty is None else check_account_id(counterparty, "counterparty"),
        reference=reference_of(request),
        amount_min=amounts["min_amount"],
        amount_max=amounts["max_amount"],
        from_ms=from_ms,
        to_ms=to_ms,
        ascending=order == "asc",
        limit=limit_of(request),
    )
    return replace(listing, after=cursor_of(request, filters_of(listing), PLACE))


def filters_of(listing: Listing) -> Sequence[Any]:
    """The filters to which cursors of a listing belong."""
    return [
        *(listing.account, listing.currency, sorted(listing.types), listing.direction, listing.status),
        *(listing.counterparty, listing.reference, listing.amount_min, listing.amount_max),
        *(listing.from_ms, listing.to_ms, listing.ascending),
    ]


def make_cursor(filters: Sequence[Any], place: Sequence[int]) -> str:
    """An opaque text for the rows after `place`, valid with the same filters only."""
    said = msgspec.json.encode((_mark(filters), place))
    return urlsafe_b64encode(said).decode().rstrip("=")


def cursor_of(request: Request, filters: Sequence[Any], bounds: tuple[int, ...]) -> tuple[int, ...] | None:
    """The place in a cursor, its numbers below `bounds`. Raises `Refused` for an invalid one, or other filters."""
    text = request.optional("cursor")
    if text is None:
        return None
    try:
        if len(text) > CURSOR_LENGTH_MAX:
            raise ValueError
        mark, place = msgspec.json.decode(
            urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=tuple[str, list[int]]
        )
        if len(place) != len(bounds) or not all(0 <= n < m for n, m in zip(place, bounds, strict=True)):
            raise ValueError
    except (ValueError, msgspec.MsgspecError):
        raise Refused("cursor_mismatch", "cursor is not a value of next_cursor of this call") from None
    if mark != _mark(filters):
        raise Refused("cursor_mismatch", "cursor belongs to other filters: give those of the first page")
    return tuple(place)


def _mark(filters: Sequence[Any]) -> str:
    return hashlib.blake2b(msgspec.json.encode(list(filters)), digest_size=9).hexdigest()
