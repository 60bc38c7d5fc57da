"""Decimal strings of major units <-> integers of minor units. No float ever touches an amount (G12)."""

import re
from typing import Final

from wallet_engine.domain.currencies import MINOR_DIGITS
from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX

_CENTS: Final = tuple(f".{cents:02d}" for cents in range(100))
_decimal_match = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,4}))?\Z").match


def check_currency(currency: object) -> str:
    """The ISO 4217 code, or `InvalidInput("invalid_currency")`."""
    if not isinstance(currency, str) or currency not in MINOR_DIGITS:
        raise InvalidInput("invalid_currency", "currency must be an upper-case ISO 4217 code such as USD")
    return currency


def parse_amount(text: object, currency: str, *, zero_allowed: bool = False) -> int:
    """Minor units of a decimal string such as `"12.34"`; `currency` is already checked.

    Raises `InvalidInput("invalid_amount")` for anything but plain ASCII digits with at most the currency's
    fraction digits, for zero unless allowed, and above `AMOUNT_MINOR_MAX`.
    """
    digits = MINOR_DIGITS[currency]
    match = _decimal_match(text) if isinstance(text, str) else None
    if match is None:
        raise InvalidInput("invalid_amount", 'amount must be a decimal string such as "12.34"')
    whole, fraction = match.groups()
    if fraction is None:
        minor: int = int(whole) * 10**digits
    elif len(fraction) > digits:
        raise InvalidInput(
            "invalid_amount", f"{currency} has {digits} decimal places, amount has {len(fraction)}"
        )
    else:
        minor = int(whole + fraction) * 10 ** (digits - len(fraction))
    if minor > AMOUNT_MINOR_MAX:
        raise InvalidInput("invalid_amount", f"amount is above {format_amount(AMOUNT_MINOR_MAX, currency)}")
    if minor == 0 and not zero_allowed:
        raise InvalidInput("invalid_amount", "amount must be above zero")
    return minor


def format_amount(minor: int, currency: str) -> str:
    """`-1234` USD -> `"-12.34"`."""
    digits = MINOR_DIGITS[currency]
    if digits == 2:  # nearly all
        return (
            f"{minor // 100}{_CENTS[minor % 100]}"
            if minor >= 0
            else f"-{-minor // 100}{_CENTS[-minor % 100]}"
        )
    sign = "-" if minor < 0 else ""
    if digits == 0:
        return f"{minor}"
    text = f"{abs(minor):0{digits + 1}d}"
    return f"{sign}{text[:-digits]}.{text[-digits:]}"
