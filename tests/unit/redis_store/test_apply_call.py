"""The two forms of an entry: lines of words on disk, strings of a JSON array in Redis."""

import json

import pytest

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.redis_store.apply_call import from_stream, json_words, to_stream

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
    assert from_stream(header, str(operations).encode()) == payload
    assert json.loads(json_words(text)) == text.split()


@pytest.mark.parametrize("operations", [b"", b"[]", b'"t"', b'["t"', b"s 17 - - 0 -\n"])
def test_what_no_script_has_put_there_is_refused(operations: bytes) -> None:
    with pytest.raises(Corruption, match="not an entry of a stream"):
        from_stream(HEADER.encode(), operations)
