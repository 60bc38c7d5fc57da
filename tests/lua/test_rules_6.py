"""Rules 6: home's decision on a group that its parts must still pay stands, whatever its id is used for after that.
And a refunded total is that of one original, where it was that of all uses of an id.
"""

import pytest
from lua.cases import SETUP, rows
from lua.group_cases import line
from lua.partition import LuaPartition
from lua.test_rules import comes_out, fold, next_entry, prepared

from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.oracle_state import redis_image

DECIDED = line("+ g T1 alice X1 c{p alice>far 400}")
#: What a part that has not paid asks home: an interruption, if nothing was decided.
ASKED = line("g T1 alice X1 r{}")
#: Uses of the id after home has forgotten it.
LATER = [
    "t T1 alice bob 7 USD",
    line("m T1 alice X2 c{b alice>bob 7}"),
    line("g T1 alice X2 c{p alice>far 7}"),
]
IDS = ["transfer", "group", "group across"]


@pytest.mark.parametrize("later", LATER, ids=IDS)
def test_g1_a_part_that_was_away_pays_what_home_decided(partition: LuaPartition, later: str) -> None:
    """It was told to give its money back, and home's legs were paid: the group happened by half."""
    for batch in [
        *SETUP,
        [DECIDED],
        ["rotate", "+ n api - - 0 -"],
        ["rotate", "+ n api - - 0 -"],
        [f"+ {later}"],
    ]:
        rotates, outcomes, lines = rows(batch)
        assert partition.apply(lines, rotate=rotates)[4] == outcomes
    reply = partition.apply([ASKED])
    assert reply[4:] == ["=", "0 + - 0"]
    assert partition.apply([line("w T1 alice X1{}")])[4] == "+"
    assert partition.apply([ASKED])[4] == "!", "every part has paid: only the later use of the id is known"
    assert partition.apply([later])[4] == "="


@pytest.mark.parametrize("later", LATER, ids=IDS)
def test_g6_entries_of_rules_5_come_out_as_they_did_then(partition: LuaPartition, later: str) -> None:
    before = prepared(partition)
    payloads = [*before, next_entry(before, [DECIDED], 5)]
    for window in (2, 3):
        payloads.append(next_entry(payloads, ["+ n api - - 0 -"], 5, window=window))
    payloads.append(next_entry(payloads, [f"+ {later}"], 5))
    for rules, outcome, other in ((5, "!", "="), (6, "=", "!")):
        for told in (outcome, other):
            payload = next_entry(payloads, [f"{told} {ASKED}", "+ n api - - 0 -"], rules)
            state = fold(payloads)
            partition.empty("recovering")
            for each in payloads:
                assert partition.replay(each)[0] == "OK"
            comes_out(partition, state, payload, told, outcome)


OF = transfer_field("alice", "T1")
FIRST, SECOND = f"{OF}|0.6.0", f"{OF}|0.7.0"


def refund(number: int, of: str, back: int, whole: int, how: str = "l") -> str:
    return f"x R{number} bob alice|{of}|{how}|{whole}|{back} {back} USD"


@pytest.mark.parametrize("rules", [(5, 5, 5), (5, 6, 6), (6, 5, 6), (6, 6, 5), (6, 6, 6)])
def test_g6_totals_of_both_rules_in_one_window(partition: LuaPartition, rules: tuple[int, int, int]) -> None:
    """Programs of both rules may decide side by side: neither lets more go back than was paid, and all is replayed."""
    payloads = prepared(partition)
    payloads.append(next_entry(payloads, ["+ t T1 alice bob 40 USD"], 5))
    payloads.append(next_entry(payloads, ["+ t T3 alice bob 1 USD"], 5))
    for number, each in enumerate(rules):
        payloads.append(next_entry(payloads, [f"+ {refund(number, FIRST, 10, 40)}"], each))
    for each in (5, 6):
        late = [f"r {refund(8, FIRST, 11, 40)}", f"+ {refund(9, FIRST, 10, 40)}"]
        entries = [*payloads, next_entry(payloads, late, each)]
        partition.empty("recovering")
        for payload in entries:
            assert partition.replay(payload)[0] == "OK"
        assert partition.image() == redis_image(fold(entries))


@pytest.mark.parametrize(("rules", "outcome"), [(5, "r"), (6, "+")])
def test_g6_a_total_of_the_use_before(partition: LuaPartition, rules: int, outcome: str) -> None:
    """The first use of the id was refunded as a store knew it, after it was forgotten."""
    payloads = prepared(partition)
    payloads.append(next_entry(payloads, ["+ n api - - 0 -"], 5, window=2))
    payloads.append(next_entry(payloads, ["+ t T1 alice bob 40 USD"], rules))
    payloads.append(next_entry(payloads, [f"+ {refund(1, f'{OF}|0.2.0', 30, 400, 's2.300')}"], rules))
    payloads.append(next_entry(payloads, [f"{outcome} {refund(2, SECOND, 40, 40)}"], rules))
    partition.empty("recovering")
    for payload in payloads:
        assert partition.replay(payload)[0] == "OK"
    assert partition.image() == redis_image(fold(payloads))
