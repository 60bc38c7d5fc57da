"""Requests are given out in turn, with numbers that never repeat."""

from random import Random

from bench.recorder import Recorder
from bench.ring import RING_TRANSFERS, Request, Ring, chunks, declined_of, ring_size
from bench.workload import draw


def test_requests_go_round_and_numbers_do_not_repeat() -> None:
    ring = Ring([Request(name, 1, 0) for name in "abc"], repeats=False)
    drawn = [ring.next() for _ in range(3000)]
    handed = [found for found in drawn if found is not None]
    assert len(handed) == 3000
    assert "".join(request.payload for request, _ in handed[:7]) == "abcabca"
    assert len({number for _, number in handed}) == 3000
    assert all(0 <= number < 2**32 for _, number in handed)


def test_one_in_twenty_is_to_be_repeated() -> None:
    ring = Ring([Request("a", 1, 0)], repeats=True)
    assert [ring.next() for _ in range(1000)].count(None) == 50


def test_requests_are_whole() -> None:
    pairs = draw("declines", 95, 10, 1, Random(3))
    cut = chunks(pairs, 10)
    assert [len(part) for part in cut] == [10] * 9
    assert sum(map(declined_of, cut)) == sum(pair.declined for pair in pairs[:90])
    assert ring_size(1000) * 1000 == RING_TRANSFERS
    assert ring_size(10_000) * 10_000 <= RING_TRANSFERS
    assert ring_size(1) > 0


def test_only_the_measured_part_is_counted_but_no_surprise_is_lost() -> None:
    recorder = Recorder()
    recorder.surprised("early")
    recorder.answered(0.1, 10, 1)
    recorder.reset()
    recorder.answered(0.2, 10, 2)
    recorder.answered(0.2, 5, 0, repeated=True)
    counts = recorder.freeze()
    recorder.answered(9.0, 10, 3)
    assert counts == (2, 15, 2, 5)
    assert (recorder.total_transfers, recorder.total_repeated) == (35, 5)
    assert len(recorder.latency) == 2
    assert (recorder.unexpected, recorder.unexpected_shown) == (1, ["early"])
