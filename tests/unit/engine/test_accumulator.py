"""The queue of one partition: which operations are sent together, which wait, which are refused (G10)."""

import math

import pytest

from wallet_engine.domain.errors import Outage
from wallet_engine.domain.limits import SCRIPT_OPERATIONS_MAX
from wallet_engine.domain.operation import Operation
from wallet_engine.engine.accumulator import (
    EARLY_OPERATIONS_MIN,
    HOLD_MS_MAX,
    QUEUE_OPERATIONS_MAX,
    UNDURABLE_BATCHES_MAX,
    UNREAD_S_MAX,
    Accumulator,
)
from wallet_engine.engine.batch import Batch
from wallet_engine.redis_store.keys import PartitionKeys


class Waiting:
    """A caller that waits for an operation."""

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        raise AssertionError

    def failed(self, outage: Outage) -> None:
        raise AssertionError


@pytest.fixture
def accumulator() -> Accumulator:
    return Accumulator(3, PartitionKeys("7"), "s1", 1)


def add(accumulator: Accumulator, count: int, *, issued_s: float = 1.0, currency: str = "USD") -> list[bool]:
    """Add operations. Returns for each whether the accumulator asked for a turn."""
    return [
        accumulator.add(Operation("d", f"T{number}", "a", "b", 1, currency), Waiting(), issued_s)
        for number in range(count)
    ]


def answered(accumulator: Accumulator, *, durable: bool) -> None:
    accumulator.batch = None
    if not durable:
        accumulator.undurable += 1


def test_what_arrives_while_a_batch_is_out_goes_together(accumulator: Accumulator) -> None:
    add(accumulator, 1)
    first = accumulator.take()
    assert first is not None
    assert len(first.operations) == 1
    add(accumulator, 5)
    assert accumulator.take() is None
    answered(accumulator, durable=True)
    second = accumulator.take()
    assert second is not None
    assert len(second.operations) == 5


def test_few_operations_wait_for_the_journal_and_many_do_not(accumulator: Accumulator) -> None:
    add(accumulator, 1)
    assert accumulator.take() is not None
    answered(accumulator, durable=False)
    add(accumulator, EARLY_OPERATIONS_MIN - 1)
    assert accumulator.take() is None
    add(accumulator, 1)
    assert accumulator.take() is not None


def test_a_turn_is_called_for_once_and_again_when_the_batch_has_become_good(accumulator: Accumulator) -> None:
    assert add(accumulator, 1) == [True]
    accumulator.scheduled = True
    assert add(accumulator, EARLY_OPERATIONS_MIN) == [False] * (EARLY_OPERATIONS_MIN - 2) + [True, False]
    accumulator.take()
    accumulator.scheduled = False
    assert add(accumulator, EARLY_OPERATIONS_MIN) == [False] * EARLY_OPERATIONS_MIN, "a batch is out"


def test_few_operations_call_for_no_turn_until_the_ones_before_are_durable(accumulator: Accumulator) -> None:
    add(accumulator, 1)
    accumulator.take()
    answered(accumulator, durable=False)
    assert add(accumulator, EARLY_OPERATIONS_MIN) == [False] * (EARLY_OPERATIONS_MIN - 1) + [True]


def test_g10_batches_waiting_for_the_journal_are_bounded(accumulator: Accumulator) -> None:
    for _ in range(UNDURABLE_BATCHES_MAX):
        add(accumulator, EARLY_OPERATIONS_MIN)
        assert accumulator.take() is not None
        answered(accumulator, durable=False)
    add(accumulator, EARLY_OPERATIONS_MIN)
    assert accumulator.take() is None


def test_g10_a_batch_is_bounded_and_keeps_the_order(accumulator: Accumulator) -> None:
    add(accumulator, SCRIPT_OPERATIONS_MAX + 7)
    first = accumulator.take()
    assert first is not None
    answered(accumulator, durable=True)
    second = accumulator.take()
    assert second is not None
    assert [len(first.operations), len(second.operations)] == [SCRIPT_OPERATIONS_MAX, 7]
    assert second.operations[0][1] == f"T{SCRIPT_OPERATIONS_MAX}"


def test_g10_the_queue_is_bounded(accumulator: Accumulator) -> None:
    add(accumulator, QUEUE_OPERATIONS_MAX)
    with pytest.raises(Outage, match="operations waiting") as refused:
        add(accumulator, 1)
    assert refused.value.code == "overloaded"
    assert accumulator.pending == QUEUE_OPERATIONS_MAX


def test_a_batch_that_did_not_run_goes_back_to_the_head(accumulator: Accumulator) -> None:
    add(accumulator, 2, issued_s=0.5)
    batch = accumulator.take()
    assert batch is not None
    assert batch.issued_s == 0.5
    add(accumulator, 1, issued_s=0.9)
    accumulator.put_back(batch)
    again = accumulator.take()
    assert again is not None
    assert (len(again.operations), again.issued_s, again.nonce != batch.nonce) == (3, 0.5, True)


