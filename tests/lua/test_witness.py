"""G4: windows rotate by the time that monotonic clocks have seen, and by no other; it is recorded and replayed."""

import pytest
from lua.cases import SETUP, rows
from lua.partition import LuaPartition

from wallet_engine.domain.entry import parse_header
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_state import PartitionState, redis_image
from wallet_engine.redis_store.scripts import load_script

PAY = "t T{} alice bob 1 USD"
WINDOW_MS = 60_000


@pytest.fixture
def prepared(partition: LuaPartition) -> LuaPartition:
    for batch in SETUP:
        assert partition.apply(rows(batch)[2])[0] == "OK"
    return partition


def witness(partition: LuaPartition, epoch: int, window: int, seconds: int) -> list[str] | int:
    words = (load_script("witness").text, 1, partition.keys.meta, epoch, window, seconds)
    reply: list[str] | int = partition.client.eval(*words)
    return reply


def test_who_has_seen_most_is_believed(prepared: LuaPartition) -> None:
    assert witness(prepared, 0, 0, 0) == ["1", "1", "0"]
    assert witness(prepared, 1, 1, 9) == ["1", "1", "9"]
    assert witness(prepared, 1, 1, 7) == ["1", "1", "9"]
    assert witness(prepared, 1, 1, 10) == ["1", "1", "10"]


@pytest.mark.parametrize(("epoch", "window"), [(2, 1), (1, 2), (1, 0)])
def test_of_another_epoch_or_window_nothing_is_believed(
    prepared: LuaPartition, epoch: int, window: int
) -> None:
    assert witness(prepared, 1, 1, 5) == ["1", "1", "5"]
    assert witness(prepared, epoch, window, 99) == ["1", "1", "5"]


@pytest.mark.parametrize("state", ["moving", "recovering"])
def test_of_a_partition_that_is_not_live_no_time_is_counted(prepared: LuaPartition, state: str) -> None:
    prepared.meta(state=state)
    assert witness(prepared, 1, 1, 5) == 0
    prepared.client.delete(prepared.keys.meta)
    assert witness(prepared, 1, 1, 5) == 0
    assert prepared.client.exists(prepared.keys.meta) == 0


def test_a_window_rotates_by_seconds_seen_and_no_step_of_the_clock(prepared: LuaPartition) -> None:
    prepared.meta(clock=prepared.now_ms() - 10**10)  # months have passed, if TIME is asked
    assert prepared.apply([PAY.format(1)], window_ms=WINDOW_MS)[0] == "OK"
    witness(prepared, 1, 1, 59)
    assert prepared.apply([PAY.format(2)], window_ms=WINDOW_MS)[0] == "OK"
    witness(prepared, 1, 1, 60)
    assert prepared.apply([PAY.format(3)], window_ms=WINDOW_MS) == ["WINDOW", 2]
    assert prepared.apply([PAY.format(3)], window=2, window_ms=WINDOW_MS)[0] == "OK"
    assert prepared.apply([PAY.format(4)], window_ms=WINDOW_MS)[0] == "OK"
    assert prepared.window == 2
    assert witness(prepared, 0, 0, 0) == ["1", "2", "0"]


def test_g6_what_was_seen_is_recorded_and_replayed(prepared: LuaPartition) -> None:
    for number, (rotates, seconds) in enumerate([(False, 7), (False, 7), (True, 0), (False, 5)], 1):
        witness(prepared, 1, prepared.window, seconds)
        assert prepared.apply([PAY.format(number)], rotate=rotates)[0] == "OK"
    payloads, image = prepared.payloads(), prepared.image()
    seen = [(header.window, header.witnessed_s) for header in map(parse_header, payloads)]
    assert seen[-5:] == [(1, 0), (1, 7), (1, 7), (2, 0), (2, 5)]
    assert image["meta"]["witnessed_s"] == "5"
    state = PartitionState()
    prepared.empty("recovering")
    for payload in payloads:
        apply_payload(state, payload)
        assert prepared.replay(payload)[0] == "OK"
    assert prepared.image() == redis_image(state) == image


def test_an_entry_of_before_seconds_were_counted_is_replayed_as_it_is(prepared: LuaPartition) -> None:
    payloads = [payload.replace(b" 1.0 ", b" 1 ", 1) for payload in prepared.payloads()]
    assert [parse_header(payload).witnessed_s for payload in payloads] == [None] * len(payloads)
    state = PartitionState()
    prepared.empty("recovering")
    for payload in payloads:
        header = apply_payload(state, payload)
        assert prepared.replay(payload)[1:3] == [header.seq, header.nonce]
        assert header.text().encode() == payload.partition(b"\n")[0]
    assert prepared.image() == redis_image(state)
