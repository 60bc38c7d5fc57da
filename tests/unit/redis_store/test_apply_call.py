"""How the script is called, and how an entry gets from the stream to the journal."""

import pytest
from support.commands import words_of

from wallet_engine.domain.columns import pack as pack_operations
from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.operation import parse_operation
from wallet_engine.redis_store.apply_call import apply_command
from wallet_engine.redis_store.connection import pack
from wallet_engine.redis_store.keys import PartitionKeys
from wallet_engine.redis_store.stream import from_stream, to_stream

HEADER = f"7 {ZERO_NONCE} 00000000000000b1 3 1700000000001 2"
LINES = [
    "t AAAAAAAAAAAAAAAAAAAAAQ @bank a.b_c:d-e 9007199254740991 USD",
    "d +/AAAAAAAAAAAAAAAAAAAA a b 1 JPY",
    "c 63.17 bob 399 1 USD",
    "s 17 - - 0 -",
]


@pytest.mark.parametrize("lines", [LINES[:1], LINES, LINES[::-1]])
def test_an_entry_comes_out_of_the_stream_as_it_went_in(lines: list[str]) -> None:
    columns = pack_operations([parse_operation(line) for line in lines]).columns
    payload = f"{HEADER} {'+' * len(lines)}\n".encode() + columns
    _, header, _, found = to_stream(payload)
    assert from_stream(header, found) == payload
    old = "".join(f"{line}\n" for line in (f"{HEADER} {'+' * len(lines)}", *lines))
    assert to_stream(old.encode()) == to_stream(payload)


@pytest.mark.parametrize("replay", [(), (b"00000000000000a1", b"17")])
@pytest.mark.parametrize("currencies", [(), ("USD",), ("USD", "EUR")])
@pytest.mark.parametrize("window", [1, 2, 17])
@pytest.mark.parametrize("tag", ["3", "11"])
def test_each_call_has_the_words_of_its_own(
    tag: str, currencies: tuple[str, ...], window: int, replay: tuple[bytes, ...]
) -> None:
    """Whatever is kept of others."""
    keys = PartitionKeys(tag)
    names = [f"{name}{{{tag}}}" for name in ("meta", "journal", "open", "flags")]
    names += [f"seen:{window - n}{{{tag}}}" for n in (0, 1, 2)]
    names += [f"balance:{currency}{{{tag}}}" for currency in sorted({"JPY", "USD", *currencies})]
    for epoch, chosen, window_ms, age_ms in (
        (1, LINES, 60_000, 1),
        (2, LINES[:2], 60_000, 2),
        (3, LINES, 1, 1),
    ):
        nonce, issued_ms = f"{epoch:016x}", 1_700_000_000_000 + epoch
        packed = pack_operations([parse_operation(line) for line in chosen])
        command = apply_command(
            *("a" * 40, keys, currencies, packed),
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
        assert head.decode().split(" ") == [*settings, packed.record_ends.decode()]
        assert operations == packed.columns
        assert rest == list(replay)
        assert command == pack(words)


@pytest.mark.parametrize(
    "operations", [b"", b"[]", b'"t"', b'["t"', b"[17]", b"s 17 - - 0 -\n", b'["s","17","-","-","0","-"]']
)
def test_what_no_script_has_put_there_is_refused(operations: bytes) -> None:
    with pytest.raises(Corruption, match="not an entry of a stream"):
        from_stream(HEADER.encode(), operations)