def test_the_age_of_a_batch_is_at_least_that_of_its_oldest_operation(accumulator: Accumulator) -> None:
    add(accumulator, SCRIPT_OPERATIONS_MAX, issued_s=0.1)
    add(accumulator, 1, issued_s=0.2)
    assert (batch := accumulator.take()) is not None
    assert batch.issued_s == 0.1
    answered(accumulator, durable=True)
    assert (batch := accumulator.take()) is not None
    assert batch.issued_s == 0.1  # the queue has one age, until it is empty: too old is safe
    answered(accumulator, durable=True)
    add(accumulator, 1, issued_s=0.3)
    assert (batch := accumulator.take()) is not None
    assert batch.issued_s == 0.3


def test_a_held_partition_queues_for_a_while_and_then_refuses(accumulator: Accumulator) -> None:
    accumulator.hold("recovering", 1.0)
    accumulator.hold("still recovering", 2.0)
    add(accumulator, 1, issued_s=1.0 + HOLD_MS_MAX / 1000)
    with pytest.raises(Outage, match="still recovering") as refused:
        add(accumulator, 1, issued_s=1.001 + HOLD_MS_MAX / 1000)
    assert refused.value.code == "partition_unavailable"
    accumulator.release()
    add(accumulator, 1, issued_s=1.001 + HOLD_MS_MAX / 1000)


def test_what_two_rotations_may_have_made_forgotten_is_not_sent(accumulator: Accumulator) -> None:
    """G4: the window after the one of its decision still remembers whether an operation ran; the next one does not."""
    accumulator.learn_window(7, 10.0)  # the first window that it learns
    assert (accumulator.window, accumulator.remembers_since_s) == (7, -math.inf)
    accumulator.learn_window(8, 20.0)
    assert (accumulator.window, accumulator.remembers_since_s) == (8, -math.inf)
    accumulator.learn_window(8, 25.0)
    accumulator.learn_window(9, 30.0)
    assert (accumulator.window, accumulator.remembers_since_s) == (9, 20.0)
    accumulator.learn_window(10, 40.0)
    assert accumulator.remembers_since_s == 30.0
    accumulator.learn_window(12, 50.0)  # a missed window
    assert (accumulator.window, accumulator.remembers_since_s) == (12, 50.0 + UNREAD_S_MAX)
    accumulator.learn_window(13, 60.0)
    assert accumulator.remembers_since_s == 50.0 + UNREAD_S_MAX
    accumulator.learn_window(9, 90.0)  # a partition that was rebuilt from older entries
    assert (accumulator.window, accumulator.remembers_since_s) == (9, 90.0)


def test_it_learns_the_currencies_of_its_partition(accumulator: Accumulator) -> None:
    assert accumulator.currencies == []
    for listed in ("", "USD", "EUR,USD"):
        accumulator.learn_currencies(listed)
    assert accumulator.currencies == ["EUR", "USD"]


def test_its_state_shows(accumulator: Accumulator) -> None:
    add(accumulator, 3)
    accumulator.hold("epoch 2", 1000)
    assert repr(accumulator) == "<Accumulator p=3 pending=3 in_flight=0 undurable=0 held=epoch 2>"


@pytest.mark.parametrize("before", [0, 1, EARLY_OPERATIONS_MIN - 1, EARLY_OPERATIONS_MIN])
@pytest.mark.parametrize("more", [1, 2, EARLY_OPERATIONS_MIN])
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("undurable", [0, 1, UNDURABLE_BATCHES_MAX])
def test_many_at_once_are_as_many_one_by_one(before: int, more: int, scheduled: bool, undurable: int) -> None:
    single, together = (Accumulator(3, PartitionKeys("7"), "s1", 1) for _ in range(2))
    for each in (single, together):
        add(each, before, issued_s=2.0)
        each.scheduled, each.undurable = scheduled, undurable
    called = False
    for _ in range(more):
        if add(single, 1) == [True]:
            called = single.scheduled = True
    operations = [Operation("d", "T0", "a", "b", 1, "USD")] * more
    assert together.add_all(list(operations), [Waiting() for _ in operations], 1.0) == called
    assert together.pending == before + more
    single.undurable = together.undurable = 0
    one, other = single.take(), together.take()
    assert one is not None
    assert other is not None
    assert (len(one.operations), len(one.items)) == (len(other.operations), len(other.items))
    assert one.issued_s == other.issued_s == 1.0


def test_many_at_once_are_refused_together(accumulator: Accumulator) -> None:
    add(accumulator, QUEUE_OPERATIONS_MAX - 1)
    operations = [Operation("d", "T0", "a", "b", 1, "USD")] * 2
    with pytest.raises(Outage, match="operations waiting"):
        accumulator.add_all(operations, [Waiting(), Waiting()], 1.0)
    assert accumulator.pending == QUEUE_OPERATIONS_MAX - 1
    accumulator.add_all(operations[:1], [Waiting()], 1.0)
    accumulator.hold("gone", 1.0)
    with pytest.raises(Outage, match="not served now"):
        accumulator.add_all(operations, [Waiting(), Waiting()], 1.1 + HOLD_MS_MAX / 1000)
