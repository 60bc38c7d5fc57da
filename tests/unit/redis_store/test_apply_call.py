"""The two forms of an entry: lines of words on disk, strings of a JSON array in Redis."""

import json

import pytest

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.redis_store.apply_call import apply_words, from_stream, json_words, pack_apply, to_stream
from wallet_engine.redis_store.connection import pack
from wallet_engine.redis_store.keys import PartitionKeys

HEADER = f"7 {ZERO_NONCE} 00000000000000b1 3 1700000000001 2"
LINES = [
    "t AAAAAAAAAAAAAAAAAAAAAQ @bank a.b_c:d-e 9007199254740991 USD",
    "d +/AAAAAAAAAAAAAAAAAAAA a b 1 JPY",
    "c 63.17 bob 399 1 USD",
    "s 17 - - 0 -",
]


@pytest.mark.parametrize("lines", [LINES[:1], LINES, LINES[::-1]])
def test_an_entry_comes_out_of_the_stream_as_it_went_in(lines: list[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    payload = f"{HEADER} {'+' * len(lines)}\n{text}".encode()
    _, header, _, operations = to_stream(payload)
    assert from_stream(header, operations) == payload
    assert json.loads(json_words(text.encode())) == text.split()


@pytest.mark.parametrize("currencies", [("USD",), ("EUR", "JPY", "USD")])
@pytest.mark.parametrize("window", [1, 2, 17])
@pytest.mark.parametrize("tag", ["3", "11"])
def test_a_packed_call_is_that_of_its_words(tag: str, currencies: tuple[str, ...], window: int) -> None:
    """Each with what others leave behind of theirs."""
    keys = PartitionKeys(tag)
    for epoch, lines, window_ms, age_ms in (
        (1, LINES, 60_000, 1),
        (2, LINES[:1], 60_000, 2),
        (3, LINES, 1, 1),
    ):
        packed, words = (
            make(
                *("a" * 40, keys, currencies, [f"{line}\n" for line in lines]),
                epoch=epoch,
                nonce=f"{epoch:016x}",
                issued_ms=1_700_000_000_000 + epoch,
                window=window,
                window_ms=window_ms,
                stream_entries_max=1_000,
                issued_age_ms_max=age_ms,
            )
            for make in (pack_apply, apply_words)
        )
        assert packed == pack(words)


@pytest.mark.parametrize("operations", [b"", b"[]", b'"t"', b'["t"', b"s 17 - - 0 -\n"])
def test_what_no_script_has_put_there_is_refused(operations: bytes) -> None:
    with pytest.raises(Corruption, match="not an entry of a stream"):
        from_stream(HEADER.encode(), operations)
