"""The sink `kafka:` on librdkafka's own cluster of brokers, which speaks the protocol over TCP."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from support.mock_brokers import set_brokers
from support.written import Written
from unit.events.test_making import OPENED, T, write_across

from wallet_engine.domain.errors import ConfigError, Outage
from wallet_engine.events import saved
from wallet_engine.exports import extras, kafka, kafka_folds
from wallet_engine.exports.kafka import POSITIONS, KafkaSink, parse_target
from wallet_engine.exports.kafka_folds import FOLDS
from wallet_engine.journal.feed import START

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def owner() -> Iterator[Producer]:
    """A producer with three mock brokers, which live as long as it does."""
    made = Producer({"test.mock.num.brokers": 3})
    yield made
    made.flush(1)


@pytest.fixture
def brokers(owner: Producer) -> str:
    return brokers_of(owner)


def brokers_of(owner: Producer) -> str:
    found = owner.list_topics(timeout=10).brokers.values()
    return ",".join(f"{broker.host}:{broker.port}" for broker in found)


_topics = iter(range(1, 1000))


@pytest.fixture
def target(owner: Producer, brokers: str) -> str:
    """A target whose topics exist: these brokers take no create request, but make a topic that is asked about."""
    topic = f"events-{next(_topics)}"
    for name in (topic, topic + POSITIONS, topic + FOLDS):
        owner.list_topics(name, timeout=10)
    return f"kafka://{brokers}/{topic}"


def messages(target: str, suffix: str = "") -> list[tuple[str, dict[str, Any], int]]:
    """(key, value, partition) of everything in the topic."""
    where = parse_target(target)
    topic, found = where.topic + suffix, []
    consumer = Consumer({"bootstrap.servers": where.brokers, "group.id": "test"})
    try:
        for number in consumer.list_topics(topic, timeout=10).topics[topic].partitions:
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            consumer.assign([TopicPartition(topic, number, 0)])
            for _ in range(end):
                message = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                found.append((message.key().decode(), json.loads(message.value()), number))
    finally:
        consumer.close()
    return found


async def follow(sink: KafkaSink, written: Written, partitions: tuple[int, ...] = (0, 1)) -> None:
    """Give the sink all entries after its positions."""
    await sink.start()
    try:
        positions = await sink.positions(partitions)
        batch = [at for at in written.all() if at.partition in positions]
        batch = [at for at in batch if at.seq > positions[at.partition].seq]
        if batch:
            await sink.take(batch)
            await sink.flush()
    finally:
        await sink.close()


async def test_events_are_keyed_by_account_and_positions_follow_them(target: str) -> None:
    written = Written()
    write_across(written)
    await follow(KafkaSink(target, written, source="urn:wallet:test"), written)
    found = messages(target)
    assert {key for key, _, _ in found} == {"alice", "bob", "@bank"}
    assert all(key == event["subject"] for key, event, _ in found)
    succeeded = [event for _, event, _ in found if event["type"] == "transfer.succeeded"]
    assert {event["id"] for event in succeeded} == {"0.1.1", "1.2.0"}
    assert {event["source"] for event in succeeded} == {"urn:wallet:test"}
    for account in ("alice", "bob"):
        assert len({partition for key, _, partition in found if key == account}) == 1
    positions = {key: value["seq"] for key, value, _ in messages(target, POSITIONS) if key.isdigit()}
    assert positions == {"0": 3, "1": 2}


async def test_it_goes_on_where_it_stopped(target: str) -> None:
    written = Written()
    write_across(written)
    await follow(KafkaSink(target, written), written)
    before = messages(target)
    await follow(KafkaSink(target, written), written)
    assert messages(target) == before
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    await follow(KafkaSink(target, written), written)
    more = [event for _, event, _ in messages(target)][len(before) :]
    ids = {event["id"] for _, event, _ in messages(target)} - {event["id"] for _, event, _ in before}
    assert ids == {"0.4.0", "0.4.0a", "0.4.0b"}
    assert len(more) == 3


async def first_asked_for(target: str, written: Written) -> dict[int, int]:
    """Partition -> the seq after which a new process begins."""
    sink = KafkaSink(target, written)
    await sink.start()
    try:
        return {partition: at.seq for partition, at in (await sink.positions((0, 1))).items()}
    finally:
        await sink.close()


@pytest.mark.soak  # 20 s of entries
async def test_what_was_saved_spares_the_beginning(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written()
    write_across(written)
    await follow(KafkaSink(target, written), written)
    assert await first_asked_for(target, written) == {0: 0, 1: 0}
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    monkeypatch.setattr(kafka_folds, "PART_BYTES", 16)
    for number in range(3):  # both turns, and the first again
        written.write(0, f"+ t {T[5 + number]} alice @fees 5 USD")
        await follow(KafkaSink(target, written), written)
        assert await first_asked_for(target, written) == {0: 4 + number, 1: 2}
    (told,) = [e for _, e, _ in messages(target) if e["type"] == "posting" and e["id"].startswith("0.6.0")][
        :1
    ]
    assert told["data"]["balance"] == "5.85"


async def test_what_a_new_process_reads_again_is_not_kept(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written()
    write_across(written)
    sink = KafkaSink(target, written)
    await sink.start()
    await sink.positions((0, 1))
    await sink.take(written.all())
    await sink.flush()
    await sink.caught_up((0, 1), written.now_ms)
    assert sink.resumes_after() == await first_asked_for(target, written) == {0: 0, 1: 0}
    monkeypatch.setattr(sink._pace, "_wait_s", 0.0)
    await sink.caught_up((0, 1), written.now_ms)
    assert sink.resumes_after() == await first_asked_for(target, written) == {0: 3, 1: 2}
    await sink.close()


async def test_a_fold_that_is_not_whole_any_more_is_made_anew(
    target: str, brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    written = Written()
    write_across(written)
    await follow(KafkaSink(target, written), written)
    assert await first_asked_for(target, written) == {0: 3, 1: 2}
    topic = parse_target(target).topic + POSITIONS
    said = {"seq": 3, "nonce": "x", "turn": 0, "first": 0, "last": 1, "digest": "of other parts"}
    gone = Producer({"bootstrap.servers": brokers})
    gone.produce(topic, json.dumps(said), "fold.0")
    gone.produce(topic, json.dumps({**said, "last": 1000}), "fold.1")
    gone.flush(10)
    assert await first_asked_for(target, written) == {0: 0, 1: 0}


class Died(Exception):
    """Ends the sink as a kill would."""


@pytest.mark.parametrize("step", ["before events", "within events", "before positions", "behind positions"])
async def test_whatever_is_interrupted_no_event_is_missing(
    target: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written()
    write_across(written)
    sink = KafkaSink(target, written)
    produce, confirm, counts = sink._produce, sink._confirm, {"produce": 0, "confirm": 0}

    def dying_produce(topic: str, key: bytes, value: bytes) -> None:
        if step == "before events" or (step == "within events" and counts["produce"] == 3):
            raise Died
        counts["produce"] += 1
        produce(topic, key, value)

    def dying_confirm() -> None:
        confirm()
        counts["confirm"] += 1
        if counts["confirm"] == {"before positions": 1, "behind positions": 2}.get(step):
            raise Died

    monkeypatch.setattr(sink, "_produce", dying_produce)
    monkeypatch.setattr(sink, "_confirm", dying_confirm)
    with pytest.raises(Died):
        await follow(sink, written)
    await follow(KafkaSink(target, written), written)
    found = messages(target)
    seen: dict[str, dict[str, Any]] = {}
    for _, event, _ in found:
        assert seen.setdefault(event["id"], event) == event
    wanted = Written()
    write_across(wanted)
    from unit.events.test_making import events_of_all

    assert set(seen) == {event.id for event in await events_of_all(wanted)}
    # A repeat starts over from an earlier event, so the first occurrences of all ids are in order.
    for account in ("alice", "bob"):
        first = list(dict.fromkeys(event["id"] for key, event, _ in found if key == account))
        assert first == sorted(first)
    repeated = len(found) - len(seen)
    assert (repeated > 0) == (step in ("before positions",)) or step == "within events"


async def test_an_older_position_that_comes_late_takes_nothing_back(target: str, brokers: str) -> None:
    written = Written()
    write_across(written)
    await follow(KafkaSink(target, written), written)
    before = len(messages(target))
    late = Producer({"bootstrap.servers": brokers})
    late.produce(parse_target(target).topic + POSITIONS, json.dumps({"seq": 1, "nonce": "0" * 16}), "0")
    late.flush(10)
    await follow(KafkaSink(target, written), written)
    assert len(messages(target)) == before


async def test_positions_of_a_topic_that_a_broker_does_not_know_are_not_the_beginning(brokers: str) -> None:
    """A broker that has just started may not know the topic yet. Every event was sent again, from the first."""
    sink = KafkaSink(f"kafka://{brokers}/not-known", Written(1))
    with pytest.raises(Outage, match=r"not-known\.positions.*Unknown topic"):
        await sink.positions([0])


async def test_a_failure_is_over_when_the_brokers_are_back(
    target: str, brokers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed batch the sink failed once more for each batch until the first new event."""
    monkeypatch.setattr(kafka, "CONFIRM_S_MAX", 1.0)
    written = Written()
    write_across(written)
    await follow(KafkaSink(target, written), written)
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    lost = Producer({"test.mock.num.brokers": 1})
    topic = parse_target(target).topic
    for name in (topic, topic + POSITIONS, topic + FOLDS):
        lost.list_topics(name, timeout=10)
    sink = KafkaSink(f"kafka://{brokers_of(lost)}/{topic}", written)
    await sink.start()
    await sink.positions((0, 1))
    del lost
    with pytest.raises(Outage, match="does not take events"):
        await sink.take(written.all())
    await sink.close()
    sink._settings["bootstrap.servers"] = brokers
    await sink.start()
    assert await sink.positions((0,)) == {0: START}
    await sink.take([at for at in written.all() if at.partition == 0 and at.seq < 4])  # only for its fold
    await sink.take([at for at in written.all() if at.partition == 0 and at.seq == 4])
    await sink.close()
    assert "0.4.0" in {event["id"] for _, event, _ in messages(target)}


