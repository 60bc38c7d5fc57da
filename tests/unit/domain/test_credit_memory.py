"""Where a receiver remembers credits (G4): every credit has a place of its own in a field that ten entries share."""

import pytest

from wallet_engine.domain.entry import credit_memory, credit_outcome


def test_no_two_credits_share_a_place() -> None:
    places = {
        credit_memory(f"{p}.{seq}", idx)
        for p in (1, 10, 11, 111)
        for seq in (1, 9, 10, 11, 101, 110, 1000)
        for idx in (0, 1, 10)
    }
    assert len(places) == 4 * 7 * 3


@pytest.mark.parametrize(
    ("entry", "idx", "outcome"),
    [("3.41", 7, "+"), ("3.41", 70, "c"), ("3.42", 7, "a"), ("3.42", 70, None), ("3.43", 7, None)],
)
def test_an_outcome_is_found_by_the_whole_mark(entry: str, idx: int, outcome: str | None) -> None:
    field, mark = credit_memory(entry, idx)
    assert field == "3.4"
    assert credit_outcome(" 1:70c 1:7+ 2:7a", mark) == outcome
