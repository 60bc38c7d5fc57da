"""Rules 6: home's decision on a group that its parts must still pay stands, whatever its id is used for after that."""

import pytest
from lua.cases import SETUP, rows
from lua.group_cases import line
from lua.partition import LuaPartition
from lua.test_rules import fold, next_entry, prepared

from wallet_engine.domain.errors import Corruption
from wallet_engine.domain.oracle import apply_payload
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
            if told == outcome:
                apply_payload(state, payload)
                assert partition.replay(payload)[0] == "OK"
                assert partition.image() == redis_image(state)
            else:
                with pytest.raises(Corruption, match=f"must come out as '{outcome}', recorded is '{told}'"):
                    apply_payload(state, payload)
                assert partition.replay(payload) == ["DIFFERS", f"{outcome}+"]
