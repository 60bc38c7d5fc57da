"""Folds of the sink `kafka:`, kept in Kafka beside its positions: a process that starts a partition continues
there.

`<topic>.folds` holds a book in parts, under `<partition>.<turn>.<number>`. Turns 0 and 1 alternate, so that
writing the next fold never replaces parts of the last complete one. After the parts, a head that names them
is written among the positions, under `fold.<partition>`. A fold that is lost or damaged is rebuilt from the
first entry.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from wallet_engine.domain.errors import Corruption, Outage
from wallet_engine.events.maker import Start
from wallet_engine.events.saved import load_book
from wallet_engine.journal.feed import FeedPosition
from wallet_engine.telemetry.logging import get_logger

FOLDS: Final = ".folds"
#: Prefix of the keys of folds' heads among the positions.
HEAD: Final = "fold."
PART_BYTES: Final = 256 * 1024
CONFIRM_S_MAX: Final = 30.0
ANSWER_S_MAX: Final = 10.0

log = get_logger(__name__)


class Head(msgspec.Struct):
    """The entry of a fold, and where its parts are in the topic."""

    seq: int
    nonce: str | None
    turn: int
    #: Offsets of the first and the last part.
    first: int
    last: int
    digest: str


class KafkaFolds:
    """The folds of one sink. Its methods block."""

    def __init__(self, kafka: Any, topic: str) -> None:
        """`kafka` is the module `confluent_kafka`."""
        self._kafka = kafka
        self._place = (topic + FOLDS, 0)
        #: Partition -> head of its last complete fold.
        self.heads: dict[int, Head] = {}

    def __repr__(self) -> str:
        return f"<KafkaFolds {self._place[0]} {len(self.heads)}>"

    def note(self, key: str, value: bytes) -> None:
        """Take a head that was read; the last one of a partition counts."""
        try:
            self.heads[int(key.removeprefix(HEAD))] = msgspec.json.decode(value, type=Head)
        except msgspec.MsgspecError as error:
            log.warning("a fold is passed over", key=key, why=str(error))

    def save(self, producer: Any, partition: int, at: FeedPosition, book: bytes) -> tuple[str, bytes]:
        """Write the parts. Returns key and value of the head, to be written after them. Raises `Outage`."""
        before = self.heads.get(partition)
        turn = 0 if before is None else 1 - before.turn
        offsets: list[int] = []
        failed: list[str] = []

        def reported(error: Any, message: Any) -> None:
            if error is None:
                offsets.append(message.offset())
            else:
                failed.append(error.str())

        parts = range(0, len(book), PART_BYTES)
        for number, start in enumerate(parts):
            key = f"{partition}.{turn}.{number}"
            self._produce(producer, key, book[start : start + PART_BYTES], reported)
        producer.flush(CONFIRM_S_MAX)
        if failed or len(offsets) < len(parts):
            raise Outage("journal_unavailable", f"Kafka does not take folds: {(failed or ['no answer'])[0]}")
        head = Head(at.seq, at.nonce, turn, min(offsets), max(offsets), _digest(book))
        self.heads[partition] = head
        return f"{HEAD}{partition}", msgspec.json.encode(head)

    def _produce(self, producer: Any, key: str, value: bytes, reported: Callable[[Any, Any], None]) -> None:
        topic, place = self._place
        until_there_is_room(
            producer,
            lambda: producer.produce(topic, value, key, partition=place, on_delivery=reported),
            CONFIRM_S_MAX,
        )

    def load(self, consumer: Any, partition: int, told: FeedPosition) -> Start | None:
        """The start of a partition from its saved fold; None without a good fold at or before `told`."""
        head = self.heads.get(partition)
        if head is None or head.seq > told.seq:
            return None
        try:
            book = load_book(self._read(consumer, partition, head))
        except Corruption as error:
            log.warning("the fold begins with the first entry", partition=partition, why=str(error))
            return None
        return Start(FeedPosition(head.seq, head.nonce), book, told)

    def _read(self, consumer: Any, partition: int, head: Head) -> bytes:
        place = self._kafka.TopicPartition(*self._place, head.first)
        _, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S_MAX)
        if head.last >= end:
            raise Corruption(f"{self._place[0]} ends at {end}, before the parts that were written")
        found: dict[str, bytes] = {}
        consumer.assign([place])
        offset = -1
        while offset < head.last:  # compaction never removes a topic's last message
            message = consumer.poll(ANSWER_S_MAX)
            if message is None:
                raise Outage("journal_unavailable", f"Kafka does not answer with {place.topic}")
            if message.error():
                raise self._kafka.KafkaException(message.error())
            offset = message.offset()
            if message.value() is not None and offset <= head.last:
                found[message.key().decode()] = message.value()
        prefix = f"{partition}.{head.turn}."
        numbers = sorted(int(key.removeprefix(prefix)) for key in found if key.startswith(prefix))
        book = b"".join(found[f"{prefix}{number}"] for number in numbers)
        if _digest(book) != head.digest:
            raise Corruption(f"not all parts are in {self._place[0]} any more")
        return book


def until_there_is_room(producer: Any, produce: Callable[[], None], wait_s: float) -> None:
    """Call `produce`, again while librdkafka's queue is full: delivery reports make room. Raises `Outage`."""
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            produce()
            producer.poll(0)
            return
        except BufferError:
            if time.monotonic() > deadline_s:
                said = f"its brokers confirm nothing within {wait_s:g} s"
                raise Outage("journal_unavailable", f"Kafka does not take events: {said}") from None
            producer.poll(0.1)


def _digest(book: bytes) -> str:
    return hashlib.blake2b(book, digest_size=16).hexdigest()
