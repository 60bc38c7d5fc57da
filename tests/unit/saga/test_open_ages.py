"""The metrics of open entries: their number, and for how long the oldest has been seen."""

import random

import pytest

from wallet_engine.saga.open_ages import AGE_PART, OpenAges


def test_an_age_begins_when_an_entry_is_first_seen_and_ends_with_it() -> None:
    ages = OpenAges()
    assert (ages.count(3), ages.oldest_s(3, 10.0), ages.total) == (0, 0.0, 0)
    ages.note(3, [5, 7], 10.0)
    ages.note(4, [1], 10.5)
    assert (ages.count(3), ages.total, ages.oldest_s(3, 12.0)) == (2, 3, 2.0)
    ages.note(3, [7, 9], 13.0)  # 7 was seen at 10
    assert ages.oldest_s(3, 14.0) == 4.0
    ages.note(3, [9], 15.0)  # 9 was first seen at 13
    assert ages.oldest_s(3, 15.0) == 2.0
    ages.note(3, [], 16.0)
    assert (ages.count(3), ages.oldest_s(3, 20.0)) == (0, 0.0)
    ages.note(3, [11], 30.0)
    assert ages.oldest_s(3, 30.0) == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_ages_are_told_to_a_part_of_the_longest_however_long_it_takes(seed: int) -> None:
    print(f"seed {seed}")
    drawn, ages, began = random.Random(seed), OpenAges(), {}
    now_s, newest, longest_s = 0.0, 0, 0.0
    for _ in range(2_000):
        now_s += 1.0
        if drawn.random() < 0.5:
            newest += 1
            began[newest] = now_s
        if began and drawn.random() < 0.02:  # a stuck entry ends, and all before it
            stuck = drawn.choice(sorted(began))
            began = {seq: since for seq, since in began.items() if seq > stuck}
        ages.note(0, sorted(began), now_s)
        true_s = now_s - min(began.values()) if began else 0.0
        longest_s = max(longest_s, true_s)
        assert true_s - longest_s * AGE_PART - 1.0 <= ages.oldest_s(0, now_s) <= true_s
    assert len(ages._looks[0]) < 500
