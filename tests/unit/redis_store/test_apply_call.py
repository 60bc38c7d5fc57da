"""The call of the script, and the way of an entry from the stream to the journal."""

import pytest
from support.commands import words_of

from wallet_engine.domain.columns import pack as pack_operations
from wallet_engine.domain.entry import ZERO_NONCE
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.operation import parse_operation
from wallet_engine.redis_store.apply_call import apply_command, apply_part, replay_command
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


@pytest.mark.parametrize("currencies", [(), ("USD",), ("USD", "EUR")])
@pytest.mark.parametrize("window", [1, 2, 17])
@pytest.mark.parametrize("tag", ["3", "11"])
def test_each_call_has_the_words_of_its_own(tag: str, currencies: tuple[str, ...], window: int) -> None:
    """Words that are cached for other calls do not matter."""
    keys = PartitionKeys(tag)
    for epoch, chosen, window_ms, age_ms in (
        (1, LINES, 60_000, 1),
        (2, LINES[:2], 60_000, 2),
        (3, LINES, 1, 1),
    ):
        nonce, issued_ms = f"{epoch:016x}", 1_700_000_000_000 + epoch
        packed = pack_operations([parse_operation(line) for line in chosen])
        part = apply_part(
            *(keys, currencies, packed), epoch=epoch, nonce=nonce, issued_ms=issued_ms, window=window
        )
        command = apply_command(
            *("a" * 40, [part, part]),
            window_ms=window_ms,
            stream_entries_max=1_000,
            issued_age_ms_max=age_ms,
        )
        listed = ",".join(sorted({"JPY", "USD", *currencies}))
        head = f"{{{tag}}} {epoch} {nonce} {issued_ms} {window} {listed} 0 {packed.record_ends.decode()}"
        words = words_of(command)
        assert [word.decode() for word in words] == [
            *("EVALSHA", "a" * 40, "0", f"{window_ms} 1000 {age_ms}"),
            *(head, packed.columns.decode()) * 2,
        ]
        assert command == pack(words)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("window", [1, 17])
def test_a_replay_declares_the_keys_of_its_partition(window: int, extended: bool) -> None:
    keys = PartitionKeys("11")
    names = [f"{name}{{11}}" for name in ("meta", "journal", "open", "flags", "noted")]
    names += [f"seen:{window - n}{{11}}" for n in (0, 1, 2)]
    names += [f"balance:{currency}{{11}}" for currency in ("EUR", "JPY", "USD")]
    if extended:
        names += [f"{name}{{11}}" for name in ("hold", "due", "group")]
        names += [f"{name}:{c}{{11}}" for name in ("held", "pending") for c in ("EUR", "JPY", "USD")]
    packed = pack_operations([parse_operation(line) for line in LINES])._replace(extended=extended)
    recorded = (b"00000000000000a1", b"17", b"++++", b"2", b"")
    command = replay_command(
        *("b" * 40, keys, {"EUR"}, packed, recorded), epoch=7, nonce="00000000000000b1", window=window
    )
    head = f"{{11}} 7 00000000000000b1 0 {window} EUR,JPY,USD {extended:d} {packed.record_ends.decode()}"
    words = words_of(command)
    assert [word.decode() for word in words] == [
        *("EVALSHA", "b" * 40, str(len(names)), *names, "0 0 0", head, packed.columns.decode()),
        *(word.decode() for word in recorded),
    ]
    assert command == pack(words)


@pytest.mark.parametrize(
    "operations", [b"", b"[]", b'"t"', b'["t"', b"[17]", b"s 17 - - 0 -\n", b'["s","17","-","-","0","-"]']
)
def test_what_no_script_has_put_there_is_refused(operations: bytes) -> None:
    with pytest.raises(Corruption, match="not an entry of a stream"):
        from_stream(HEADER.encode(), operations)
