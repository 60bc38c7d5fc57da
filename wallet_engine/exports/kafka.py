"""The sink `kafka://broker,broker/topic`: CloudEvents JSON, keyed by account, at least once, in order per
account.

Its positions are in Kafka too, in `<topic>.positions`: partition of the journal -> the last entry whose
events the brokers have confirmed. So it needs no other store, and a stopped database does not stop it. An
operator who copies, deletes or recreates the topic does the same with the positions. That topic should be
compacted; the sink creates it so.

A position is written after the delivery reports of its events. After an interruption between the two, the
events come again, with the same ids. Folds with the balances are saved now and then in `<topic>.folds`
(`kafka_folds`).
"""

import asyncio
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from wallet_engine.domain.errors import ConfigError, Outage, WrongUsage, as_usage
from wallet_engine.events.event import SOURCE_DEFAULT
from wallet_engine.events.maker import Made, Maker, Start, from_first
from wallet_engine.events.saved import Pace, save_book
from wallet_engine.exports.extras import needed
from wallet_engine.exports.kafka_folds import FOLDS, HEAD, KafkaFolds, until_there_is_room
from wallet_engine.journal.feed import START, Feed, FeedEntry, FeedPosition
from wallet_engine.routing.model import check_name
from wallet_engine.telemetry.secrets import check_secret_file

POSITIONS: Final = ".positions"
#: Segment size of the two extra topics: replaced messages are removed soon after the next segment begins.
SEGMENT_BYTES: Final = 16 * 1024 * 1024
#: How long brokers may take to confirm a batch, and to answer a request.
CONFIRM_S_MAX: Final = 30.0
ANSWER_S_MAX: Final = 10.0
_HEADERS: Final = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


class Target(NamedTuple):
    """The brokers and the topic to write to."""

    brokers: str
    topic: str


def parse_target(target: str) -> Target:
    """Parse `kafka://broker:9092,broker:9092/topic`. Raises `ConfigError`."""
    scheme, _, rest = target.partition("://")
    brokers, _, topic = rest.partition("/")
    if scheme != "kafka" or not brokers or not topic:
        raise WrongUsage(f"--to {target} is none such as kafka://broker:9092,broker:9092/topic")
    with as_usage():
        check_name(topic, "topic")
    return Target(brokers, topic)


def read_settings(path: Path) -> dict[str, str]:
    """librdkafka's settings from a file of `name=value` lines that no other user can read.

    Raises `ConfigError`.
    """
    check_secret_file(path)
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        name, equals, value = line.partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals:
            raise ConfigError(f"{path} line {number} is none such as sasl.username=wallet")
        found[name.strip()] = value.strip()
    return found


