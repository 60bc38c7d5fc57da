"""G4: a witness never says more time than has passed since it saw the window in force."""

import random

from wallet_engine.drain.witness import Witness


def test_it_counts_from_when_it_speaks_first_after_it_has_seen() -> None:
    witness = Witness()
    assert witness.word(3, 100.0) == (0, 0, 0)
    witness.saw(3, 2, 7, 40)
    assert witness.word(3, 105.0) == (2, 7, 40)  # the window may have been seen as late as now
    witness.saw(3, 2, 7, 40)
    assert witness.word(3, 109.9) == (2, 7, 44)
    witness.saw(3, 2, 7, 44)
    assert witness.word(3, 110.0) == (2, 7, 45)  # earlier words lose no time
    assert witness.word(4, 110.0) == (0, 0, 0)


def test_another_window_or_epoch_or_more_seen_elsewhere_begins_anew() -> None:
    for seen in ((2, 8, 0), (3, 7, 50), (2, 7, 61)):
        witness = Witness()
        witness.saw(3, 2, 7, 40)
        witness.word(3, 100.0)
        assert witness.word(3, 110.0) == (2, 7, 50)
        witness.saw(3, *seen)
        assert witness.word(3, 130.0) == seen
        assert witness.word(3, 131.0) == (*seen[:2], seen[2] + 1)


def test_what_is_forgotten_begins_anew() -> None:
    witness = Witness()
    witness.saw(3, 2, 7, 40)
    witness.forget(3)
    witness.forget(4)
    assert witness.word(3, 100.0) == (0, 0, 0)


def test_several_together_say_no_more_than_has_passed() -> None:
    """Witnesses start, stop and look at random times, and may see the words of others late."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    window, opened_s, seconds, now_s, rotated = 1, 0.0, 0, 0.0, 0
    witnesses = [Witness() for _ in range(3)]
    for _ in range(3000):
        now_s += chance.expovariate(1)
        index = chance.randrange(len(witnesses))
        if chance.random() < 0.02:
            witnesses[index] = Witness()
        epoch, said_window, said_s = witnesses[index].word(0, now_s)
        now_s += chance.expovariate(10)
        if (epoch, said_window) == (1, window):
            seconds = max(seconds, said_s)
        witnesses[index].saw(0, 1, window, seconds)
        assert seconds <= now_s - opened_s
        if seconds >= 60:
            window, opened_s, seconds, rotated = window + 1, now_s, 0, rotated + 1
    assert rotated > now_s / 60 / 2
