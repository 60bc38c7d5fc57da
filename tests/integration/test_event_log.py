"""The event log on a real PostgreSQL: every event once with several writers and failures, and an order to read by."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from support.written import Written
from unit.events.test_making import T, events_of_all, write_across

from wallet_engine.events import saved
from wallet_engine.events.event import Event
from wallet_engine.history.database import HistoryUnavailable, connect, migrate, settings
from wallet_engine.journal import feed
from wallet_engine.webhooks.endpoint import DISABLED, ENABLED
from wallet_engine.webhooks.log import (
    START,
    EventLog,
    EventsRemoved,
    LogRow,
    OfAnotherLog,
    Place,
    append,
    first_since,
)
from wallet_engine.webhooks.outbox import Outbox
from wallet_engine.webhooks.sink import TakenOver, WebhookSink

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def url(history_url: str) -> str:
    connection = await connect(history_url, "test")
    await migrate(connection)
    await connection.close()
    return history_url


@pytest.fixture
async def pool(url: str) -> AsyncIterator[Any]:
    made = await asyncpg.create_pool(url, min_size=1, max_size=12, server_settings=settings("test"))
    yield made
    made.terminate()


def make(url: str, written: Written, worker: str = "f1") -> WebhookSink:
    return WebhookSink(url, written, worker, allow_private=True)


async def give(sink: WebhookSink, written: Written, at_once: int = 100) -> None:
    """Give the sink all entries after its positions, `at_once` at a time."""
    positions = await sink.positions(list(written.states))
    batch = [at for at in written.all() if at.seq > positions[at.partition].seq]
    for begin in range(0, len(batch), at_once):
        await sink.take(batch[begin : begin + at_once])
    await sink.flush()


async def follow(url: str, written: Written, at_once: int = 100) -> None:
    sink = make(url, written)
    await sink.start()
    try:
        await give(sink, written, at_once)
    finally:
        await sink.close()


async def logged(pool: Any, limit: int = 1000) -> list[str]:
    """Ids of all events, read in pages."""
    log, place, found = EventLog(pool), START, []
    while True:
        events, behind = await log.read(place, limit)
        found += [event.id for event in events]
        if behind == place:
            return found
        place = behind


async def test_every_event_is_in_the_log_once(url: str, pool: Any) -> None:
    written = Written()
    write_across(written)
    await follow(url, written, at_once=1)
    wanted = await events_of_all(written)
    assert await logged(pool) == [event.id for event in wanted]
    for limit in (1, 2, 3, 7):
        assert await logged(pool, limit) == [event.id for event in wanted]
    events, _ = await EventLog(pool).read(START, 100)
    assert [bytes(event.document) for event in events] == [event.encode() for event in wanted]
    await follow(url, written)
    assert len(await logged(pool)) == len(wanted)


async def test_filters_lose_nothing_and_say_how_far_they_looked(url: str, pool: Any) -> None:
    written = Written()
    write_across(written)
    for number in range(3):
        written.write(0, f"+ t {T[number + 2]} alice @fees 1 USD")
    await follow(url, written, at_once=2)
    everything = await events_of_all(written)
    log = EventLog(pool)
    for types, account in (
        (["posting"], None),
        (None, "bob"),
        (["transfer.succeeded"], "alice"),
        (["x"], None),
    ):
        wanted = [
            event.id
            for event in everything
            if (types is None or event.type in types) and (account is None or account in event.accounts)
        ]
        for limit in (1, 2, 100):
            place, found = START, []
            for _ in range(100):
                events, behind = await log.read(place, limit, types, account)
                found += [event.id for event in events]
                if behind == place:
                    break
                place = behind
            assert found == wanted, (types, account, limit)


async def test_a_page_ends_within_an_entry_and_goes_on_there(pool: Any) -> None:
    made = [Event(f"0.1.{idx}", "posting", "alice", 1_795_255_200_000, {}, ("alice",)) for idx in range(10)]
    async with pool.acquire() as connection, connection.transaction():
        await append(connection, [LogRow(0, 1, 1_795_255_200_000, made)], "test")
    events, place = await EventLog(pool).read(START, 4)
    assert [event.id for event in events] == ["0.1.0", "0.1.1", "0.1.2", "0.1.3"]
    assert place[:2] == (1, 4)
    assert await logged(pool, 4) == [event.id for event in made]


async def test_old_events_go_once_every_webhook_has_them_and_nobody_misses_any_unnoticed(pool: Any) -> None:
    day_s = 86_400
    async with pool.acquire() as connection, connection.transaction():
        for number in range(1, 11):
            event = Event(f"0.{number}.0", "posting", "alice", number * day_s * 1000, {}, ("alice",))
            await append(connection, [LogRow(0, number, number * day_s * 1000, [event])], "test")
    log, outbox = EventLog(pool), Outbox(pool, "f1")
    _, behind_first = await log.read(START, 1)
    _, behind_sixth = await log.read(START, 6)
    insert = (
        "INSERT INTO webhooks (webhook_id, url, types, accounts, description, secret, position, status) "
        "VALUES ($1, 'https://x', '{*}', '{}', '', 's', $2, $3)"
    )
    await pool.execute(insert, "slow", 4, ENABLED)
    await pool.execute(insert, "off", 1, DISABLED)
    assert await outbox.remove_events(8.5 * day_s) == 4
    await pool.execute("UPDATE webhooks SET position = 10")
    assert await outbox.remove_events(6.5 * day_s) == 2
    assert await outbox.remove_events(6.5 * day_s) == 0
    assert await logged(pool, 2) == [f"0.{number}.0" for number in range(7, 11)]
    for place in (behind_first, behind_sixth):
        with pytest.raises(EventsRemoved):
            await log.read(place, 10)
    events, _ = await log.read(Place(7, 0), 10)
    assert [event.id for event in events] == [f"0.{number}.0" for number in range(7, 11)]
    assert await outbox.remove_events(99 * day_s) == 4
    assert (await log.read(START, 10))[0] == []


async def test_a_place_that_this_log_has_not_given_is_not_waited_on(pool: Any) -> None:
    """After a restored backup a reader would wait for ever, or miss events that got old numbers again."""

    async def add(numbers: range) -> None:
        async with pool.acquire() as connection, connection.transaction():
            for number in numbers:
                event = Event(f"0.{number}.0", "posting", "alice", number * 1000, {}, ("alice",))
                await append(connection, [LogRow(0, number, number * 1000, [event])], "test")

    await add(range(1, 6))
    log = EventLog(pool)
    _, newest = await log.read(START, 10)
    assert await log.read(newest, 10) == ([], newest), "nothing is wrong with the end"
    await pool.execute("DELETE FROM event_log WHERE number > 3")
    await pool.execute("UPDATE event_numbers SET last = 3")
    for each in (log, EventLog(pool)):
        with pytest.raises(OfAnotherLog):
            await each.read(newest, 10)
    assert len((await log.read(START, 10))[0]) == 3


async def test_a_place_in_a_part_that_was_lost_is_not_read_on_from(url: str, pool: Any) -> None:
    """A follower has written on behind a restored backup: in another order, the old numbers are other events."""

    async def add(partition: int, seqs: range) -> None:
        async with pool.acquire() as connection, connection.transaction():
            for seq in seqs:
                event = Event(f"{partition}.{seq}.0", "posting", "alice", seq * 1000, {}, ("alice",))
                await append(connection, [LogRow(partition, seq, seq * 1000, [event])], "test")

    await add(0, range(1, 4))
    log = EventLog(pool)
    _, kept = await log.read(START, 10)
    await add(0, range(4, 6))
    places = [kept]
    for limit, types in ((1, None), (1, None), (10, ["hold.placed"])):
        _, place = await log.read(places[-1] if types is None else START, limit, types)
        places.append(place)
    assert [place.number for place in places] == [3, 4, 5, 5]
    await pool.execute("DELETE FROM event_log WHERE number > 3")
    await pool.execute("UPDATE event_numbers SET last = 3")
    await add(1, range(1, 3))
    await add(0, range(4, 7))
    for place in places[1:]:
        with pytest.raises(OfAnotherLog):
            await log.read(place, 10)
    events, newest = await log.read(kept, 10)
    assert [event.id for event in events] == ["1.1.0", "1.2.0", "0.4.0", "0.5.0", "0.6.0"]
    assert await log.read(newest, 10) == ([], newest)
    # A place that was given before places had marks.
    assert (await log.read(Place(5, 1), 10))[0] == events[2:]
    await pool.execute("UPDATE event_log SET mark = NULL WHERE number <= 3")
    assert (await log.read(Place(3, 1), 10))[0] == events


async def test_nobody_who_reads_behind_writers_misses_or_repeats_anything(pool: Any) -> None:
    """Several transactions are open at once and end in any order; some are rolled back."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    written: set[str] = set()
    done = asyncio.Event()

    async def write(partition: int) -> None:
        for seq in range(1, 41):
            name = f"{partition}.{seq}.0"
            event = Event(name, "posting", "alice", 1_795_255_200_000, {}, ("alice",))
            async with pool.acquire() as connection:
                transaction = connection.transaction()
                await transaction.start()
                await asyncio.sleep(chance.random() / 200)
                await append(connection, [LogRow(partition, seq, 1_795_255_200_000, [event])], "test")
                await asyncio.sleep(chance.random() / 200)
                if chance.random() < 0.2:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    written.add(name)

    async def read(limit: int) -> list[str]:
        log, place, found = EventLog(pool), START, []
        while True:
            ending = done.is_set()
            events, behind = await log.read(place, limit)
            found += [event.id for event in events]
            if behind == place and ending:
                return found
            place = behind
            await asyncio.sleep(0.001)

    async def write_all() -> None:
        await asyncio.gather(*(write(partition) for partition in range(5)))
        done.set()

    _, *readers = await asyncio.gather(write_all(), read(1), read(3), read(100))
    for found in readers:
        assert len(found) == len(set(found)), f"seed {seed}"
        assert set(found) == written, f"seed {seed}"
        assert found == readers[0], f"seed {seed}"


