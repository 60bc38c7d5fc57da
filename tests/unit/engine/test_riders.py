"""Riders are sent with the next batch of their partition, or alone after a whole round."""

import pytest

from wallet_engine.domain.operation import Words
from wallet_engine.engine.accumulator import HOLD_MS_MAX, QUEUE_OPERATIONS_MAX, Accumulator
from wallet_engine.engine.riders import Riders
from wallet_engine.redis_store.keys import PartitionKeys


def settle(seq: int) -> Words:
    return ("s", str(seq), "-", "-", 0, "-", "", "")


@pytest.fixture
def accumulator() -> Accumulator:
    return Accumulator(3, PartitionKeys("3"), "s1", 1)


def test_all_that_wait_for_a_partition_board_together_and_nobody_is_told(accumulator: Accumulator) -> None:
    riders = Riders()
    for seq in (1, 2):
        riders.add(3, settle(seq))
    riders.add(4, settle(9))
    assert riders.board(accumulator, 5.0)
    batch = accumulator.take()
    assert batch is not None
    assert batch.operations == [settle(1), settle(2)]
    for idx, item in enumerate(batch.items):
        item.committed("+", idx, batch)
    assert riders.waiting == {4: [settle(9)]}


def test_they_are_overdue_once_they_have_waited_for_a_whole_round() -> None:
    riders = Riders()
    riders.add(3, settle(1))
    assert riders.overdue() == set()
    riders.add(4, settle(2))
    assert riders.overdue() == {3}
    assert riders.overdue() == {4}


def test_a_partition_that_takes_nothing_loses_them(accumulator: Accumulator) -> None:
    riders = Riders()
    accumulator.hold("state recovering", 0.0)
    riders.add(3, settle(1))
    assert not riders.board(accumulator, HOLD_MS_MAX / 1000 + 0.1)
    assert (riders.waiting, accumulator.pending) == ({}, 0)


def test_a_full_queue_keeps_what_is_in_it(accumulator: Accumulator) -> None:
    riders = Riders()
    for seq in range(QUEUE_OPERATIONS_MAX + 1):
        riders.add(3, settle(seq))
    assert not riders.board(accumulator, 1.0)
    assert accumulator.pending == QUEUE_OPERATIONS_MAX
