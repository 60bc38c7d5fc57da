"""G1, G2: every credit is matched with its debit and every refund with its decline, at any cut through the journal.

What is not matched is reported.
"""

import itertools
import random
from collections import Counter
from typing import Final

import pytest
from unit.admin.made import txid

from wallet_engine.domain.entry import ZERO_NONCE, Entry, EntryHeader
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.transit import Transit

#: (partition, rows `<outcome> <operation>` of its next entry).
Step = tuple[int, list[str]]


def entries_of(steps: list[Step]) -> list[tuple[int, Entry]]:
    seqs: Counter[int] = Counter()
    made = []
    for partition, rows in steps:
        seqs[partition] += 1
        outcomes = "".join(row[0] for row in rows)
        header = EntryHeader(seqs[partition], ZERO_NONCE, ZERO_NONCE, 1, 1, 1, outcomes, 2)
        made.append((partition, Entry(header, tuple(parse_operation(row[2:]) for row in rows))))
    return made


def debit(number: int, payer: str = "ann", to: str = "bob", minor: int = 5) -> str:
    return f"+ d {txid(number)} {payer} {to} {minor} USD"


PAID: list[Step] = [
    (0, [debit(1), debit(2, to="eve", minor=7), f"i d {txid(3)} ann bob 900 USD"]),
    (1, ["+ c 0.1 bob 0 5 USD", "= c 0.1 bob 0 5 USD"]),
    (2, ["f c 0.1 eve 1 7 USD"]),
    (0, [f"+ r {txid(2)} ann 1.1.f 7 USD", f"= r {txid(2)} ann 1.1.f 7 USD"]),
    (0, ["+ s 1 - - 0 -", "= s 1 - - 0 -"]),
]


def told(steps: list[Step], later: list[Step] | None = None) -> Transit:
    transit = Transit()
    made = entries_of([*steps, *(later or [])])
    for partition, entry in made[: len(steps)]:
        transit.entry(partition, entry)
    for partition, entry in made[len(steps) :]:
        transit.later(partition, entry)
    return transit


def test_a_transfer_that_is_paid_and_one_that_is_refunded() -> None:
    transit = told(PAID)
    assert not list(transit.faults())
    assert not transit.wanted()
    assert transit.in_transit()["USD"] == transit.open_minor()["USD"] == 0
    assert repr(transit) == "<Transit open=0 early=0 faults=0>", "nothing is kept"
    assert (transit.stripes[0, "USD"], transit.stripes[1, "USD"]) == (5, -5)


@pytest.mark.parametrize("count", range(len(PAID) + 1))
def test_what_is_on_its_way_is_what_the_debits_say(count: int) -> None:
    transit = told(PAID[:count])
    assert not list(transit.faults())
    assert transit.in_transit()["USD"] == transit.open_minor()["USD"] == (0, 12, 7, 7, 0, 0)[count]
    assert transit.open_entries(0) == ({1} if 0 < count < 5 else set())


