"""Folds of the sink `kafka:`, in a topic that a list stands for: what is written, and what is loaded from it."""

from types import SimpleNamespace
from typing import Any

import pytest
from support.folds import at, book

from wallet_engine.domain.errors import Outage
from wallet_engine.exports import kafka_folds
from wallet_engine.exports.kafka_folds import KafkaFolds, until_there_is_room
from wallet_engine.journal.feed import FeedPosition


class Topic:
    """Producer and consumer in one. `refuses`: the delivery reports are errors."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.refuses = False
        self._read = 0

    def produce(self, topic: str, value: bytes, key: str, *, partition: int, on_delivery: Any) -> None:
        if self.refuses:
            on_delivery(SimpleNamespace(str=lambda: "no space"), None)
            return
        self.messages.append((key, value))
        place = len(self.messages) - 1
        on_delivery(None, SimpleNamespace(offset=lambda: place))

    def poll(self, wait_s: float) -> Any:
        if not wait_s:
            return None  # of a producer
        place = self._read
        self._read += 1
        key, value = self.messages[place]
        return SimpleNamespace(offset=lambda: place, key=key.encode, value=lambda: value, error=lambda: None)

    def flush(self, _s: float) -> None:
        self._read = 0

    def assign(self, places: Any) -> None:
        self._read = places[0].offset

    def get_watermark_offsets(self, *_: Any, **__: Any) -> tuple[int, int]:
        return 0, len(self.messages)


KAFKA = SimpleNamespace(
    TopicPartition=lambda topic, partition, offset: SimpleNamespace(topic=topic, offset=offset)
)


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    monkeypatch.setattr(kafka_folds, "PART_BYTES", 16)
    return Topic()


def restarted(*heads: tuple[str, bytes]) -> KafkaFolds:
    """What a new process knows that has read these heads."""
    made = KafkaFolds(KAFKA, "events")
    for head in heads:
        made.note(*head)
    return made


def loaded(folds: KafkaFolds, topic: Topic, told: int) -> tuple[FeedPosition, int] | None:
    start = folds.load(topic, 3, at(told))
    return None if start is None else (start.folded, start.book.standings["alice", "USD"].balance)


def test_a_fold_comes_back_from_its_parts(topic: Topic) -> None:
    head = KafkaFolds(KAFKA, "events").save(topic, 3, at(10), book(700))
    assert [key for key, _ in topic.messages][:2] == ["3.0.0", "3.0.1"]
    assert loaded(restarted(head), topic, 10) == (at(10), 700)
    assert loaded(restarted(head), topic, 9) is None, "it is beyond what was told"
    assert loaded(restarted(), topic, 10) is None


def test_the_next_one_leaves_the_parts_of_the_last_alone(topic: Topic) -> None:
    """A process that dies in the middle of them has the one before."""
    folds = KafkaFolds(KAFKA, "events")
    heads = [folds.save(topic, 3, at(seq), book(seq)) for seq in (10, 20, 30)]
    assert {key.split(".")[1] for key, _ in topic.messages} == {"0", "1"}
    assert loaded(restarted(heads[0], heads[1]), topic, 30) == (at(20), 20)
    assert loaded(restarted(*heads), topic, 30) == (at(30), 30)


def test_one_whose_parts_are_lost_is_none(topic: Topic) -> None:
    head = KafkaFolds(KAFKA, "events").save(topic, 3, at(10), book(700))
    topic.messages[1] = ("3.0.1", b"other")
    assert loaded(restarted(head), topic, 10) is None
    del topic.messages[1:]
    assert loaded(restarted(head), topic, 10) is None, "the topic ends before them"
    assert loaded(restarted(("fold.3", b"{}")), topic, 10) is None


def test_what_kafka_does_not_take_is_no_fold(topic: Topic) -> None:
    folds, topic.refuses = KafkaFolds(KAFKA, "events"), True
    with pytest.raises(Outage, match="no space"):
        folds.save(topic, 3, at(10), book(700))
    assert folds.heads == {}


def test_a_full_queue_is_waited_for() -> None:
    full = iter([True, True, False])

    def produce() -> None:
        if next(full):
            raise BufferError

    until_there_is_room(SimpleNamespace(poll=lambda _s: None), produce, 10.0)
    full = iter([True] * 1000)
    with pytest.raises(Outage, match="confirm nothing within 0 s"):
        until_there_is_room(SimpleNamespace(poll=lambda _s: None), produce, 0.0)
