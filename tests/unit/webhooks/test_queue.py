"""The next delivery: the oldest of each account, and its wait after failed attempts."""

import random

import pytest

from wallet_engine.webhooks.queue import (
    DELIVERED,
    JITTER_MAX,
    LINE_MAX,
    PARKED,
    PENDING,
    RETRY_S,
    Delivery,
    Queue,
)
from wallet_engine.webhooks.reply import Reply

OK = Reply(200)


def make(*subjects: str, first: int = 1) -> list[Delivery]:
    return [
        Delivery(first + number, f"0.{first + number}.0", subject, b"{}")
        for number, subject in enumerate(subjects)
    ]


def taken(queue: Queue, now_s: float) -> list[str]:
    found = []
    while (delivery := queue.take(now_s)) is not None:
        found.append(f"{delivery.subject}{delivery.delivery_id}")
    return found


def test_of_each_account_the_oldest_is_under_way_alone() -> None:
    queue = Queue(lambda: 0)
    queue.add(make("a", "b", "a", "a", "c"))
    first = queue.take(0)
    assert first is not None
    assert first.delivery_id == 1
    assert taken(queue, 0) == ["b2", "c5"]
    queue.ended(queue.decide(first, "https://a", OK, 0))
    assert taken(queue, 0) == ["a3"]
    assert len(queue) == 4


def test_an_account_that_waits_holds_up_no_other() -> None:
    queue = Queue(lambda: 0)
    queue.add(make("a", "a"))
    failed = queue.take(0)
    assert failed is not None
    queue.ended(queue.decide(failed, "https://a", Reply(500), 0))
    queue.add(make("b", first=10))
    assert taken(queue, 0) == ["b10"]
    assert queue.next_s == 5
    assert taken(queue, 4.99) == []
    assert taken(queue, 5) == ["a1"]


def test_a_long_line_is_read_on_when_its_beginning_has_ended() -> None:
    queue, all_of_them = Queue(lambda: 0), make(*("a" * (2 * LINE_MAX + 5)))
    queue.add(all_of_them[: LINE_MAX + 3])
    queue.add(make("b", first=10_000))
    queue.add(all_of_them[LINE_MAX + 3 :])
    assert len(queue) == LINE_MAX + 1
    got = []
    while len(queue) > 1 or queue.short:
        if queue.short:
            assert queue.short == {"a"}
            assert "a" not in queue._lines
            queue.refill("a", all_of_them[len(got) : len(got) + LINE_MAX + 1])
        delivery = queue.take(0)
        assert delivery is not None
        if delivery.subject == "a":
            got.append(delivery)
            queue.ended(queue.decide(delivery, "https://a", OK, 0))
    assert got == all_of_them
    # Now it is whole: what comes is added again.
    queue.add(make("a", first=20_000))
    assert taken(queue, 0) == ["b10000", "a20000"]


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_the_schedule_by_a_clock_that_is_moved(jitter: float) -> None:
    queue = Queue(lambda: jitter)
    queue.add(make("a"))
    now_s, waits = 1_000_000.0, []
    while True:
        delivery = queue.take(now_s)
        assert delivery is not None
        result = queue.decide(delivery, "https://a", Reply(503), now_s)
        queue.ended(result)
        if result.status == PARKED:
            break
        assert result.status == PENDING
        assert queue.next_s == result.next_s
        assert queue.take(result.next_s - 0.001) is None
        waits.append(result.next_s - now_s)
        now_s = result.next_s
    assert waits == pytest.approx([wait_s * (1 + JITTER_MAX * jitter) for wait_s in RETRY_S])
    assert RETRY_S == (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
    assert len(queue) == 0
    assert queue.next_s is None


def test_what_is_parked_lets_the_next_of_its_account_pass() -> None:
    queue = Queue(lambda: 0)
    queue.add(make("a", "a"))
    queue._lines["a"][0].attempts = len(RETRY_S)
    last = queue.take(0)
    assert last is not None
    queue.ended(queue.decide(last, "https://a", Reply(None, "no answer"), 0))
    assert taken(queue, 0) == ["a2"]


@pytest.mark.parametrize(
    ("reply", "status", "gone"),
    [
        (Reply(200), DELIVERED, False),
        (Reply(299), DELIVERED, False),
        (Reply(199), PENDING, False),
        (Reply(301), PENDING, False),
        (Reply(307), PENDING, False),
        (Reply(400), PENDING, False),
        (Reply(410), PENDING, True),
        (Reply(500), PENDING, False),
        (Reply(None, "no answer within 10 s"), PENDING, False),
    ],
)
def test_what_an_answer_means(reply: Reply, status: str, gone: bool) -> None:
    queue = Queue(lambda: 0)
    queue.add(make("a"))
    delivery = queue.take(0)
    assert delivery is not None
    result = queue.decide(delivery, "https://a", reply, 0)
    assert (result.status, result.gone) == (status, "https://a" if gone else "")


def test_a_random_run_keeps_every_accounts_order_and_ends_everything() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    queue, waiting, got = Queue(chance.random), make(*(chance.choice("abcdef") for _ in range(400))), []
    under_way: list[Delivery] = []
    now_s = 0.0
    while waiting or len(queue):
        step = chance.random()
        if step < 0.3 and waiting:
            count = chance.randrange(1, 20)
            queue.add(waiting[:count])
            waiting = waiting[count:]
        elif step < 0.6 and (delivery := queue.take(now_s)) is not None:
            assert all(other.subject != delivery.subject for other in under_way)
            under_way.append(delivery)
        elif step < 0.9 and under_way:
            delivery = under_way.pop(chance.randrange(len(under_way)))
            result = queue.decide(delivery, "https://a", OK if chance.random() < 0.7 else Reply(500), now_s)
            queue.ended(result)
            if result.status != PENDING:
                got.append(delivery)
        else:
            now_s += chance.choice((1, 1_000, 100_000))
    for subject in "abcdef":
        ids = [delivery.delivery_id for delivery in got if delivery.subject == subject]
        assert ids == sorted(ids)
    assert len(got) == 400
