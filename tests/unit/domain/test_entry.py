"""The text of entries and operations: what is written can be read; anything else is `Corruption`."""

import pytest

from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import (
    ZERO_NONCE,
    Entry,
    EntryHeader,
    columns_of,
    operations_of,
    parse_entry,
    parse_header,
)
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.operation import Operation, parse_operation

NONCE = "0123456789abcdef"
TXID = "bxwaPg9LTFOaUw1vL06LEQ"

OPERATIONS = [
    ("o - alice - 0 USD", Operation("o", "-", "alice", "-", 0, "USD")),
    ("o - alice 500 0 USD", Operation("o", "-", "alice", "500", 0, "USD")),
    (f"t {TXID} alice bob 9007199254740991 USD", Operation("t", TXID, "alice", "bob", 2**53 - 1, "USD")),
    (f"d {TXID} @bank bob 1 JPY", Operation("d", TXID, "@bank", "bob", 1, "JPY")),
    ("c 63.17 bob 399 1 USD", Operation("c", "63.17", "bob", "399", 1, "USD")),
    (f"r {TXID} alice 17.399.a 1 USD", Operation("r", TXID, "alice", "17.399.a", 1, "USD")),
    ("s 17 - - 0 -", Operation("s", "17", "-", "-", 0, "-")),
    ("f - alice freeze 0 -", Operation("f", "-", "alice", "freeze", 0, "-")),
]


@pytest.mark.parametrize(("line", "operation"), OPERATIONS)
def test_operation_round_trips(line: str, operation: Operation) -> None:
    assert parse_operation(line) == operation
    assert operation.line() == line


@pytest.mark.parametrize(
    "line",
    [
        "",
        " ",
        "s 17 - - 0",
        "s 17 - - 0 - ",
        " s 17 - - 0 -",
        "s 17 - - 0 -\n",
        "s 17 - - 0 -\r",
        "s  - - 0 -",
        "s 17\t- - 0 -",
        "S 17 - - 0 -",
        "t x a b +1 USD",
        "t x a b -1 USD",
        "t x a b 1_0 USD",
        "t x a b 1.0 USD",
        "t x a b 1e3 USD",
        "t x a b ١ USD",
        "t x a b 0x1 USD",
        "t x é b 1 USD",
        "t x a\x00 b 1 USD",
        "t x a b 12345678901234567 USD",
    ],
)
def test_malformed_operation_is_corruption(line: str) -> None:
    with pytest.raises(Corruption, match="not an operation"):
        parse_operation(line)


def text_of(header: str, *lines: str) -> bytes:
    return "".join(f"{line}\n" for line in (header, *lines)).encode()


@pytest.mark.parametrize("old", [False, True])
def test_entry_round_trips(old: bool) -> None:
    """In columns, and in lines as older versions wrote them."""
    lines, operations = zip(*OPERATIONS, strict=True)
    outcomes = "+=!acfil"
    head = f"42 {ZERO_NONCE} {NONCE} 3 1700000000000 2 {outcomes}"
    payload = text_of(head, *lines) if old else text_of(head) + pack(operations).columns
    header = EntryHeader(42, ZERO_NONCE, NONCE, 3, 1700000000000, 2, outcomes)
    assert parse_entry(payload) == Entry(header, tuple(operation for _, operation in OPERATIONS))
    assert parse_header(payload) == header
    assert operations_of(payload) == operations
    assert columns_of(payload) == pack(operations).columns


@pytest.mark.parametrize(
    ("window", "rest"),
    [("2", ""), ("2", " 2"), ("2.0", ""), ("2.0", " 2"), ("17.86399", " 2")],
)
def test_a_header_is_shown_as_it_was_written(window: str, rest: str) -> None:
    """Older versions wrote neither the seconds seen nor the version of the rules."""
    line = f"42 {ZERO_NONCE} {NONCE} 3 1700000000000 {window} +={rest}"
    header = parse_header(text_of(line))
    number, _, seconds = window.partition(".")
    assert (header.window, header.witnessed_s) == (int(number), int(seconds) if seconds else None)
    assert header.text() == line


GOOD = f"1 {ZERO_NONCE} {NONCE} 1 1700000000000 1 +"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\n",
        GOOD.encode(),  # no newline
        b" " + text_of(GOOD),
        text_of(GOOD + " "),
        text_of(GOOD + " x"),
        text_of(GOOD.removesuffix(" +")),
        text_of(GOOD.removesuffix("+")),
        text_of(GOOD.replace("1 ", "-1 ", 1)),
        text_of(GOOD.replace("1 ", "+1 ", 1)),
        text_of(GOOD.replace("1 ", "1_0 ", 1)),
        text_of(GOOD.replace("1 ", "x ", 1)),
        text_of(GOOD.replace("1 ", "١ ", 1)),
        text_of(GOOD.replace(" 1 1700000000000", " 1.0 1700000000000")),
        text_of(GOOD.replace("1700000000000", "")),
        text_of(GOOD.replace(" 1 +", " 1. +")),
        text_of(GOOD.replace(" 1 +", " .1 +")),
        text_of(GOOD.replace(" 1 +", " 1.-1 +")),
        text_of(GOOD.replace(" 1 +", " 1.1.1 +")),
        text_of(GOOD.replace(NONCE, NONCE[:-1])),
        text_of(GOOD.replace(NONCE, NONCE.upper())),
        text_of(GOOD.replace(NONCE, NONCE + "0")),
        text_of(GOOD.replace(" ", "  ")),
        text_of(GOOD).replace(b"\n", b"\r\n"),
        b"\xff" + text_of(GOOD),
        text_of("9" * 5000 + GOOD),
    ],
)
def test_malformed_header_is_corruption(payload: bytes) -> None:
    with pytest.raises(Corruption, match="not a journal entry"):
        parse_header(payload)


@pytest.mark.parametrize(
    "payload",
    [
        text_of(GOOD),
        text_of(GOOD, "s 1 - - 0 -", "s 2 - - 0 -"),
        text_of(GOOD + "+", "s 1 - - 0 -"),
        text_of(GOOD, "s 1 - - 0 -")[:-1],
        text_of(GOOD, "s 1 - - 0 -") + b"x",
        text_of(GOOD, "s 1 - - 0 -") + b"\n",
        text_of(GOOD, "s 1 - - 0 -").replace(b"s 1", b"s \xff"),
        text_of(GOOD, "s 1 - - 0"),
    ],
)
def test_lines_that_do_not_match_the_outcomes_are_corruption(payload: bytes) -> None:
    with pytest.raises(Corruption):
        parse_entry(payload)
