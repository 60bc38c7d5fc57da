"""Operations in columns: packing and unpacking, and the further facts that the script gets."""

import json
import random

import pytest

from wallet_engine.domain.columns import pack, unpack
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.memory import INDEXES, transfer_field, transfer_fingerprint
from wallet_engine.domain.operation import Operation, parse_operation

TXID = "+/AAAAAAAAAAAAAAAAAAAA"
LINES = [
    f"d {TXID} alice a.b_c:d-e 9007199254740991 USD",
    f"t {TXID} dave erin 5 USD",
    "c 3.257 frank 1499 700 USD",
    "s 17 - - 0 -",
    f"r {TXID} grace 17.399.a 1 USD",
    "o - heidi - 0 USD",
    "o - heidi 9007199254740991 0 USD",
    "f - ivan freeze 0 -",
    f"d {TXID} @bank alice 1 USD",
]


def operations_of(*lines: str) -> list[Operation]:
    return [parse_operation(line) for line in lines]


def test_the_columns() -> None:
    packed = pack(operations_of(*LINES[:6]))
    fields = [transfer_field(payer, TXID) for payer in ("alice", "dave", "grace")]
    assert json.loads(packed.columns) == [
        *("dtcsro", "USD", "a.b_c:d-e", 8),
        *(fields[0], fields[1], "3.24", "17", fields[2], "-"),
        *("alice", "dave", "frank", "-", "grace", "heidi", "erin", "@transit"),
        *(9007199254740991, 5, 700, 0, 1, 0),
        *("rXb", "17.399.a", "-"),
    ]
    assert packed.currencies == {"USD"}


@pytest.mark.parametrize("seed", range(20))
def test_what_is_packed_is_unpacked(seed: int) -> None:
    """Operations of every kind, in one and in several currencies, in any order."""
    draw = random.Random(seed)
    lines = [draw.choice(LINES) for _ in range(draw.choice((1, 2, 7, 300)))]
    if seed % 2:
        lines = [line.replace("USD", draw.choice(("USD", "JPY", "XAU"))) for line in lines]
    operations = operations_of(*lines)
    packed = pack(operations)
    assert unpack(packed.columns) == tuple(operations), f"seed {seed}"
    assert packed.currencies == {operation.currency for operation in operations} - {"-"}
    assert pack(unpack(packed.columns)) == packed


def test_the_ends_of_records() -> None:
    """Only transfers and debits have ends, wherever they are: fingerprint and idx."""
    lines = [LINES[(7 * n) % len(LINES)] for n in range(SCRIPT_OPERATIONS_MAX)]
    expected = "".join(
        transfer_fingerprint(o.account, f"{o.other} {o.amount_minor} {o.currency}") + INDEXES[idx]
        for idx, o in enumerate(operations_of(*lines))
        if o.kind in "dt"
    )
    assert pack(operations_of(*lines)).record_ends.decode() == expected


def test_a_credit_of_an_idx_that_no_entry_has() -> None:
    with pytest.raises(KeyError):
        pack(operations_of("c 3.257 frank 1536 700 USD"))


GOOD = pack(operations_of(*LINES)).columns


@pytest.mark.parametrize(
    "columns",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        GOOD[:-1],
        GOOD[:-1] + b',"x"]',
        GOOD.replace(b'"@transit"', b'"@bank"'),
        GOOD.replace(b'"@transit",', b""),
        GOOD.replace(transfer_field("alice", TXID).encode(), transfer_field("alicf", TXID).encode()),
        GOOD.replace(b'"rXb",', b""),
        GOOD.replace(b'"rXb"', b'"uXb"'),
        GOOD.replace(b'"rXb"', b'"rb"'),
        GOOD.replace(b'"rXb"', b"7"),
        GOOD.replace(b"a.b_c:d-e alice", b"alice"),
        GOOD.replace(b"a.b_c:d-e alice", b"alice bob eve"),
        GOOD.replace(b",700,", b","),
        GOOD.replace(b",700,", b',"700",'),
        GOOD.replace(b",700,", b",700.5,"),
        GOOD.replace(b",700,", b",-700,"),
        GOOD.replace(b",700,", b",true,"),
        GOOD.replace(b'"frank"', b"5"),
        GOOD.replace(b'"frank"', b'"frank\\n"'),
        GOOD.replace(b'"frank"', b'"fr ank"'),
        GOOD.replace(b'"USD"', b"7"),
        GOOD.replace(b'"USD"', b'["USD"]'),
        GOOD.replace(b'"USD"', b'["USD",7,"USD","-","USD","USD","USD","-","USD"]'),
        GOOD.replace(b'"USD"', b'["USD","U D","USD","-","USD","USD","USD","-","USD"]'),
        GOOD.replace(b'"a.b_c:d-e alice"', b"7"),
        GOOD.replace(b"a.b_c:d-e alice", b"a.b_c:d-e  alice"),
        GOOD.replace(b'["d', b'["x'),
        GOOD.replace(b'["d', b'["dd'),
        GOOD.replace(b'["dt', b'["d'),
    ],
)
def test_what_no_operations_make_is_corruption(columns: bytes) -> None:
    assert columns != GOOD
    with pytest.raises(Corruption, match="not the columns of operations"):
        unpack(columns)


NOTED = (
    f'd {TXID} alice far 5 USD #k7 {{"ref":"Miete, März \\"7\\""}}',
    f't {TXID} alice bob 5 USD #k7 {{"meta":{{"order":"a,b"}},"min":9007199254740991}}',
    f"t {TXID} carol bob 5 USD #k8",
    "s 17 - - 0 -",
)


@pytest.mark.parametrize("count", range(1, len(NOTED) + 1))
def test_what_was_noted_is_in_the_columns(count: int) -> None:
    """G6: the key that paid and the note are journaled. Entries without either have the old form."""
    operations = operations_of(*NOTED[:count])
    columns = pack(operations).columns
    assert unpack(columns) == tuple(operations)
    assert [operation.line() for operation in operations] == list(NOTED[:count])
    said = json.loads(columns)[-1]
    assert said["by"] == ("k7" if count < 3 else ["k7", "k7", "k8", ""][:count])
    assert "notes" not in json.loads(pack(operations_of(NOTED[2])).columns)[-1]


def test_a_note_is_part_of_the_body_and_a_key_is_not() -> None:
    """G4: the same id with another reference is a conflict; with another key it is not."""
    plain, noted, other = (
        pack(operations_of(f"d {TXID} alice far 5 USD{end}")).record_ends
        for end in ("", " {}", ' {"ref":"x"}')
    )
    assert len({plain, noted, other}) == 3
    assert pack(operations_of(f"d {TXID} alice far 5 USD #k1")).record_ends == plain
    assert transfer_fingerprint("alice", "far 5 USD", '{"ref":"x"}').encode() == other[:6]


@pytest.mark.parametrize(
    "said", ['{"notes":{"4":{"ref":"x"}}}', '{"notes":{"0":{}}}', '{"by":["a"]}', '{"by":"a b"}', '{"x":1}']
)
def test_notes_that_no_service_makes_are_corruption(said: str) -> None:
    columns = pack(operations_of(*LINES[:2])).columns[:-1] + b"," + said.encode() + b"]"
    with pytest.raises(Corruption):
        unpack(columns)
