"""G2, G14: a difference is an entry with another outcome than the rules give, or one without its other end."""

import itertools
from collections import Counter

import pytest
from unit.admin.made import txid

from wallet_engine.deciding.decider import GRACE_S, Decider, Difference
from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, ZERO_NONCE, EntryHeader, parse_header
from wallet_engine.domain.errors import NewerFormat
from wallet_engine.domain.operation import parse_operation
from wallet_engine.journal.feed import FeedEntry

PARTITIONS = 4


class Journal:
    """A chain of entries, made of rows `<outcome> <operation>`."""

    def __init__(self) -> None:
        self.last: dict[int, EntryHeader] = {}
        self._nonces = itertools.count(1)

    def entry(self, partition: int, *rows: str) -> FeedEntry:
        last = self.last.get(partition)
        seq, prev = (1, ZERO_NONCE) if last is None else (last.seq + 1, last.nonce)
        outcomes = "".join(row[0] for row in rows)
        header = EntryHeader(seq, prev, f"{next(self._nonces):016x}", 1, 1000, 1, outcomes, RULES)
        payload = f"{header.text()}\n".encode() + pack([parse_operation(row[2:]) for row in rows]).columns
        self.last[partition] = parse_header(payload)
        return FeedEntry(partition, header, payload)


def opened(journal: Journal, *accounts: tuple[int, str]) -> list[FeedEntry]:
    rows = [
        (p, [f"+ o - {name} - 0 USD", f"+ t {txid(90 + number)} @bank {name} 100 USD"])
        for number, (p, name) in enumerate(accounts)
    ]
    return [journal.entry(p, *both) for p, both in rows]


def decided(*batches: list[FeedEntry]) -> tuple[Decider, list[Difference]]:
    decider = Decider(PARTITIONS)
    return decider, [found for batch in batches for found in decider.take(batch)]


def ends(journal: Journal) -> dict[int, int]:
    return {partition: header.seq for partition, header in journal.last.items()}


def looked(decider: Decider, journal: Journal) -> list[Difference]:
    """The differences after everything was read and the time for missing entries has passed."""
    found = decider.look(0.0) + decider.look(GRACE_S, ends(journal)) + decider.look(GRACE_S + 1)
    assert not decider.overdue(3 * GRACE_S, alone=False)
    return found


def paid(journal: Journal, number: int = 1) -> list[FeedEntry]:
    debit = journal.entry(0, f"+ d {txid(number)} ann bob 5 USD")
    seq = debit.seq
    return [
        debit,
        journal.entry(1, f"+ c 0.{seq} bob 0 5 USD"),
        journal.entry(0, f"+ s {seq} - - 0 -"),
    ]


def test_what_is_right_says_nothing_in_any_order_of_partitions() -> None:
    for order in itertools.permutations(range(5)):
        journal = Journal()
        made = [*opened(journal, (0, "ann"), (1, "bob")), *paid(journal)]
        seqs: Counter[int] = Counter()
        shuffled = [made[i] for i in order]
        if any(seqs.update([e.partition]) or seqs[e.partition] != e.seq for e in shuffled):
            continue
        decider = Decider(PARTITIONS)
        for entry in shuffled:
            assert not decider.take([entry])
            assert not decider.look(0.0)
        assert not looked(decider, journal)
        assert not decider.differences
        assert decider.positions([0, 1])[0].seq == 3


