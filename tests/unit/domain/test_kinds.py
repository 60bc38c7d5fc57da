"""The table of kinds: it has the letters of the scripts. Another letter raises wherever kinds are read."""

import re
from pathlib import Path

import pytest

from wallet_engine.admin.moving.touched import touched_fields
from wallet_engine.admin.tracing.telling import concerns, operation_text
from wallet_engine.domain.columns import pack, unpack
from wallet_engine.domain.entry import Entry, EntryHeader, outgoing
from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.groups import LEGGED
from wallet_engine.domain.kinds import KINDS, Id, Kind, Other, kind_of
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.oracle import decide
from wallet_engine.domain.oracle_state import PartitionState

LIB = Path(__file__).parents[3] / "lua" / "lib"
LUA = [LIB / name for name in ("common_kinds.lua", "kinds.lua", "groups.lua")]
TXID = "+/AAAAAAAAAAAAAAAAAAAA"
HOLD = transfer_field("alice", TXID)
OTHERS = {
    "o": "500",
    "t": "bob",
    "d": "bob",
    "c": "3",
    "r": "17.0.a",
    "s": "-",
    "f": "freeze",
    "n": "-",
    "a": "500|-",
}
OTHERS |= {"h": "bob|1000", "i": HOLD, "k": f"bob|{HOLD}|f|-", "q": f"far|{HOLD}|p|5", "u": f"9.0.a|{HOLD}"}
OTHERS |= {"l": f"9.0|{HOLD}", "v": "-", "e": "-"}
OTHERS |= {"x": f"bob|{HOLD}|3.7.0|l|9|-", "z": f"bob|{HOLD}|3.7.0|c|9|5", "j": f"9.0.a|{HOLD}"}
LEGS = "b0|alice|bob|5|USD;r1|far|@fees|7|EUR;"
OTHERS |= {"m": f"+/x:0:c:{LEGS}", "p": f"+/x:0:-:{LEGS}", "g": f"+/x:2:a.1.f:{LEGS}"}
OTHERS |= {"y": f"+/x:0:-:{LEGS}", "b": f"+/x:0:-:{LEGS}", "w": "+/x:0:-:"}
IDS = {Id.NONE: "-", Id.TRANSACTION: TXID, Id.CREDIT: "3.257", Id.ENTRY: "17", Id.ASKER: "api-1"}
NOBODYS = (Id.ENTRY, Id.ASKER)


def example(kind: Kind) -> Operation:
    """An operation of the kind, as a service makes it."""
    account = "-" if kind.id in NOBODYS else "alice"
    amount = 5 if kind.id in (Id.TRANSACTION, Id.CREDIT) else 0
    other, currency = OTHERS[kind.letter], "USD" if kind.has_currency else "-"
    return Operation(kind.letter, IDS[kind.id], account, other, amount, currency)


def entry_of(operation: Operation, outcome: str = "+") -> Entry:
    return Entry(EntryHeader(2, "0" * 16, "1" * 16, 1, 1, 1, outcome), (operation,))


def test_the_scripts_have_the_same_letters() -> None:
    lua = {}
    text = "".join(path.read_text("utf-8") for path in LUA)
    for names, codes in re.findall(r"^ *local ([A-Z_, ]+) = ([\d, ]+)$", text, re.MULTILINE):
        letters = map(chr, map(int, codes.split(", ")))
        lua |= dict(zip(letters, names.lower().split(", "), strict=True))
    assert lua == {letter: kind.name for letter, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_whatever_reads_kinds_can_read_each(kind: Kind) -> None:
    operation = example(kind)
    assert unpack(pack([operation]).columns) == (operation,)
    assert kind.letter not in operation_text(operation).split()
    assert concerns(operation, "alice") is (kind.id not in NOBODYS)
    assert concerns(operation, "bob") is (
        kind.other in (Other.ACCOUNT, Other.RECEIVER) or kind.letter in "kxz" or kind.letter in LEGGED
    )
    touched = {key.partition(b":")[0] for key, _ in touched_fields(entry_of(operation))}
    assert touched == {
        *([b"balance"] if kind.sides(operation) else []),
        *([b"flags"] if kind.flags else []),
        *([b"seen"] if kind.remembered or kind.rewrites else []),
        *([b"balance", b"due", b"held", b"hold", b"seen"] if kind.letter in "hikqulve" else []),
        *([b"group"] if kind.grouped else []),
        *([b"balance", b"held", b"pending", b"seen"] if kind.letter in LEGGED else []),
    }
    assert [idx for idx, _ in outgoing(entry_of(operation))] == ([0] if kind.opens else [])


def test_an_unknown_kind_raises_everywhere() -> None:
    """No reader of kinds ignores an unknown one or guesses: seven readers, seven errors."""
    unknown = Operation("?", "-", "alice", "x", 0, "USD")
    known = pack([Operation("f", "-", "alice", "freeze", 0, "-")]).columns
    readers = (
        lambda: kind_of("?"),
        lambda: pack([unknown]),
        lambda: unpack(known.replace(b'["f"', b'["?"')),
        lambda: touched_fields(entry_of(unknown)),
        lambda: operation_text(unknown),
        lambda: outgoing(entry_of(unknown)),
        lambda: decide(PartitionState(), [unknown], 1, 1),
    )
    errors = 0
    for read in readers:
        with pytest.raises(Corruption):
            read()
        errors += 1
    assert errors == len(readers) == 7
