"""The size of a batch is limited by the fields that its call reads, and by what the journal takes as one entry."""

from pathlib import Path

import hiredis
import pytest

from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.limits import SCRIPT_FIELDS_MAX, SCRIPT_FLAGS_MAX, SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import Words
from wallet_engine.engine.accumulator import Accumulator
from wallet_engine.engine.batch import Batch
from wallet_engine.http.parse_notes import parse_note
from wallet_engine.journal.writer import JournalWriter
from wallet_engine.redis_store.keys import PartitionKeys

KEYS = PartitionKeys("3")
CURRENCIES = [f"C{number:02}" for number in range(80)]
FEW = SCRIPT_FIELDS_MAX // len(CURRENCIES)


def freeze(number: int) -> Words:
    return ("f", "-", f"a{number}", "freeze", 0, "-", "", "")


def credit(number: int) -> Words:
    return ("c", "9.1", f"a{number}", str(number), 1, CURRENCIES[0], "", "")


def sent(batch: Batch, currencies: list[str]) -> list[bytes]:
    """The two arguments of the call."""
    reader = hiredis.Reader()
    reader.feed(b"*2\r\n" + batch.part(KEYS, 1, 1, 1, currencies))
    words: list[bytes] = reader.gets()
    return words


def batch(*operations: Words) -> Batch:
    return Batch(3, list(operations), [f"item {number}" for number in range(len(operations))], 77)  # type: ignore[misc]


def test_what_reads_every_currency_is_cut_by_their_number() -> None:
    operations = [freeze(number) for number in range(3 * FEW)]
    whole = batch(*operations)
    words = sent(whole, CURRENCIES)
    assert whole.operations == operations[:FEW]
    assert whole.items == [f"item {number}" for number in range(FEW)]
    assert words[-1].startswith(b'["' + b"f" * FEW + b'"')
    assert whole.rest is not None
    assert whole.rest.operations == operations[FEW:]
    assert whole.rest.items == [f"item {number}" for number in range(FEW, 3 * FEW)]
    assert whole.rest.issued_s == 77


def test_the_cut_is_before_the_first_that_is_too_many() -> None:
    operations = [credit(0), *(freeze(number) for number in range(FEW)), credit(1), freeze(FEW), credit(2)]
    whole = batch(*operations)
    sent(whole, CURRENCIES)
    assert whole.operations == operations[:-2]


@pytest.mark.parametrize("operations", [[credit(n) for n in range(400)], [freeze(n) for n in range(400)]])
def test_what_reads_no_more_than_its_own_is_not_cut(operations: list[Words]) -> None:
    whole = batch(*operations)
    sent(whole, [])
    assert whole.rest is None
    assert len(whole.operations) == 400


def test_one_is_sent_however_many_currencies_there_are() -> None:
    whole = batch(freeze(0), freeze(1))
    sent(whole, [f"{number:03}" for number in range(SCRIPT_FIELDS_MAX + 1)])
    assert whole.operations == [freeze(0)]


def test_what_is_cut_twice_keeps_its_order() -> None:
    operations = [*(freeze(number) for number in range(2 * FEW)), *(credit(number) for number in range(9))]
    whole = batch(*operations)
    whole.cut(2 * FEW + 3)
    sent(whole, CURRENCIES)
    assert whole.operations == operations[:FEW]
    assert whole.rest is not None
    assert whole.rest.operations == operations[FEW:]
    assert whole.rest.items == [f"item {number}" for number in range(FEW, len(operations))]


def test_many_currencies_make_batches_small() -> None:
    """Flags may have a limit in each currency."""
    accumulator = Accumulator(3, KEYS, "s1", 1)
    for number in range(500):
        accumulator.add(credit(number), f"item {number}", 100)  # type: ignore[arg-type]
    accumulator.learn_currencies("EUR,USD")
    assert accumulator.operations_max == SCRIPT_OPERATIONS_MAX
    accumulator.learn_currencies(",".join(CURRENCIES))
    out = accumulator.take()
    assert out is not None
    assert len(out.operations) == SCRIPT_FLAGS_MAX // (len(CURRENCIES) + 2)


def test_what_was_cut_off_is_the_next_to_go() -> None:
    accumulator = Accumulator(3, KEYS, "s1", 1)
    for number in range(3):
        accumulator.add(credit(number), f"item {number}", 100)  # type: ignore[arg-type]
    out = accumulator.take()
    assert out is not None
    accumulator.add(credit(3), "item 3", 120)  # type: ignore[arg-type]
    accumulator.queue_first(batch(freeze(1), freeze(2)))
    assert accumulator.batch is out
    accumulator.batch = None
    then = accumulator.take()
    assert then is not None
    assert then.operations == [freeze(1), freeze(2), credit(3)]
    assert then.issued_s == 77


def test_g10_the_longest_notes_make_entries_that_the_journal_takes(tmp_path: Path) -> None:
    """G10: a quote takes two bytes in an entry, and a character of a reference up to four."""
    metadata = dict.fromkeys("abcde", 200 * '"') | {"f": 18 * '"'}
    note = parse_note({"reference": 140 * "\N{GRINNING FACE}", "metadata": metadata})
    operations: list[Words] = [
        ("t", f"{number:022}", 64 * "a", 64 * "b", 2**53 - 1, "USD", note, 64 * "k") for number in range(400)
    ]
    journal = JournalWriter(tmp_path, "j1")
    rest: Batch | None = batch(*operations)
    taken: list[Words] = []
    items: list[object] = []
    before = "0" * 16
    while rest is not None:
        whole, rest = rest, None
        columns = sent(whole, [])[-1]
        seq = int(before, 16) + 1
        nonce = f"{seq:016x}"
        header = f"{seq} {before} {nonce} 1 {10**15} 1.86400 {len(whole.operations) * '+'} 4\n".encode()
        journal.append(3, header + columns, parse_header(header))
        before, rest = nonce, whole.rest
        taken += whole.operations
        items += whole.items
    journal.close()
    assert taken == operations
    assert items == [f"item {number}" for number in range(400)]
