"""The known state of open entries, and when a receiver's credits may be driven."""

import pytest

from wallet_engine.saga import standing as module
from wallet_engine.saga.standing import REST_S_MAX, REST_S_MIN, Receiver, Standings


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    monkeypatch.setattr(module, "OPEN_PER_RECEIVER_MAX", 3)
    return []


@pytest.fixture
def standings(told: list[tuple[int, int]]) -> Standings:
    return Standings(lambda q, entries: told.append((q, entries)))


def test_an_entry_is_paid_receiver_by_receiver(standings: Standings) -> None:
    standings.put(1, 10, "nonce", (7, 8))
    assert standings.owed_by(1) == {7, 8}
    assert not standings.paid(1, 10, 7)
    assert standings.due(1, 7, 0.0, 9) == []
    assert standings.due(1, 8, 0.0, 9) == [10]
    assert list(standings.settled_late(1)) == []
    assert standings.paid(1, 10, 8)
    assert not standings.paid(1, 10, 8)  # only once
    assert list(standings.settled_late(1)) == [10]
    standings.forget(1, 10)
    assert standings.seqs(1) == []


def test_the_oldest_that_may_be_driven_are_due(standings: Standings) -> None:
    for seq in range(10, 16):
        standings.put(1, seq, "nonce", (7,))
    late = standings.get(1, 11)
    assert late is not None
    late.later(7, 5.0)
    assert standings.due(1, 7, 4.9, 3) == [10, 12, 13]
    assert standings.due(1, 7, 5.0, 3) == [10, 11, 12]
    assert standings.due(2, 7, 5.0, 3) == []


def test_what_an_entry_owes_to_others_does_not_wait_with_it(standings: Standings) -> None:
    standings.put(1, 10, "nonce", (7, 8))
    late = standings.get(1, 10)
    assert late is not None
    late.later(7, 5.0)
    late.later(9, 5.0)
    assert standings.due(1, 7, 0.0, 9) == []
    assert standings.due(1, 8, 0.0, 9) == [10]
    assert standings.owed_by(1) == {7, 8}


def test_another_entry_of_the_same_seq_owes_what_it_says_itself(standings: Standings) -> None:
    """G1: an entry that a recovery has put in the place of another must not count as paid."""
    standings.put(1, 10, "one", (7,))
    standings.paid(1, 10, 7)
    standings.put(1, 10, "other", (8,))
    assert list(standings.settled_late(1)) == []
    assert standings.due(1, 8, 0.0, 9) == [10]


def test_entries_open_towards_a_receiver_are_counted_over_all_partitions(
    standings: Standings, told: list[tuple[int, int]]
) -> None:
    """G10: at the limit, and below it again."""
    standings.put(1, 10, "a", (7, 8))
    standings.put(2, 10, "b", (7,))
    assert told == []
    standings.put(3, 10, "c", (7,))
    standings.put(4, 10, "d", (7,))
    assert told == [(7, 3)]
    standings.forget(2, 10)
    assert told == [(7, 3)]
    standings.paid(3, 10, 7)
    assert told == [(7, 3), (7, 2)]
    standings.put(4, 10, "again", (7,))
    assert told == [(7, 3), (7, 2)]


def test_a_receiver_that_fails_is_left_alone_longer_and_longer() -> None:
    receiver, now_s, rests = Receiver(), 100.0, []
    for _ in range(6):
        assert receiver.may_be_driven(now_s, 0)
        receiver.failed(now_s)
        receiver.failed(now_s)  # the attempt that was in progress
        begun_s = now_s
        while not receiver.may_be_driven(now_s, 0):
            now_s += 0.25
        rests.append(now_s - begun_s)
    assert rests[:3] == [REST_S_MIN, 2 * REST_S_MIN, 4 * REST_S_MIN]
    assert rests[3:] == [REST_S_MAX] * 3


def test_a_receiver_that_has_failed_is_tried_by_one_drive() -> None:
    receiver = Receiver()
    receiver.failed(0.0)
    now_s = REST_S_MAX
    assert receiver.may_be_driven(now_s, 0)
    receiver.drives = 1
    assert not receiver.may_be_driven(now_s, 0)
    assert receiver.may_be_driven(now_s, 1)
    receiver.drives = 2
    assert not receiver.may_be_driven(now_s, 1)
    receiver.well()
    assert receiver.may_be_driven(now_s, 0)
