"""The oracle and the table of cases: every operation with every outcome, refusals in their order (G3, G4)."""

import pytest
from lua.cases import CASES, SETUP, Case, rows
from lua.hold_cases import HOLD_CASES, HOLD_OUTCOMES
from lua.limit_cases import LIMIT_CASES, LIMIT_OUTCOMES
from lua.return_cases import RETURN_CASES, RETURN_OUTCOMES

from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import decide
from wallet_engine.domain.oracle_state import PartitionState, redis_image, state_of_image


def run(state: PartitionState, batch: list[str]) -> None:
    rotates, outcomes, operations = rows(batch)
    before = redis_image(state)
    nonce = f"{state.seq:016x}"
    decided = decide(
        state,
        [parse_operation(line) for line in operations],
        state.clock + 1,
        state.window + rotates,
        nonce=nonce,
    )
    assert decided == outcomes
    state.check()
    if set(outcomes) <= set("=!bsn"):
        assert redis_image(state) == before


@pytest.mark.parametrize(
    "case", [*CASES, *HOLD_CASES, *RETURN_CASES, *LIMIT_CASES], ids=lambda case: case.name
)
def test_case(case: Case) -> None:
    state = PartitionState()
    for batch in [*SETUP, *case.batches]:
        run(state, batch)
        assert redis_image(state_of_image(redis_image(state))) == redis_image(state)
    for account, minor in case.balances.items():
        assert (account, state.balance(account, "USD")) == (account, minor)
    if case.seq is not None:
        assert state.seq == case.seq


def test_the_table_has_every_outcome_of_every_operation() -> None:
    covered = {
        (row[2], row[0])
        for case in [*CASES, *HOLD_CASES, *RETURN_CASES, *LIMIT_CASES]
        for batch in case.batches
        for row in batch
        if " " in row
    }
    expected = {
        "o": "+=!c",
        "t": "+=!acfgkqil",
        "d": "+=!acfi",
        "c": "+=gkql",
        "r": "+=l",
        "s": "+=",
        "f": "+=aczp",
        "n": "+",
        **HOLD_OUTCOMES,
        **RETURN_OUTCOMES,
        **LIMIT_OUTCOMES,
    }
    assert covered == {(kind, outcome) for kind, outcomes in expected.items() for outcome in outcomes}