async def test_the_first_event_since_a_time_is_found_without_reading_all_before(pool: Any) -> None:
    """A replay of the last day read the log from its oldest row on: of a long one it was 503 for ever."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    clocks, rows = {3: 0, 7: 5_000, 90: 40_000}, []
    for number in range(1, 10_001):
        partition = chance.choice(list(clocks))
        clocks[partition] += chance.choice((0, 1, 50))
        moment = datetime(2026, 11, 21, tzinfo=UTC) + timedelta(milliseconds=clocks[partition])
        rows.append((number, partition, number * 3, moment, ["posting"], ["alice"], b"x" * 500))
    pages = "SELECT sum(pg_stat_get_xact_blocks_fetched(oid))::bigint FROM pg_class WHERE relname LIKE 'event_log%'"
    async with pool.acquire() as connection:
        columns = ("number", "partition", "seq", "at", "types", "accounts", "events")
        await connection.copy_records_to_table("event_log", records=rows, columns=columns)
        await connection.execute("ANALYZE event_log")
        for moment in (rows[0][3], *(chance.choice(rows)[3] for _ in range(10)), max(row[3] for row in rows)):
            for at in (moment, moment + timedelta(milliseconds=1)):
                wanted = min((row[0] for row in rows if row[3] >= at), default=None)
                async with connection.transaction():
                    before = await connection.fetchval(pages)
                    assert await first_since(connection, at) == wanted, f"seed {seed}"
                    assert await connection.fetchval(pages) - before < 400, f"seed {seed}"


async def test_who_waits_is_told_soon_and_only_of_what_is_committed(pool: Any) -> None:
    log = EventLog(pool)
    assert not await log.wait_beyond(0, 0.2)
    waiting = [asyncio.create_task(log.wait_beyond(0, 20)) for _ in range(20)]
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        event = Event("0.1.0", "posting", "alice", 1_795_255_200_000, {}, ("alice",))
        await append(connection, [LogRow(0, 1, 1_795_255_200_000, [event])], "test")
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in waiting)
        await transaction.commit()
    assert await asyncio.gather(*waiting) == [True] * 20
    ended = asyncio.create_task(log.wait_beyond(1, 20))
    await asyncio.sleep(0.05)
    log.stop_waiting()
    assert not await asyncio.wait_for(ended, 5)
    await log.close()


async def test_who_waits_is_told_that_the_database_failed(pool: Any) -> None:
    log = EventLog(pool)
    waiting = [asyncio.create_task(log.wait_beyond(0, 20)) for _ in range(3)]
    await asyncio.sleep(0.1)
    await pool.execute("ALTER TABLE event_numbers RENAME TO elsewhere")
    failed = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in failed] == [asyncpg.UndefinedTableError] * 3
    await pool.execute("ALTER TABLE elsewhere RENAME TO event_numbers")
    assert not await log.wait_beyond(0, 0.2)
    await log.close()


class Failing:
    """A connection whose n-th call fails, before or after it was carried out."""

    def __init__(self, connection: Any, fail_at: int, after: bool) -> None:
        self._connection, self.left, self._after = connection, fail_at, after

    def transaction(self) -> Any:
        return self._connection.transaction()

    def terminate(self) -> None:
        self._connection.terminate()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._connection, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not self._after:
                raise ConnectionResetError("gone before")
            found = await method(*arguments, **named)
            if self.left == 0:
                raise ConnectionResetError("gone after")
            return found

        return call


@pytest.mark.parametrize(
    "after", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["before", "after"]
)
async def test_a_failure_at_every_statement_loses_and_doubles_nothing(
    url: str, pool: Any, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    monkeypatch.setattr(saved, "SAVE_SHARE_MAX", 1e9)
    written = Written()
    written.write(0, "+ o - alice - 0 USD", f"+ t {T[9]} @bank alice 100000 USD")
    written.write(1, "+ o - bob - 0 USD")
    failures = 0
    for fail_at in range(1, 60):
        seq = written.states[0].seq + 1
        transaction = f"{fail_at:021d}A"
        written.write(0, f"+ d {transaction} alice bob 1 USD")
        written.write(1, f"+ c 0.{seq} bob 0 1 USD")
        sink = make(url, written)
        await sink.start()
        session = sink._open
        failing = session.connection = Failing(session.connection, fail_at, after)
        try:
            await give(sink, written, at_once=1)
            assert failing.left > 0
        except HistoryUnavailable:
            failures += 1
        finally:
            await sink.close()
        if failing.left > 0 and fail_at > 15:
            break
    await follow(url, written)
    assert failures > 12
    assert sorted(await logged(pool)) == sorted(event.id for event in await events_of_all(written))


async def test_what_was_saved_spares_the_beginning(
    url: str, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    written = Written()
    write_across(written)
    sink = make(url, written)
    await sink.start()
    await give(sink, written)
    await sink.close()
    another = make(url, written, "f2")
    await another.start()
    positions = await another.positions([0, 1])
    assert {partition: at.seq for partition, at in positions.items()} == {0: 3, 1: 2}
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    await give(another, written)
    await another.close()
    assert sorted(await logged(pool)) == sorted(event.id for event in await events_of_all(written))


async def test_what_a_new_process_reads_again_is_not_kept(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal may remove what is kept. A fold is saved also when no entry follows."""
    written = Written()
    write_across(written)
    sink, another = make(url, written), make(url, written, "f2")
    await sink.start()
    await another.start()
    await give(sink, written)
    await sink.caught_up([0, 1], written.now_ms)
    assert await another.positions([0, 1]) == {0: feed.START, 1: feed.START}
    assert sink.resumes_after() == {0: 0, 1: 0}
    monkeypatch.setattr(sink._pace, "_wait_s", 0.0)
    await sink.caught_up([0, 1], written.now_ms)
    assert sink.resumes_after() == {0: 3, 1: 2}
    another._maker.keep(())
    positions = await another.positions([0, 1])
    assert {partition: at.seq for partition, at in positions.items()} == sink.resumes_after()
    assert another.resumes_after() == sink.resumes_after()
    await another.close()
    await sink.close()