async def test_no_event_passes_an_earlier_one_of_its_account_that_was_given_up(
    owner: Producer, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka gave up each event on its own: after a pause of the brokers it sent the later ones alone."""
    monkeypatch.setattr(kafka, "CONFIRM_S_MAX", 1.0)
    written = Written(1)
    written.write(0, *OPENED)
    for n in range(8):
        written.write(0, f"+ t {T[n]} alice @fees {n + 1} USD")
    sink = KafkaSink(
        target, written, {"queue.buffering.max.messages": "4", "reconnect.backoff.max.ms": "100"}
    )
    await sink.start()
    await sink.positions((0,))
    set_brokers(owner, "down")
    taking = asyncio.create_task(sink.take(written.all()))
    await asyncio.wait((taking,), timeout=2.5)
    set_brokers(owner, "up")
    with pytest.raises(Outage, match="does not take events"):
        await taking
    await sink.close()
    await follow(KafkaSink(target, written), written, (0,))
    told = [event["id"] for key, event, _ in messages(target) if key == "alice"]
    first = list(dict.fromkeys(told))
    assert first == sorted(first, key=lambda name: int(name.split(".")[1]))


async def test_a_kafka_that_is_away_is_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "ANSWER_S_MAX", 1.0)
    written = Written(1)
    written.write(0, *OPENED)
    sink = KafkaSink("kafka://127.0.0.1:1/events", written)
    with pytest.raises(Outage, match="Kafka"):
        await sink.start()
    await sink.close()


@pytest.mark.parametrize(
    "target", ["kafka:", "kafka://", "kafka://host", "kafka:///topic", "kafka://host/a b"]
)
def test_what_is_no_target_is_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        parse_target(target)


def test_who_lacks_the_library_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "confluent_kafka", None)
    with pytest.raises(ConfigError, match=r"pip install 'wallet-engine\[kafka\]'"):
        extras.needed("confluent_kafka", "kafka", "--to kafka:")


def test_what_waits_for_brokers_waits_in_a_thread(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: set[str] = set()

    def watched(name: str) -> Callable[..., Any]:
        original = getattr(KafkaSink, name)

        def wait(*words: Any) -> Any:
            assert threading.current_thread() is not threading.main_thread()
            waited.add(name)
            return original(*words)

        return wait

    for name in ("_open", "_starts", "_send", "_save"):
        monkeypatch.setattr(KafkaSink, name, watched(name))
    written = Written(1)
    written.write(0, *OPENED)
    asyncio.run(follow(KafkaSink(target, written), written, (0,)))
    assert waited >= {"_open", "_starts", "_send"}
