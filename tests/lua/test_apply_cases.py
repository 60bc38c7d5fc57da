"""The apply script against the table of cases, and against the oracle after every batch."""

import pytest
from lua.cases import CASES, SETUP, Case, rows
from lua.group_cases import GROUP_CASES
from lua.hold_cases import HOLD_CASES
from lua.limit_cases import LIMIT_CASES
from lua.partition import LuaPartition
from lua.return_cases import RETURN_CASES

from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import decide
from wallet_engine.domain.oracle_state import PartitionState, redis_image


def run(partition: LuaPartition, state: PartitionState, batch: list[str]) -> None:
    rotates, outcomes, lines = rows(batch)
    reply = partition.apply(lines, rotate=rotates)
    assert reply[0] == "OK", reply
    assert reply[4] == outcomes
    operations = [parse_operation(line) for line in lines]
    decided = decide(state, operations, reply[3], state.window + rotates, nonce=f"{partition.nonces:016x}")
    assert decided == outcomes
    assert reply[1:3] == [state.seq, state.nonce]
    assert partition.image() == redis_image(state)
    assert len(partition.payloads()) == state.seq


@pytest.mark.parametrize("partition", ["system", "bundled"], indirect=True)
@pytest.mark.parametrize(
    "cases",
    [CASES, HOLD_CASES, RETURN_CASES, GROUP_CASES, LIMIT_CASES],
    ids=["transfers", "holds", "refunds", "groups", "limits"],
)
def test_cases(partition: LuaPartition, cases: list[Case]) -> None:
    for case in cases:
        partition.empty("live")
        state = PartitionState()
        for batch in [*SETUP, *case.batches]:
            try:
                run(partition, state, batch)
            except AssertionError as error:
                raise AssertionError(f"case {case.name!r}, batch {batch}: {error}") from error


DETAILS = [
    # name, batches before, batch, details of its repeated operations; `open` stands for the time of entry 4
    ("transfer", [["+ t T1 alice bob 1 USD"]], ["= t T1 alice bob 1 USD"], ["0 + 4.0 0"]),
    ("decline", [["i t T1 alice bob 1001 USD"]], ["= t T1 alice bob 1001 USD"], ["0 i 4.0 0"]),
    (
        "in the batch",
        [],
        ["+ t T0 alice bob 1 USD", "+ t T1 alice bob 1 USD", "= t T1 alice bob 1 USD"],
        ["2 + 4.1 0"],
    ),
    ("open debit", [["+ d T1 alice far 1 USD"]], ["= d T1 alice far 1 USD"], ["0 + 4.0 open"]),
    (
        "settled debit",
        [["+ d T1 alice far 1 USD"], ["+ s 4 - - 0 -"]],
        ["= d T1 alice far 1 USD"],
        ["0 + 4.0 0"],
    ),
    (
        "refunded debit",
        [["+ d T1 alice far 1 USD"], ["+ r T1 alice 4.0.c 1 USD"]],
        ["= d T1 alice far 1 USD"],
        ["0 c 4.0 open"],
    ),
    (
        "refunded in the window before",
        [["+ d T1 alice far 1 USD"], ["rotate", "+ r T1 alice 4.0.c 1 USD"]],
        ["= d T1 alice far 1 USD"],
        ["0 c 4.0 open"],
    ),
    (
        "credit",
        [["+ c 9.1 alice 10 1 USD", "g c 9.1 nobody 1 1 USD"]],
        ["= c 9.1 nobody 1 1 USD", "= c 9.1 alice 10 1 USD"],
        ["0 g", "1 +"],
    ),
    (
        "no detail of conflicts and others",
        [["+ d T1 alice far 1 USD"]],
        ["! d T1 alice far 2 USD", "= s 9 - - 0 -", "= r T1 alice 9.0.a 1 USD"],
        [],
    ),
]


@pytest.mark.parametrize(
    ("batches", "batch", "details"), [row[1:] for row in DETAILS], ids=[row[0] for row in DETAILS]
)
def test_a_repeat_gets_the_first_answer(
    partition: LuaPartition, batches: list[list[str]], batch: list[str], details: list[str]
) -> None:
    """G4: the reply says what the first answer was, and whether its money is still under way."""
    opened_ms = ""
    for earlier in [*SETUP, *batches]:
        rotates, outcomes, lines = rows(earlier)
        reply = partition.apply(lines, rotate=rotates)
        assert reply[4] == outcomes
        if reply[1] == 4:
            opened_ms = str(reply[3])
    _, outcomes, lines = rows(batch)
    reply = partition.apply(lines)
    assert reply[4] == outcomes
    assert reply[5:] == [detail.replace("open", opened_ms) for detail in details]