class KafkaSink:
    """See the module; `follow.sink.Sink`. `settings`: librdkafka's, besides those set here."""

    def __init__(
        self, target: str, feed: Feed, settings: dict[str, str] | None = None, source: str = SOURCE_DEFAULT
    ) -> None:
        """Raises `ConfigError` for an invalid target, and when the library is missing."""
        self._target = parse_target(target)
        self._kafka = needed("confluent_kafka", "kafka", "--to kafka:")
        self._admin = needed("confluent_kafka.admin", "kafka", "--to kafka:")
        self._settings = {"bootstrap.servers": self._target.brokers, **(settings or {})}
        self._source = source
        self._maker = Maker(feed)
        self._folds = KafkaFolds(self._kafka, self._target.topic)
        self._pace = Pace()
        #: Partition -> seq of its saved fold, with which a new process would begin.
        self._saved: dict[int, int] = {}
        self._producer: Any = None
        self._failed: list[str] = []

    def __repr__(self) -> str:
        return f"<KafkaSink {self._target.topic} {self._maker!r}>"

    @property
    def name(self) -> str:
        return f"kafka-{self._target.topic}"[:64]

    async def start(self) -> None:
        """Raises `Outage` when no broker answers."""
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        self._failed.clear()
        self._producer = self._kafka.Producer(
            {
                **self._settings,
                "enable.idempotence": True,
                # An event that is given up alone lets later ones of its account pass. So either all are sent in their
                # order, or the sink gives up all that are left, and begins again with the first one of them.
                "message.timeout.ms": 0,
                "enable.gapless.guarantee": True,
                "compression.type": "lz4",
                "linger.ms": 5,
                # As in Java's producers, so that every producer puts an account into the same partition.
                "partitioner": "murmur2_random",
            }
        )
        topics = [self._target.topic + beside for beside in (POSITIONS, FOLDS)]
        config = {"cleanup.policy": "compact", "segment.bytes": str(SEGMENT_BYTES)}
        client = self._admin.AdminClient(self._settings)
        try:
            known = client.list_topics(timeout=ANSWER_S_MAX).topics
            made = [
                self._admin.NewTopic(topic, num_partitions=1, config=config)
                for topic in topics
                if topic not in known
            ]
            if made:
                for future in client.create_topics(made, request_timeout=ANSWER_S_MAX).values():
                    future.result(ANSWER_S_MAX)
        except self._kafka.KafkaException as error:
            raise _outage(error) from None
        except TimeoutError:
            hint = f"make {' and '.join(topics)} with cleanup.policy=compact"
            raise Outage(
                "journal_unavailable", f"Kafka makes no topic within {ANSWER_S_MAX:g} s: {hint}"
            ) from None

    async def positions(self, partitions: Collection[int]) -> dict[int, FeedPosition]:
        self._maker.keep(partitions)
        self._saved = {p: seq for p, seq in self._saved.items() if p in self._maker.books}
        for partition, start in (await asyncio.to_thread(self._starts, partitions)).items():
            self._maker.begin(partition, start)
            self._saved[partition] = start.folded.seq
        return dict(self._maker.folded)

    def _starts(self, partitions: Collection[int]) -> dict[int, Start]:
        """The starts of the partitions whose folds are not in memory."""
        starts = {}
        self._folds.heads.clear()
        with self._reading() as consumer:
            found = self._read_positions(consumer)
            for partition in partitions:
                told = found.get(partition, START)
                if not self._maker.knows(partition, told):
                    starts[partition] = self._folds.load(consumer, partition, told) or from_first(told)
        return starts

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        topic = self._target.topic + POSITIONS
        # It commits nothing and joins no group: the group id is only a required setting.
        consumer = self._kafka.Consumer(
            {
                **self._settings,
                "group.id": f"{topic}-reader",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            yield consumer
        except self._kafka.KafkaException as error:
            raise _outage(error) from None
        finally:
            consumer.close()

    def _read_positions(self, consumer: Any) -> dict[int, FeedPosition]:
        """The highest position of each partition: a paused process may have written an older one later."""
        topic = self._target.topic + POSITIONS
        found: dict[int, FeedPosition] = {}
        described = consumer.list_topics(topic, timeout=ANSWER_S_MAX).topics[topic]
        if described.error is not None:  # else every event would be sent again, from the first
            raise Outage("journal_unavailable", f"Kafka: {topic}: {described.error.str()}")
        for number in described.partitions:
            place = self._kafka.TopicPartition(topic, number)
            _, end = consumer.get_watermark_offsets(place, timeout=ANSWER_S_MAX)
            if end > 0:
                self._read_partition(consumer, self._kafka.TopicPartition(topic, number, 0), end, found)
        return found

    def _read_partition(self, consumer: Any, place: Any, end: int, found: dict[int, FeedPosition]) -> None:
        consumer.assign([place])
        # Compaction leaves gaps in the offsets: the consumer's position shows when it reaches the end.
        while consumer.position([place])[0].offset < end:
            message = consumer.poll(ANSWER_S_MAX)
            if message is None:
                raise Outage("journal_unavailable", f"Kafka does not answer with {place.topic}")
            if message.error():
                raise self._kafka.KafkaException(message.error())
            key = message.key().decode()
            if message.value() is not None and key.startswith(HEAD):
                self._folds.note(key, message.value())
            elif message.value() is not None:
                said = json.loads(message.value())
                partition, position = int(key), FeedPosition(said["seq"], said["nonce"])
                if position.seq > found.get(partition, START).seq:
                    found[partition] = position

    async def take(self, batch: Sequence[FeedEntry]) -> None:
        """When this returns, the batch's events and then its positions are confirmed. Raises `Outage`."""
        told = {partition: self._maker.told(partition) for partition in {at.partition for at in batch}}
        made = await self._maker.make(batch)
        moved = {at.partition: at.position for at, _ in made if at.seq > told[at.partition].seq}
        if moved:
            await asyncio.to_thread(self._send, made, moved)
        if self._pace.due():
            await asyncio.to_thread(self._save, batch[-1].time_ms)

    def _save(self, clock_ms: int) -> None:
        """Save the folds that have advanced."""
        saved: dict[int, int] = {}
        with self._pace.saving():
            for partition, folded in self._maker.folded.items():
                head = self._folds.heads.get(partition)
                if head is None or head.seq < folded.seq:
                    book = save_book(self._maker.books[partition], clock_ms)
                    key, value = self._folds.save(self._producer, partition, folded, book)
                    self._produce(self._target.topic + POSITIONS, key.encode(), value)
                    saved[partition] = folded.seq
            if saved:
                self._confirm()
        self._saved |= saved

    def _send(self, made: Sequence[Made], moved: dict[int, FeedPosition]) -> None:
        self._failed.clear()
        for _, events in made:
            for event in events:
                self._produce(self._target.topic, event.subject.encode(), event.encode(self._source))
        self._confirm()
        for partition, position in moved.items():
            value = json.dumps({"seq": position.seq, "nonce": position.nonce}).encode()
            self._produce(self._target.topic + POSITIONS, str(partition).encode(), value)
        self._confirm()

    def _produce(self, topic: str, key: bytes, value: bytes) -> None:
        try:
            until_there_is_room(
                self._producer,
                lambda: self._producer.produce(
                    topic, value, key, headers=_HEADERS, on_delivery=self._reported
                ),
                CONFIRM_S_MAX,
            )
        except self._kafka.KafkaException as error:
            raise _outage(error) from None
        self._check()

    def _confirm(self) -> None:
        """Wait for the delivery reports of everything produced."""
        left = self._producer.flush(CONFIRM_S_MAX)
        self._check()
        if left:
            raise Outage("journal_unavailable", f"Kafka does not take events: {left} are not confirmed")

    def _check(self) -> None:
        if self._failed:
            raise Outage("journal_unavailable", f"Kafka does not take events: {self._failed[0]}")

    def _reported(self, error: Any, _message: Any) -> None:
        if error is not None and len(self._failed) < 10:
            self._failed.append(error.str())

    async def flush(self) -> None:
        """Nothing to do: `take` has stored everything."""

    def resumes_after(self) -> Mapping[int, int]:
        """Entries after the saved folds are folded again."""
        return self._saved

    async def caught_up(self, partitions: Collection[int], at_ms: int) -> None:
        """Save the last folds too: then the journal need not keep their entries."""
        if self._pace.due():
            await asyncio.to_thread(self._save, at_ms)

    async def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await asyncio.to_thread(_abandon, producer)


def _abandon(producer: Any) -> None:
    producer.purge()
    producer.flush(1)


def _outage(error: Exception) -> Outage:
    return Outage("journal_unavailable", f"Kafka: {error.args[0].str() if error.args else error}")