def test_an_outcome_that_the_rules_do_not_come_to() -> None:
    journal = Journal()
    funds = opened(journal, (0, "ann"), (1, "bob"))
    decider, found = decided(funds, [journal.entry(0, f"+ d {txid(1)} ann bob 500 USD")])
    assert [(d.partition, d.seq) for d in found] == [(0, 2)]
    assert found[0].what.startswith("entry 2: operation 0 must come out as 'i', recorded is '+'")
    more = [journal.entry(0, f"+ t {txid(7)} @bank ann 1 USD"), journal.entry(1, "+ n x - - 0 -")]
    assert not decider.take(more[:1]), "said once"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["+ c 0.1 bob 0 5 USD"], "there is no such debit"),
        (["+ c 0.2 bob 0 6 USD"], "the debit is 5 USD for bob"),
        (["+ c 0.2 eve 0 5 USD"], "the debit is 5 USD for bob"),
        (["+ c 0.2 bob 1 5 USD"], "there is no such debit"),
        (["+ c 0.9 bob 0 5 USD"], "there is no such debit"),
        (["+ c 7.1 bob 0 5 USD"], "there is no such debit"),
        (["+ c 3.1 bob 0 5 USD"], "there is no such debit"),
    ],
)
def test_a_credit_that_is_not_that_of_a_debit(rows: list[str], said: str) -> None:
    journal = Journal()
    funds = opened(journal, (0, "ann"), (1, "bob"))
    funds.append(journal.entry(1, "+ o - eve - 0 USD"))
    debit = journal.entry(0, f"+ d {txid(1)} ann bob 5 USD")
    decider, found = decided(funds, [debit, journal.entry(1, *rows)])
    found += looked(decider, journal)
    assert [(d.partition, d.seq) for d in found] == [(1, 3)], found
    assert said in found[0].what
    assert not looked(decider, journal), "said once"


def test_a_second_credit_of_a_debit_that_has_ended() -> None:
    journal = Journal()
    funds = opened(journal, (0, "ann"), (1, "bob"), (2, "eve"))
    decider, found = decided(funds, paid(journal), [journal.entry(2, "+ c 0.2 eve 0 5 USD")])
    found += looked(decider, journal)
    assert [(d.partition, d.seq) for d in found] == [(2, 2)]


def test_a_refund_to_another_or_of_more() -> None:
    for who, minor in (("ann", 50), ("eve", 5)):
        journal = Journal()
        funds = opened(journal, (0, "ann"), (0, "eve"))
        debit = journal.entry(0, f"+ d {txid(1)} ann bob 5 USD")
        refused = journal.entry(1, "g c 0.3 bob 0 5 USD")
        back = journal.entry(0, f"+ r {txid(1)} {who} 3.0.g {minor} USD")
        _, found = decided(funds, [debit, refused, back])
        assert [(d.partition, d.seq) for d in found] == [(0, 4)], (who, minor)


def test_money_that_is_settled_and_never_came() -> None:
    journal = Journal()
    funds = opened(journal, (0, "ann"))
    debit = journal.entry(0, f"+ d {txid(1)} ann bob 5 USD")
    decider, found = decided(funds, [debit, journal.entry(0, "+ s 2 - - 0 -")])
    assert not found
    found = looked(decider, journal)
    assert [(d.partition, d.seq) for d in found] == [(0, 2)]
    assert "neither arrive nor come back" in found[0].what


def test_nothing_is_missing_before_all_that_was_durable_is_here() -> None:
    journal = Journal()
    funds = opened(journal, (0, "ann"), (1, "bob"))
    debit, credit, _ = paid(journal)
    decider, found = decided(funds, [credit])
    found += looked(decider, journal)
    assert not found, "the debit is durable, and was not read yet"
    assert not decider.take([debit])
    assert not looked(decider, journal)


def test_an_entry_that_cannot_be_read_or_makes_the_oracle_fail() -> None:
    journal = Journal()
    entry = opened(journal, (0, "ann"))[0]
    broken = entry._replace(payload=entry.payload[:-9])
    _, found = decided([broken])
    assert [(d.partition, d.seq) for d in found] == [(0, 1)]
    header = entry.payload.partition(b"\n")[0]
    strange = entry._replace(
        payload=header + b"\n" + pack([parse_operation("+ s x - - 0 -"[2:])] * 2).columns
    )
    _, found = decided([strange])
    assert [(d.partition, d.seq) for d in found] == [(0, 1)]


def test_an_entry_of_later_rules_is_no_difference() -> None:
    """A follower that was not upgraded yet stops following, but does not stop the partition."""
    journal = Journal()
    funds = opened(journal, (0, "ann"))
    decider, _ = decided(funds)
    entry = journal.entry(0, "+ o - eve - 0 USD")
    header, _, rest = entry.payload.partition(b"\n")
    text = b"%b %d\n%b" % (header.rpartition(b" ")[0], RULES + 1, rest)
    later = entry._replace(header=parse_header(text), payload=text)
    with pytest.raises(NewerFormat, match=f"is of rules {RULES + 1}"):
        decider.take([later])
    assert not decider.differences