async def test_a_saved_fold_that_cannot_be_read_is_made_anew(
    url: str, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of an earlier form: the sink never started again."""
    monkeypatch.setattr(saved, "SAVE_S_MIN", 0.0)
    written = Written()
    write_across(written)
    await follow(url, written)
    await pool.execute("UPDATE event_folds SET book = $1 WHERE partition = 0", b"\x91\x01")
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    sink = make(url, written)
    await sink.start()
    positions = await sink.positions([0, 1])
    assert {partition: at.seq for partition, at in positions.items()} == {0: 0, 1: 2}
    assert sink.resumes_after() == {0: 0, 1: 2}
    await give(sink, written)
    await sink.close()
    assert sorted(await logged(pool)) == sorted(event.id for event in await events_of_all(written))
    assert await pool.fetchval("SELECT seq FROM event_folds WHERE partition = 0") == 4


async def test_who_was_overtaken_writes_nothing(url: str, pool: Any) -> None:
    written = Written()
    write_across(written)
    slow = make(url, written, "slow")
    await slow.start()
    await slow.positions([0, 1])
    await follow(url, written)
    with pytest.raises(TakenOver):
        await slow.take(written.all())
    await give(slow, written)
    written.write(0, f"+ t {T[5]} alice @fees 5 USD")
    await give(slow, written)
    await slow.close()
    assert sorted(await logged(pool)) == sorted(event.id for event in await events_of_all(written))