def test_any_cut_through_what_happened_is_explained_by_what_is_behind_it() -> None:
    """Each partition's position is random, so a cut may have credits without their debits."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(300):
        steps: list[Step] = []
        debits: list[tuple[int, int, str, int, bool]] = []
        seqs: Counter[int] = Counter()
        for number in range(draw.randint(1, 6)):
            payer, receiver = draw.sample(range(4), 2)
            minor, refused = draw.randint(1, 9), draw.random() < 0.3
            steps.append((payer, [debit(number, to=f"r{receiver}", minor=minor)]))
            seqs[payer] += 1
            debits.append((payer, seqs[payer], f"r{receiver}", minor, refused))
            credit = f"c {payer}.{seqs[payer]} r{receiver} 0 {minor} USD"
            steps.append((receiver, [f"{'a' if refused else '+'} {credit}"]))
            seqs[receiver] += 1
            if refused:
                steps.append((payer, [f"+ r {txid(number)} ann {seqs[payer]}.0.a {minor} USD"]))
                seqs[payer] += 1
                opened = seqs[payer] - 1
            else:
                opened = seqs[payer]
            steps.append((payer, [f"+ s {opened} - - 0 -"]))
            seqs[payer] += 1
        ends = {partition: draw.randint(0, seqs[partition]) for partition in range(4)}
        transit, behind = Transit(), []
        for partition, entry in entries_of(steps):
            if entry.header.seq <= ends[partition]:
                transit.entry(partition, entry)
            else:
                behind.append((partition, entry))
        draw.shuffle(behind)
        for partition, entry in sorted(behind, key=lambda each: each[1].header.seq):
            transit.later(partition, entry)
        assert not transit.wanted()
        assert not list(transit.faults())
        assert transit.in_transit()["USD"] == transit.open_minor()["USD"] >= 0


@pytest.mark.parametrize(
    "order", [order for order in itertools.permutations(range(4)) if order.index(0) < order.index(2)]
)
def test_copies_may_have_partitions_in_any_order(order: tuple[int, ...]) -> None:
    """Partitions may be in any order; the entries of each partition keep their order."""
    steps: list[Step] = [
        (0, [debit(1)]),
        (1, ["+ c 0.1 bob 0 5 USD"]),
        (0, ["+ s 1 - - 0 -"]),
        (2, ["+ o - zoe - 0 USD"]),
    ]
    transit = Transit()
    made = entries_of(steps)
    for number in order:
        transit.entry(*made[number])
    assert not list(transit.faults())
    assert not transit.wanted()


FAULTS: list[tuple[str, list[Step], str, str]] = [
    ("a credit of nothing", [(1, ["+ c 0.1 bob 0 5 USD"])], "0.1.0", "there is no such debit"),
    ("a refused credit of nothing", [(1, ["a c 0.1 bob 0 5 USD"])], "0.1.0", "there is no such debit"),
    (
        "a credit of a declined debit",
        [(0, [f"i d {txid(1)} ann bob 5 USD", debit(2)]), (1, ["+ c 0.1 bob 0 5 USD"])],
        *("0.1.0", "there is no such debit"),
    ),
    ("more than was paid", [PAID[0], (1, ["+ c 0.1 bob 0 6 USD"])], "0.1.0", "the debit is 5 USD for bob"),
    ("another currency", [PAID[0], (1, ["+ c 0.1 bob 0 5 EUR"])], "0.1.0", "the debit is 5 USD for bob"),
    ("another receiver", [PAID[0], (1, ["+ c 0.1 rob 0 5 USD"])], "0.1.0", "the debit is 5 USD for bob"),
    ("paid twice", [*PAID[:2], (1, ["+ c 0.1 bob 0 5 USD"])], "0.1.0", "decided a second time"),
    ("paid twice, the second time late", [*PAID, (1, ["+ c 0.1 bob 0 5 USD"])], "0.1.0", "no such debit"),
    (
        "paid and refunded",
        [*PAID[:2], (0, [f"+ r {txid(1)} ann 1.0.a 5 USD"])],
        *("0.1.0", "the debit is 5 USD of ann, paid"),
    ),
    ("refunded and paid", [*PAID[:4], (1, ["+ c 0.1 eve 1 7 USD"])], "0.1.1", "decided a second time"),
    ("a refund of nothing", [(0, [f"+ r {txid(1)} ann 7.0.a 5 USD"])], "0.7.0", "no such debit is open"),
    (
        "a refund without a refusal",
        [PAID[0], (0, [f"+ r {txid(1)} ann 1.0.a 5 USD"])],
        *("0.1.0", "5 USD went back to ann (a), and the credit was never refused"),
    ),
    (
        "refunded without a refusal, then paid",
        [PAID[0], (0, [f"+ r {txid(1)} ann 1.0.a 5 USD"]), (1, ["+ c 0.1 bob 0 5 USD"])],
        *("0.1.0", "credit to bob of 5 USD, and the debit is refunded"),
    ),
    (
        "a refund for something else",
        [*PAID[:3], (0, [f"+ r {txid(2)} ann 1.1.c 7 USD"])],
        *("0.1.1", "went back to ann (c), and the credit was refused (f)"),
    ),
    (
        "a refund of more",
        [*PAID[:3], (0, [f"+ r {txid(2)} ann 1.1.f 8 USD"])],
        "0.1.1",
        "the debit is 7 USD of ann",
    ),
    (
        "a refund of the settled",
        [*PAID, (0, [f"+ r {txid(2)} ann 1.1.f 7 USD"])],
        "0.1.1",
        "no such debit is open",
    ),
    (
        "settled while it is on its way",
        [PAID[0], (0, ["+ s 1 - - 0 -"])],
        *("0.1.0", "5 USD of ann is settled, and did neither arrive nor come back"),
    ),
    ("settled twice", [*PAID, (0, ["+ s 1 - - 0 -"])], "0.1.0", "it is settled, and was not open"),
]


@pytest.mark.parametrize(
    ("steps", "place", "words"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_what_does_not_meet_is_said(steps: list[Step], place: str, words: str) -> None:
    said = [(str(fault.place), fault.what) for fault in told(steps).faults()]
    assert any(at == place and words in what for at, what in said), said


def group(kind: str, *legs: str, word: str = "-", attempt: int = 0) -> str:
    return f"+ {kind} {txid(9)} ann X:{attempt}:{word}:{''.join(legs)} 0 -"


#: Home is 0: ann pays 5 to bob in 1, and cat in 1 pays 7 to dan in 2. Each part prepares, and pays what home decided.
_HOME: Final = "p0|ann|bob|5|USD;n1|cat|dan|7|USD;"
_PREPARED: list[Step] = [
    (1, [group("p", "r0|ann|bob|5|USD;", "p1|cat|dan|7|USD;")]),
    (2, [group("p", "r1|cat|dan|7|USD;")]),
]
_GROUP: list[Step] = [
    *_PREPARED,
    (0, [group("g", _HOME, word="c")]),
    (1, [group("y", "r0|ann|bob|5|USD;", "p1|cat|dan|7|USD;")]),
    (2, [group("y", "r1|cat|dan|7|USD;")]),
    (0, [group("w")]),
]
#: The same group, of which the parts have set aside and paid 6 where home has decided 7.
_OTHERWISE: list[Step] = [
    (partition, [row.replace("|7|", "|6|") if partition else row for row in rows])
    for partition, rows in _GROUP
]

GROUP_FAULTS: list[tuple[str, list[Step], str]] = [
    ("paid otherwise", _OTHERWISE, "otherwise than home has decided"),
    ("paid in part", [*_GROUP[:4], _GROUP[5]], "not paid everywhere: the receiver of leg 1"),
    ("paid and never decided", [*_PREPARED, *_GROUP[3:5]], "is paid, and home has not decided it"),
    ("decided twice", [*_GROUP[:3], _GROUP[2]], "is decided a second time"),
    ("paid what was not set aside", [*_PREPARED[:1], *_GROUP[2:5]], "is paid that was not prepared so"),
    (
        "given back and decided",
        [*_PREPARED, (2, [group("b", "r1|cat|dan|7|USD;")]), *_GROUP[2:4]],
        "is given back, and home has decided to pay it",
    ),
]


def test_every_order_of_the_partitions_of_a_group_is_explained() -> None:
    for order in itertools.permutations(range(3)):
        transit = told(sorted(_GROUP, key=lambda step: order[step[0]]))
        assert not list(transit.faults()), order
        assert not transit.wanted()
        assert transit.in_transit()["USD"] == 0


#: After home has forgotten the group: parts that have not say so, and home calls the attempt of a repeat void.
_VOID: list[Step] = [
    (2, [group("p", "r1|cat|dan|7|USD;")]),
    (0, [group("g", word="r").replace("+", "u", 1)]),
    (2, [group("b", "r1|cat|dan|7|USD;")]),
]
#: A void attempt, and a later one that is paid.
_AT_LAST: list[Step] = [
    *_VOID,
    *((partition, [row.replace(" X:0:", " X:1:") for row in rows]) for partition, rows in _GROUP),
]


@pytest.mark.parametrize("again", [_GROUP, _VOID, _AT_LAST, [*_GROUP, *_GROUP], [*_VOID, *_AT_LAST]])
def test_g14_a_group_that_is_repeated_after_it_was_forgotten(again: list[Step]) -> None:
    """`verify` called it a fault, if it read a part before the home."""
    for order in itertools.permutations(range(3)):
        transit = told(sorted([*_GROUP, *again], key=lambda step: order[step[0]]))
        assert not [fault.what for fault in transit.faults()], order
        assert not transit.wanted()
        assert transit.in_transit()["USD"] == transit.open_minor()["USD"] == 0


def test_g1_a_part_that_pays_again_for_one_decision_is_said() -> None:
    """In every order of the partitions: that part had forgotten the group, and home had not."""
    paid_again: list[Step] = [_PREPARED[1], _GROUP[4]]
    for order in itertools.permutations(range(3)):
        transit = told(sorted([*_GROUP, *paid_again], key=lambda step: order[step[0]]))
        assert [fault.what for fault in transit.faults()], order


@pytest.mark.parametrize(
    ("steps", "words"), [row[1:] for row in GROUP_FAULTS], ids=[row[0] for row in GROUP_FAULTS]
)
def test_g1_what_does_not_meet_in_a_group_is_said(steps: list[Step], words: str) -> None:
    assert [fault.what for fault in told(steps).faults() if words in fault.what]


def test_an_id_that_is_used_again_while_a_part_of_the_first_group_is_away() -> None:
    """The first attempt was given back; a retention later the same group is prepared and paid."""
    given_back = (2, [group("b", "r1|cat|dan|7|USD;")])
    transit = told([*_PREPARED, given_back, _PREPARED[1], *_GROUP[2:]])
    assert not list(transit.faults())
    assert transit.in_transit()["USD"] == 0


def test_g14_parts_that_paid_otherwise_are_found_in_every_order_of_partitions() -> None:
    """G14: `verify` reads one partition after the other, so it passes payments whose decision is still to come."""
    for order in itertools.permutations(range(3)):
        found = [fault.what for fault in told(sorted(_OTHERWISE, key=lambda step: order[step[0]])).faults()]
        assert found, order


def test_nothing_is_said_of_what_could_not_be_read() -> None:
    transit = told([(1, ["+ c 0.1 bob 0 5 USD"])])
    assert list(transit.faults())
    assert not list(transit.faults(unread={0}))


def test_behind_the_cut_only_what_explains_counts() -> None:
    transit = told([(1, ["+ c 0.2 bob 0 5 USD"])], [(0, [debit(1)]), (0, [debit(2), debit(3)])])
    assert not list(transit.faults())
    assert transit.in_transit()["USD"] == transit.open_minor()["USD"] == 0
    assert transit.open_entries(0) == set()
