"""Amounts: conversion of decimal text in major units to integers in minor units, and back (G12)."""

import pytest

from wallet_engine.domain.currencies import MINOR_DIGITS
from wallet_engine.domain.errors import InvalidInput
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.money import check_currency, format_amount, parse_amount

ACCEPTED = [
    # text, currency, minor units
    ("12.34", "USD", 1234),
    ("12.3", "USD", 1230),
    ("12", "USD", 1200),
    ("0.01", "USD", 1),
    ("0.1", "USD", 10),
    ("007", "USD", 700),
    ("1", "JPY", 1),
    ("1.234", "BHD", 1234),
    ("0.001", "BHD", 1),
    ("1", "BHD", 1000),
    ("1.2345", "CLF", 12345),
    ("0.0001", "CLF", 1),
    ("90071992547409.91", "USD", AMOUNT_MINOR_MAX),
    ("9007199254740991", "JPY", AMOUNT_MINOR_MAX),
    ("9007199254740.991", "BHD", AMOUNT_MINOR_MAX),
    ("900719925474.0991", "CLF", AMOUNT_MINOR_MAX),
]


@pytest.mark.parametrize(("text", "currency", "minor"), ACCEPTED)
def test_amount_is_read_exactly(text: str, currency: str, minor: int) -> None:
    assert parse_amount(text, currency) == minor


REFUSED = [
    # text, currency
    ("", "USD"),
    ("0", "USD"),
    ("0.00", "USD"),
    ("1e3", "USD"),
    ("1E3", "USD"),
    ("+1", "USD"),
    ("-1", "USD"),
    (" 1", "USD"),
    ("1 ", "USD"),
    ("1\n", "USD"),
    ("1.00\n", "USD"),
    ("\t1", "USD"),
    ("1.", "USD"),
    (".5", "USD"),
    (".", "USD"),
    ("1..2", "USD"),
    ("1.2.3", "USD"),
    ("1,5", "USD"),
    ("1_000", "USD"),
    ("0x10", "USD"),
    ("١", "USD"),
    ("１", "USD"),
    ("1.٠", "USD"),
    ("²", "USD"),
    ("NaN", "USD"),
    ("inf", "USD"),
    ("1.234", "USD"),
    ("1.230", "USD"),
    ("1.0", "JPY"),
    ("1.0000", "BHD"),
    ("1.00000", "CLF"),
    ("90071992547409.92", "USD"),
    ("9007199254740992", "JPY"),
    ("9007199254740.992", "BHD"),
    ("900719925474.0992", "CLF"),
    ("9" * 17, "JPY"),
    ("9" * 100_000, "USD"),
    ("0" * 100_000 + "1", "USD"),
    (1, "USD"),
    (1.5, "USD"),
    (True, "USD"),
    (None, "USD"),
    (b"1", "USD"),
    (["1"], "USD"),
    ({}, "USD"),
]


@pytest.mark.parametrize(("text", "currency"), REFUSED)
def test_amount_is_refused(text: object, currency: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        parse_amount(text, currency)
    assert refusal.value.code == "invalid_amount"
    assert len(refusal.value.detail) < 200


def test_zero_is_an_overdraft_limit_but_no_amount() -> None:
    assert parse_amount("0.00", "USD", zero_allowed=True) == 0


FORMATTED = [
    (0, "USD", "0.00"),
    (1, "USD", "0.01"),
    (-1, "USD", "-0.01"),
    (1234, "USD", "12.34"),
    (-1234, "USD", "-12.34"),
    (0, "JPY", "0"),
    (-5, "JPY", "-5"),
    (1, "BHD", "0.001"),
    (-12345, "CLF", "-1.2345"),
    (AMOUNT_MINOR_MAX, "USD", "90071992547409.91"),
    (-AMOUNT_MINOR_MAX, "BHD", "-9007199254740.991"),
]


@pytest.mark.parametrize(("minor", "currency", "text"), FORMATTED)
def test_amount_is_written_exactly(minor: int, currency: str, text: str) -> None:
    assert format_amount(minor, currency) == text


@pytest.mark.parametrize("currency", sorted(MINOR_DIGITS))
def test_every_currency_round_trips_at_its_bounds(currency: str) -> None:
    for minor in (1, 9, 10, 99, 100, 10_000, AMOUNT_MINOR_MAX - 1, AMOUNT_MINOR_MAX):
        assert parse_amount(format_amount(minor, currency), currency) == minor
    with pytest.raises(InvalidInput):
        parse_amount(format_amount(AMOUNT_MINOR_MAX + 1, currency), currency)


def test_digits_of_iso_4217() -> None:
    assert set(MINOR_DIGITS.values()) == {0, 2, 3, 4}
    for currency, digits in {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3, "UYW": 4, "ISK": 0, "UYI": 0}.items():
        assert MINOR_DIGITS[currency] == digits


@pytest.mark.parametrize(
    "currency", ["usd", "Usd", "US", "USDX", "USD\n", " USD", "XXX", "XAU", "", None, 840, ["USD"]]
)
def test_currency_is_refused(currency: object) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_currency(currency)
    assert refusal.value.code == "invalid_currency"
