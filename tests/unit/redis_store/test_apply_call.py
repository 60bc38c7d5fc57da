"""The two forms of an entry: lines of words on disk, strings of a JSON array in Redis."""

import json

import pytest
from support.commands import words_of

from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.memory import transfers_memory
from wallet_engine.redis_store.apply_call import apply_command, from_stream, json_words, to_stream
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


@pytest.mark.parametrize("replay", [(), (b"00000000000000a1", b"17")])
@pytest.mark.parametrize("currencies", [("USD",), ("EUR", "JPY", "USD")])
@pytest.mark.parametrize("window", [1, 2, 17])
@pytest.mark.parametrize("tag", ["3", "11"])
def test_each_call_has_the_words_of_its_own(
    tag: str, currencies: tuple[str, ...], window: int, replay: tuple[bytes, ...]
) -> None:
    """Whatever is kept of others."""
    keys = PartitionKeys(tag)
    names = [f"{name}{{{tag}}}" for name in ("meta", "journal", "open", "flags")]
    names += [f"seen:{window - n}{{{tag}}}" for n in (0, 1, 2)]
    names += [f"balance:{currency}{{{tag}}}" for currency in currencies]
    for epoch, chosen, window_ms, age_ms in (
        (1, LINES, 60_000, 1),
        (2, LINES[:1], 60_000, 2),
        (3, LINES, 1, 1),
    ):
        lines, nonce, issued_ms = [f"{line}\n" for line in chosen], f"{epoch:016x}", 1_700_000_000_000 + epoch
        command = apply_command(
            *("a" * 40, keys, currencies, lines),
            epoch=epoch,
            nonce=nonce,
            issued_ms=issued_ms,
            window=window,
            window_ms=window_ms,
            stream_entries_max=1_000,
            issued_age_ms_max=age_ms,
            replay=replay,
        )
        settings = [str(epoch), nonce, str(issued_ms), str(window), str(window_ms), "1000", str(age_ms)]
        head, operations, *rest = (words := words_of(command))[3 + len(names) :]
        assert [word.decode() for word in words[: 3 + len(names)]] == [
            *("EVALSHA", "a" * 40, str(len(names))),
            *names,
        ]
        assert json.loads(head) == settings + [word.decode() for word in transfers_memory(lines)]
        assert operations == json_words("".join(lines).encode())
        assert rest == list(replay)
        assert command == pack(words)


@pytest.mark.parametrize("operations", [b"", b"[]", b'"t"', b'["t"', b"s 17 - - 0 -\n"])
def test_what_no_script_has_put_there_is_refused(operations: bytes) -> None:
    with pytest.raises(Corruption, match="not an entry of a stream"):
        from_stream(HEADER.encode(), operations)
