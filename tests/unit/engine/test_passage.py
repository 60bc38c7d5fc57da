"""Which numbers are certainly older than an age, by monotonic time alone."""

from wallet_engine.engine.passage import MARKS_MAX, Passage


def test_nothing_has_passed_before_the_age_is_over() -> None:
    passage = Passage(8.0)
    assert not passage.passed(1, 100.0)
    passage.note(5, 100.0)
    assert not passage.passed(1, 107.9)
    assert passage.passed(5, 108.0)
    assert not passage.passed(6, 108.0)


def test_it_tells_to_within_a_part_of_the_age_and_keeps_few_marks() -> None:
    passage = Passage(8.0)
    for tenth in range(1000):  # the number is ten times the second
        passage.note(tenth, tenth / 10)
    assert passage.passed(910 - 10 * 8 // MARKS_MAX, 99.9)
    assert not passage.passed(920, 99.9)
    assert repr(passage) == f"<Passage age_s=8.0 marks={MARKS_MAX + 1}>"


def test_a_gap_makes_nothing_older_than_was_seen() -> None:
    passage = Passage(8.0)
    passage.note(5, 0.0)
    passage.note(9, 50.0)
    assert passage.passed(5, 50.0)
    assert not passage.passed(6, 57.0)
    assert passage.passed(9, 58.0)
