"""The sink `history` on a real PostgreSQL: each entry counts once, whatever is interrupted, and the oracle agrees."""

import asyncio
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.databases import asked, rows_of
from unit.recovery.random_journal import RandomJournal

from wallet_engine.admin.proof import history as proof
from wallet_engine.admin.proof.history import read_rows
from wallet_engine.app.webhooks import guarded_events
from wallet_engine.domain.columns import pack
from wallet_engine.domain.entry import RULES, EntryHeader, parse_header
from wallet_engine.domain.errors import ConfigError, Corruption, Outage
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.notes import note_of
from wallet_engine.domain.operation import parse_operation
from wallet_engine.domain.oracle import apply_payload
from wallet_engine.domain.oracle_rules import decide_operations
from wallet_engine.domain.oracle_state import PartitionState
from wallet_engine.history import books, clearing, ends, legs, reader, rows, session
from wallet_engine.history import sink as sink_module
from wallet_engine.history.book import Wanted
from wallet_engine.history.clearing import clear, clear_telling
from wallet_engine.history.database import (
    BY_KEY,
    HistoryUnavailable,
    check_none_detached,
    check_version,
    connect,
    make_months,
    migrate,
    ms_of,
)
from wallet_engine.history.edges import NotKept, edge_postings
from wallet_engine.history.ends import Matched, TakenOver
from wallet_engine.history.facts import TYPES
from wallet_engine.history.listing import Listing
from wallet_engine.history.originals import Originals
from wallet_engine.history.pieces import PIECE_MAX
from wallet_engine.history.reader import Behind, HistoryReader, Page
from wallet_engine.history.sink import HistorySink
from wallet_engine.journal.feed import DirectoryFeed, FeedEntry, partitions_from_start
from wallet_engine.routing.homes import Homes
from wallet_engine.service.policy import ANYONE
from wallet_engine.webhooks.log import START

T = [letter * 22 for letter in "ABCDEFGH"]


class Chains:
    """Partitions to which entries are written as the script would."""

    def __init__(self) -> None:
        self.states: dict[int, PartitionState] = {}
        #: Partition -> how far its clock is ahead.
        self.ahead_ms: Counter[int] = Counter()

    def add(self, partition: int, *lines: str, rotate: bool = False) -> FeedEntry:
        state = self.states.setdefault(partition, PartitionState())
        operations = [parse_operation(line) for line in lines]
        time_ms = 1_795_255_200_000 + 1000 * sum(s.seq for s in self.states.values())
        time_ms += self.ahead_ms[partition]
        nonce = f"{partition * 1_000_000 + state.seq + 1:016x}"
        seq, before = state.seq, state.nonce
        window = state.window + rotate
        outcomes = decide_operations(state, operations, time_ms, window)
        assert state.seq == seq + 1, outcomes
        state.nonce = nonce
        header = EntryHeader(seq + 1, before, nonce, 1, time_ms, window, outcomes, RULES, 0)
        payload = header.text().encode() + b"\n" + pack(operations).columns
        return FeedEntry(partition, parse_header(payload), payload)


def run(url: str, *batches: Sequence[FeedEntry], partitions: Sequence[int] = (0, 1)) -> None:
    """Give batches to a sink that is opened for them."""

    asyncio.run(run_sink(url, *batches, partitions=partitions))


async def run_sink(url: str, *batches: Sequence[FeedEntry], partitions: Sequence[int] = (0, 1)) -> None:
    sink = HistorySink(url)
    await sink.start()
    await sink.positions(partitions)
    for batch in batches:
        await sink.take(batch)
    await sink.flush()
    await sink.close()


@pytest.fixture
def url(history_url: str) -> str:
    asked(history_url, migrate)
    return history_url


def test_migrations_come_once_and_a_newer_schema_is_refused(history_url: str) -> None:
    with pytest.raises(ConfigError, match="history migrate"):
        asked(history_url, check_version)
    before, now = asked(history_url, migrate)
    assert (before, now) == (0, now)
    assert asked(history_url, migrate) == (now, now)
    asked(history_url, check_version)
    asked(history_url, lambda c: c.execute("INSERT INTO versions (version) VALUES ($1)", now + 1))
    for look in (check_version, migrate):
        with pytest.raises(ConfigError, match="use the newer program"):
            asked(history_url, look)

    async def read_events() -> None:
        async with guarded_events(history_url, asyncio.Event(), allow_private=False) as events:
            assert events is not None
            await events.events(ANYONE, START, 1, None, None, 0)

    with pytest.raises(HistoryUnavailable, match="use the newer program"):
        asyncio.run(read_events())


def test_a_database_that_cannot_keep_every_letter_is_refused(history_url: str) -> None:
    """It was migrated, and the first reference with a letter that it lacks stopped the history for ever."""
    name = f"latin_{history_url.rpartition('_')[2]}"
    words = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    asked(history_url, lambda c: c.execute(f"CREATE DATABASE {name} {words}"))
    with pytest.raises(ConfigError, match=r"encoding LATIN1.*UTF8"):
        asked(f"{history_url.rpartition('/')[0]}/{name}", migrate)


@pytest.mark.parametrize("order", ["debit first", "credit first", "in one batch"])
def test_a_transfer_across_partitions_is_one_row_whichever_entry_comes_first(url: str, order: str) -> None:
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    debit = chains.add(0, f'd {T[1]} alice bob 200 USD {{"ref":"rent"}}')
    credit = chains.add(1, "c 0.2 bob 0 200 USD")
    batches = {
        "debit first": [opened, [debit], [credit]],
        "credit first": [opened, [credit], [debit]],
        "in one batch": [[*opened, debit, credit]],
    }
    run(url, *batches[order])
    (transfer,) = rows_of(url, "SELECT * FROM transfers WHERE payer = 'alice'")
    assert (transfer["status"], transfer["receiver"], transfer["amount"]) == ("success", "bob", 200)
    assert transfer["ended_at"] is not None
    (got,) = rows_of(url, "SELECT * FROM postings WHERE account = 'bob' AND delta > 0")
    assert (got["transaction_id"], got["counterparty"], got["reference"], got["type"]) == (
        *(transfer["transaction_id"], "alice", "rent", "transfer"),
    )
    (sent,) = rows_of(url, "SELECT * FROM postings WHERE account = 'alice' AND delta < 0")
    assert (sent["status"], sent["balance"], sent["available"]) == ("success", 300, 300)
    assert rows_of(url, "SELECT * FROM early_credits") == []


#: Alice pays bob, who is in another partition, and carol, who is in hers.
_HOME_LEGS = "p0|alice|bob|200|USD;b1|alice|carol|100|USD;"
_PART_LEGS = "r0|alice|bob|200|USD;"
_NOTE = note_of("wages", {"month": "may"}, leg_references={"0": "to bob"})


@pytest.mark.parametrize("order", ["decided first", "paid first", "in one batch", "opened anew between"])
def test_a_leg_elsewhere_knows_what_was_said_of_its_group(url: str, order: str) -> None:
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", "o - carol - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
        chains.add(1, f"p {T[1]} alice mark:0:-:{_PART_LEGS} 0 -"),
    ]
    decided = chains.add(0, f"g {T[1]} alice mark:0:c:{_HOME_LEGS} 0 - {_NOTE}")
    paid = chains.add(1, f"y {T[1]} alice mark:0:-:{_PART_LEGS} 0 -")
    if order == "opened anew between":
        run(url, opened, [decided])
        run(url, [paid])
    else:
        batches = {
            "decided first": [opened, [decided], [paid]],
            "paid first": [opened, [paid], [decided]],
            "in one batch": [[*opened, decided, paid]],
        }
        run(url, *batches[order])
    told = rows_of(
        url, "SELECT account, leg, reference, metadata FROM postings WHERE type = 'group' ORDER BY leg"
    )
    assert [(row["account"], row["reference"]) for row in told] == [
        *(("alice", "to bob"), ("bob", "to bob"), ("alice", "wages"), ("carol", "wages")),
    ]
    assert {row["metadata"] for row in told} == {'{"month": "may"}'}
    assert rows_of(url, "SELECT * FROM early_legs") == []


def test_a_leg_that_is_paid_before_its_group_is_known_waits_untold(url: str) -> None:
    chains = Chains()
    opened = chains.add(1, "o - bob - 0 USD"), chains.add(1, f"p {T[1]} alice mark:0:-:{_PART_LEGS} 0 -")
    paid = chains.add(1, f"y {T[1]} alice mark:0:-:{_PART_LEGS} 0 -")
    run(url, [*opened, paid])
    (leg,) = rows_of(url, "SELECT * FROM postings WHERE account = 'bob' AND delta > 0")
    assert (leg["type"], leg["balance"], leg["counterparty"]) == ("", 200, "alice")
    asked(url, lambda connection: clear(connection, [1]))
    assert rows_of(url, "SELECT * FROM early_legs") == []


def test_a_leg_of_an_id_that_is_used_again_waits_for_its_own_group(url: str) -> None:
    """It was told to have the reference of the group that had the id before, when home's entries came later."""
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]

    def group(mark: str, text: str, *, rotate: bool = False) -> tuple[list[FeedEntry], FeedEntry]:
        """What the part has, and home's decision."""
        note = note_of(text)
        prepared = chains.add(1, f"p {T[1]} alice {mark}:0:-:r0|alice|bob|10|USD; 0 -", rotate=rotate)
        decided = chains.add(0, f"g {T[1]} alice {mark}:0:c:p0|alice|bob|10|USD; 0 - {note}", rotate=rotate)
        return [prepared, chains.add(1, f"y {T[1]} alice {mark}:0:-:r0|alice|bob|10|USD; 0 -")], decided

    before, decided = group("X1", "march")
    run(url, [*opened, *before, decided, *(chains.add(p, "n api - - 0 -", rotate=True) for p in (0, 1))])
    later, decided_later = group("X2", "april", rotate=True)
    told = "SELECT type, reference FROM postings WHERE account = 'bob' AND delta > 0 ORDER BY at"
    run(url, later)
    assert [tuple(row.values()) for row in rows_of(url, told)] == [("group", "march"), ("", None)]
    run(url, [decided_later])
    assert [tuple(row.values()) for row in rows_of(url, told)] == [("group", "march"), ("group", "april")]
    assert rows_of(url, "SELECT * FROM early_legs") == []


def test_refunds_count_for_the_transfer_that_they_give_back(url: str) -> None:
    """Whatever clocks say, and however often its id was used. More could be refunded than was paid."""
    chains = Chains()
    chains.ahead_ms[0] = 25 * 3_600_000
    field = transfer_field("alice", T[1])

    def refund(number: int, of: str, how: str, whole: int, back: int) -> FeedEntry:
        return chains.add(1, f"z {T[number]} bob alice|{field}|{of}|{how}|{whole}|{back} {back} USD")

    entries = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
        chains.add(0, f"d {T[1]} alice bob 200 USD"),
        chains.add(1, "c 0.2 bob 0 200 USD"),
        refund(2, "0.2.0", "c", 200, 50),
        *(chains.add(p, "n api - - 0 -", rotate=True) for p in (0, 1) for _ in range(2)),
    ]
    run(url, entries)
    entries = [chains.add(0, f"d {T[1]} alice bob 100 USD"), chains.add(1, "c 0.5 bob 0 100 USD")]
    chains.ahead_ms[1] = 2 * chains.ahead_ms[0]
    window = chains.states[1].window
    entries += [refund(3, "0.5.0", "c", 100, 30), refund(4, "0.2.0", f"s{window}.50", 200, 70)]
    run(url, entries)

    async def returned(seq: int) -> int:
        reader = HistoryReader(url, Homes(2))
        originals = Originals(reader)
        (newest,) = await originals.find("alice", T[1], (0, 5))
        assert (newest.seq, newest.amount_minor) == (5, 100)
        of = newest._replace(seq=seq)
        try:
            return await originals.returned(of, T[1], (1, chains.states[1].seq))
        finally:
            await reader.close()

    assert [asyncio.run(returned(seq)) for seq in (2, 5)] == [120, 30]


def test_the_work_of_a_rebuild_grows_with_what_is_rebuilt(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All credits that others got from the partition were looked at after each batch: twice as many took four times."""
    monkeypatch.setattr(ends, "LOOK_SHARE_MAX", 1e-9)
    chains, each, batches = Chains(), 5, 60
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    debits = [
        chains.add(0, *(f"d {'A' * 18}{n:02}{m:02} alice bob 1 USD" for m in range(each)))
        for n in range(batches)
    ]
    credits = [chains.add(1, *(f"c 0.{debit.seq} bob {m} 1 USD" for m in range(each))) for debit in debits]
    run(url, [*opened, *debits, *credits])
    asked(url, lambda c: c.execute("ANALYZE transfers, postings"))
    asked(url, lambda c: clear(c, [0]))
    asked(url, lambda c: c.execute("ANALYZE early_credits"))

    async def read(connection: Any) -> int:
        """Look-ups and rows of indexes so far, once all backends have told."""
        reads = []
        while len(reads) < 2 or reads[-1] != reads[-2]:
            await asyncio.sleep(1.5)
            found = (
                "SELECT sum(idx_scan + idx_tup_read)::bigint FROM pg_stat_user_indexes "
                "WHERE relname ~ '^(transfers|early_credits)'"
            )
            reads.append(int(await connection.fetchval(found)))
        return reads[-1]

    before = asked(url, read)
    run(url, [opened[0]], *([debit] for debit in debits))
    assert rows_of(url, "SELECT FROM early_credits") == []
    assert len(rows_of(url, "SELECT FROM transfers WHERE status = 'success'")) == 1 + each * batches
    # Looking at all of them after each batch takes as many in each month's table.
    assert asked(url, read) - before < each * batches * batches / 2


def test_two_processes_whose_partitions_meet(url: str) -> None:
    """Each process has one side of the transfer, and none has both."""
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    debit = chains.add(0, f"d {T[1]} alice bob 200 USD")
    credit = chains.add(1, "c 0.2 bob 0 200 USD")

    async def main() -> None:
        sinks = [HistorySink(url), HistorySink(url)]
        for partition, sink in enumerate(sinks):
            await sink.start()
            await sink.positions([partition])
        await sinks[1].take([opened[1], credit])
        await sinks[1].flush()
        await sinks[0].take([opened[0], debit])
        await sinks[0].flush()
        await sinks[1].flush()
        for sink in sinks:
            await sink.close()

    asyncio.run(main())
    statuses = rows_of(url, "SELECT status FROM transfers ORDER BY seq")
    assert [row["status"] for row in statuses] == ["success", "success"]


@pytest.mark.parametrize("joins", [False, True])
def test_g14_verify_waits_for_what_two_processes_are_joining(
    url: str, monkeypatch: pytest.MonkeyPatch, joins: bool
) -> None:
    """A transfer was a difference if verify looked just between its entry and the join with its early credit."""
    monkeypatch.setattr(proof, "JOIN_S_MAX", 20.0 if joins else 0.0)
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    debit, credit = chains.add(0, f"d {T[1]} alice bob 200 USD"), chains.add(1, "c 0.2 bob 0 200 USD")

    async def main() -> proof.Rows:
        sinks = [HistorySink(url), HistorySink(url)]
        for partition, sink in enumerate(sinks):
            await sink.start()
            await sink.positions([partition])
        await sinks[0].take([opened[0]])
        await sinks[0].flush()
        await sinks[0].flush()  # nothing early is here: it looks for none until it has brought some itself
        await sinks[1].take([opened[1], credit])
        await sinks[1].flush()
        await sinks[0].take([debit])
        await sinks[0].flush()
        reading = asyncio.create_task(read_rows(url))
        await asyncio.wait((reading,), timeout=1.0)
        if joins:
            assert not reading.done()
            await sinks[1].flush()
        rows = await reading
        for sink in sinks:
            await sink.close()
        return rows

    rows = asyncio.run(main())
    assert rows.transfers == {
        (0, "deposit", "success", "USD"): (1, 500),
        (0, "transfer", "success", "USD"): (1, 200),
    }
    assert rows.apart == (0 if joins else 1)


@pytest.mark.parametrize("end", ["in memory", "being written"])
def test_an_end_is_kept_when_its_transfer_is_made_anew_meanwhile(
    url: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """`history rebuild` of the payer's partition, just as the receiver's gets it: it was pending for ever."""
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    debit = chains.add(0, f"d {T[1]} alice bob 200 USD")
    credit = chains.add(1, "c 0.2 bob 0 200 USD")
    written, goes_on = asyncio.Event(), asyncio.Event()
    write = Matched.write

    async def slow(matched: Matched, connection: Any) -> None:
        await write(matched, connection)
        written.set()
        await goes_on.wait()

    async def main() -> None:
        sink, other = HistorySink(url), await connect(url, "test")
        await sink.start()
        await sink.positions((0, 1))
        await sink.take([*opened, debit])
        await sink.flush()
        if end == "in memory":
            await clear(other, [0])
            await sink.take([credit])
            with pytest.raises(TakenOver):
                await sink.flush()
        else:
            monkeypatch.setattr(Matched, "write", slow)
            await sink.take([credit])
            await written.wait()
            clearing = asyncio.create_task(clear(other, [0]))
            await asyncio.wait((clearing,), timeout=1.0)
            goes_on.set()
            await sink.flush()
            await clearing
        await sink.close()
        await other.close()

    asyncio.run(main())
    monkeypatch.undo()
    rest = [credit] if end == "in memory" else []
    run(url, [opened[0], debit, *rest])
    (transfer,) = rows_of(url, "SELECT status FROM transfers WHERE payer = 'alice'")
    assert transfer["status"] == "success"
    told = "SELECT type, counterparty, status FROM postings WHERE account = 'bob' AND delta > 0"
    assert [tuple(row.values()) for row in rows_of(url, told)] == [("transfer", "alice", "success")]
    assert rows_of(url, "SELECT FROM early_credits") == []


def test_a_join_of_what_came_early_waits_for_a_rebuild_and_looks_again(url: str) -> None:
    """It joined an early credit with a transfer that was being deleted: the rebuilt transfer was pending."""
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    debit, credit = chains.add(0, f"d {T[1]} alice bob 200 USD"), chains.add(1, "c 0.2 bob 0 200 USD")

    async def main() -> None:
        sinks, other = [HistorySink(url), HistorySink(url)], await connect(url, "test")
        for partition, sink in enumerate(sinks):
            await sink.start()
            await sink.positions([partition])
        await sinks[0].take([opened[0]])
        await sinks[0].flush()
        await sinks[0].flush()  # it knows of no early credit now, and joins none
        await sinks[1].take([opened[1], credit])
        await sinks[1].flush()
        await sinks[0].take([debit])
        await sinks[0].flush()
        await asyncio.sleep(0.5)
        async with other.transaction():
            await clear(other, [0])
            joining = asyncio.create_task(sinks[1].flush())
            await asyncio.wait((joining,), timeout=0.5)
            assert not joining.done()
        await joining
        for sink in sinks:
            await sink.close()
        await other.close()

    asyncio.run(main())
    run(url, [opened[0], debit])
    (transfer,) = rows_of(url, "SELECT status FROM transfers WHERE payer = 'alice'")
    assert transfer["status"] == "success"
    assert rows_of(url, "SELECT FROM early_credits") == []


@pytest.mark.parametrize("where", ["between statements", "within a copy"])
@pytest.mark.parametrize("waiting", ["rebuild", "follower"])
def test_g9_who_stops_in_the_middle_of_a_write_keeps_no_other_waiting(
    url: str, where: str, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was stopped kept its locks: no other could take over its partitions, and no rebuild began."""
    monkeypatch.setattr(session, "IDLE_S_MAX", 1.0)
    monkeypatch.setattr(clearing, "LOOK_S", 0.5)
    chains = Chains()
    first = chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD")
    stopped = asyncio.Event()
    said: list[str] = []

    async def stop(*_: Any) -> None:
        stopped.set()
        await asyncio.Event().wait()

    async def stopping_rows(*_: Any) -> tuple[Any, list[Any]]:
        async def none() -> AsyncIterator[tuple[Any, ...]]:
            await stop()
            yield ()

        return none(), []

    async def main() -> None:
        slow, other = HistorySink(url), await connect(url, "test")
        await slow.start()
        await slow.positions((0, 1))
        with monkeypatch.context() as patched:
            if where == "within a copy":
                patched.setattr(sink_module, "_rows", stopping_rows)
            else:
                patched.setattr(Matched, "write", stop)
            await slow.take([first])
            await stopped.wait()
        async with asyncio.timeout(20):
            if waiting == "rebuild":
                await clear_telling(other, [0], url, said.append)
            else:
                await run_sink(url, [first])
        await slow.close()
        await other.close()

    asyncio.run(main())
    if waiting == "rebuild":
        assert "(wallet-engine follow, from " in said[0]
        run(url, [first])
    assert len(rows_of(url, "SELECT FROM postings WHERE account = 'alice'")) == 2


def test_a_rebuild_that_waits_for_another_program_says_for_whom_and_ends(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clearing, "LOOK_S", 0.1)
    monkeypatch.setattr(clearing, "HELD_S_MAX", 0)
    chains = Chains()
    run(url, [chains.add(0, "o - alice - 0 USD")])

    async def main() -> None:
        holding, connection = await connect(url, "somebody's psql"), await connect(url, "test")
        async with holding.transaction():
            await holding.execute("SELECT FROM postings FOR UPDATE")
            with pytest.raises(Outage, match=r"nothing was deleted.*somebody's psql, from"):
                await clear_telling(connection, [0], url, lambda _: None)
        await holding.close()

    asyncio.run(main())
    assert len(rows_of(url, "SELECT FROM postings")) == 1


def test_what_is_made_anew_is_not_taken_for_damage(url: str) -> None:
    """The sink said that an account was never opened, when its rows had just been deleted for a rebuild."""
    chains = Chains()
    opened = chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD")
    run(url, [opened])
    paid = chains.add(0, f"t {T[1]} alice @fees 200 USD")

    async def main() -> None:
        sink, other = HistorySink(url), await connect(url, "test")
        await sink.start()
        await sink.positions((0, 1))
        await clear(other, [0])
        with pytest.raises(TakenOver):
            await sink.take([paid])
        await sink.positions((0, 1))
        with pytest.raises(Corruption, match="never opened"):
            await sink.take([paid])
        await sink.close()
        await other.close()

    asyncio.run(main())


def test_who_was_overtaken_writes_nothing(url: str) -> None:
    chains = Chains()
    first = chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD")

    async def main() -> None:
        slow, quick = HistorySink(url), HistorySink(url)
        for sink in (slow, quick):
            await sink.start()
            await sink.positions([0])
        await quick.take([first])
        await quick.flush()
        await slow.take([first])
        with pytest.raises(TakenOver):
            await slow.flush()
        await slow.close()
        await quick.close()

    asyncio.run(main())
    assert len(rows_of(url, "SELECT * FROM postings WHERE account = 'alice'")) == 2


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_journals_end_as_the_oracle_says(
    url: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries come in random batches, and the sink is closed in the middle of some."""
    _take_any_id(monkeypatch)
    chance = random.Random(seed)
    journal = RandomJournal(tmp_path / "journal", seed, partitions=1)
    journal.grow(150)
    states = {p: PartitionState() for p in range(1)}
    entries: list[FeedEntry] = []

    async def main() -> None:
        feed = DirectoryFeed(journal.directory, ends=True)
        async for page in feed.follow(partitions_from_start(range(1))):
            entries.extend(page)
        sink = HistorySink(url)
        while True:
            await sink.close()
            await sink.start()
            positions = await sink.positions(range(1))
            rest = [entry for entry in entries if entry.seq > positions[entry.partition].seq]
            if not rest:
                break
            while rest:
                count = chance.randrange(1, 20)
                await sink.take(rest[:count])
                rest = rest[count:]
                if chance.random() < 0.2:
                    break
            else:
                await sink.flush()
        await sink.close()

    asyncio.run(main())
    for entry in entries:
        apply_payload(states[entry.partition], entry.payload)
    check_last_postings(url, states, f"seed {seed}")
    doubled = "SELECT partition, seq, idx, leg FROM transfers GROUP BY 1, 2, 3, 4 HAVING count(*) > 1"
    assert rows_of(url, doubled) == []


def _take_any_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of random journals are too short for UUIDs: each is mapped to one."""
    texts: dict[str, str] = {}

    def uuid_of(text: str) -> uuid.UUID | None:
        found = uuid.uuid5(uuid.NAMESPACE_OID, text) if text else None
        texts[str(found)] = text
        return found

    for module in (rows, books, legs):
        monkeypatch.setattr(module, "uuid_of", uuid_of)
    for module in (books, ends):
        monkeypatch.setattr(module, "pack_transaction_id", texts.__getitem__)


def check_last_postings(url: str, states: dict[int, PartitionState], where: str) -> None:
    """Every account's last posting equals the oracle's figures."""
    query = """
        SELECT DISTINCT ON (partition, account, currency) partition, account, currency, balance, held, pending
        FROM postings ORDER BY partition, account, currency, at DESC, seq DESC, idx DESC, sub DESC
    """
    found = {
        (row["partition"], row["account"], row["currency"]): (row["balance"], row["held"], row["pending"])
        for row in rows_of(url, query)
    }
    expected: dict[Any, Any] = {}
    for partition, state in states.items():
        for currency, book in state.balances.items():
            for account, available in book.items():
                if account != TRANSIT:
                    held = state.held.get(currency, {}).get(account, 0)
                    pending = state.pending.get(currency, {}).get(account, 0)
                    expected[partition, account, currency] = (available + held, held, pending)
    assert found == expected, where


def test_a_batch_is_on_its_way_while_the_next_is_folded(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chains = Chains()
    opened = [chains.add(0, "o - alice - 0 USD", "o - bob - 0 USD", f"t {T[0]} @bank alice 500 USD")]
    paid = [chains.add(0, f"t {'A' * 20}{n:02} alice bob 1 USD") for n in range(PIECE_MAX + 10)]
    begun: list[int] = []
    under_way: list[bool] = []
    write, fold = HistorySink._write, sink_module.fold

    async def written(sink: HistorySink, connection: Any, *words: Any) -> None:
        begun.append(1)
        await write(sink, connection, *words)

    def folded(partition: int, entry: Any, *words: Any) -> None:
        fold(partition, entry, *words)
        under_way.append(bool(begun))

    monkeypatch.setattr(HistorySink, "_write", written)
    monkeypatch.setattr(sink_module, "fold", folded)
    run(url, opened, paid)
    assert under_way[: len(opened)] == [False]
    assert under_way[-1]
    assert len(rows_of(url, "SELECT FROM transfers WHERE receiver = 'bob'")) == len(paid)


def test_a_batch_is_made_rows_of_while_the_one_before_it_is_written(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains = Chains()
    opened = [chains.add(0, "o - alice - 0 USD", "o - bob - 0 USD", f"t {T[0]} @bank alice 500 USD")]
    paid = [chains.add(0, f"t {T[1]} alice bob 1 USD")]
    write, transfer_row = HistorySink._write, sink_module.transfer_row
    made: list[str] = []
    begun: list[bool] = []

    async def written(sink: HistorySink, connection: Any, *words: Any) -> None:
        begun.append(True)
        async with asyncio.timeout(10.0):
            while len(begun) == 1 and "bob" not in made:
                await asyncio.sleep(0.01)
        await write(sink, connection, *words)

    def noted(transfer: Any, *words: Any) -> Any:
        made.append(transfer.receiver)
        return transfer_row(transfer, *words)

    monkeypatch.setattr(HistorySink, "_write", written)
    monkeypatch.setattr(sink_module, "transfer_row", noted)
    run(url, opened, paid)
    assert made == ["alice", "bob"]
    assert len(rows_of(url, "SELECT FROM transfers")) == 2


def test_what_ends_later_is_found_by_its_key_whatever_is_known_of_the_tables(url: str) -> None:
    """PostgreSQL plans a frequent statement once, while tables are small: the plan must not read whole tables."""
    chains = Chains()
    opened = [
        chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD"),
        chains.add(1, "o - bob - 0 USD"),
    ]
    batches = []
    for n in range(12):
        debit = chains.add(0, f"d {'A' * 20}{n:02} alice bob 1 USD")
        batches += [[debit], [chains.add(1, f"c 0.{debit.seq} bob 0 1 USD")]]
    run(url, opened, *batches)
    assert len(rows_of(url, "SELECT FROM transfers WHERE payer = 'alice' AND status = 'success'")) == 12

    async def read_whole(connection: Any) -> int:
        async with asyncio.timeout(20.0):
            while True:
                added, read = await connection.fetchrow(
                    "SELECT sum(n_tup_ins), sum(seq_tup_read) FROM pg_stat_user_tables "
                    "WHERE relname ~ '^(transfers|postings)_'"
                )
                if added >= 13 + 2 + 2 + 24:
                    return int(read)
                await asyncio.sleep(0.1)

    # Only the rows that this test itself has read, to count them.
    assert asked(url, read_whole) <= 13


@pytest.mark.parametrize(("age_s", "waits"), [(0, "on"), (3600, "off")])
def test_a_commit_waits_for_the_disk_unless_old_entries_are_caught_up_with(
    url: str, monkeypatch: pytest.MonkeyPatch, age_s: int, waits: str
) -> None:
    """In both cases an entry is on disk once the sink says so: by then the server has flushed its log beyond it."""
    chains = Chains()
    entry = chains.add(0, "o - alice - 0 USD")
    monkeypatch.setattr(sink_module.time, "time", lambda: entry.time_ms / 1000 + age_s)
    said: list[str] = []
    write = Matched.write

    #: Where the commit begins in the server's log; others may write to it behind that.
    rows_end: list[str] = []

    async def noted(ends: Matched, connection: Any) -> None:
        said.append(await connection.fetchval("SHOW synchronous_commit"))
        await write(ends, connection)
        rows_end.append(await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text"))

    monkeypatch.setattr(Matched, "write", noted)

    async def main() -> bool:
        looking, sink = await connect(url, "test"), HistorySink(url)
        try:
            await sink.start()
            await sink.positions([0])
            await sink.take([entry])
            await sink.flush()
            return bool(
                await looking.fetchval("SELECT pg_current_wal_flush_lsn() > $1::text::pg_lsn", rows_end[-1])
            )
        finally:
            await looking.close()
            await sink.close()

    assert asyncio.run(main())
    assert said == [waits]


def test_g10_holds_that_ended_do_not_stay_in_memory(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only accounts counted towards the limit, so the memory of a follower grew with every hold."""
    monkeypatch.setattr(sink_module, "RECORDS_MAX", 20)
    chains = Chains()
    batches = [[chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD")]]
    for number in range(30):
        ids = [f"{number * 4 + some:020d}AA" for some in range(4)]
        placed = [f"h {id_} alice -|60000 1 USD" for id_ in ids]
        batches.append([chains.add(0, *placed), chains.add(0, *(f"v {id_} alice - 0 USD" for id_ in ids))])

    async def main() -> list[int]:
        sink, sizes = HistorySink(url), []
        await sink.start()
        await sink.positions((0,))
        for batch in batches:
            await sink.take(batch)
            sizes.append(len(sink._books.of(0).holds))
        await sink.flush()
        await sink.close()
        return sizes

    assert max(asyncio.run(main())) <= 20 + 4
    assert rows_of(url, "SELECT status, count(*) FROM holds GROUP BY status") == [
        {"status": "V", "count": 120}
    ]


def test_a_balance_of_a_moment_is_told_once_the_moment_is_over(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another entry of the same millisecond may follow: the balance of that time was told, and then another one."""
    monkeypatch.setattr(reader, "BEHIND_S_MAX", 0.0)
    chains = Chains()
    entry = chains.add(0, "o - alice - 0 USD", f"t {T[0]} @bank alice 500 USD")
    homes = Homes(1)
    run(url, [entry], partitions=(0,))

    async def main() -> None:
        history = HistoryReader(url, homes)
        with pytest.raises(Behind):
            await history.balance_at("alice", "USD", entry.time_ms, ())
        rows, _ = await history.balance_at("alice", "USD", entry.time_ms - 1, ())
        assert rows == []
        sink = HistorySink(url)
        await sink.start()
        await sink.positions((0,))
        await sink.caught_up((0,), entry.time_ms + 1)
        await sink.close()
        ((row,), _) = await history.balance_at("alice", "USD", entry.time_ms, ())
        assert row["balance"] == 500
        await history.close()

    asyncio.run(main())


async def told(url: str, ask: Callable[[HistoryReader], Awaitable[Any]], partitions: int = 2) -> Any:
    """What `ask` returns for a reader."""
    history = HistoryReader(url, Homes(partitions))
    try:
        return await ask(history)
    finally:
        await history.close()


def caught_up(url: str, partitions: Sequence[int], at_ms: int) -> None:
    async def main() -> None:
        sink = HistorySink(url)
        await sink.start()
        await sink.positions(partitions)
        await sink.caught_up(partitions, at_ms)
        await sink.close()

    asyncio.run(main())


#: Accounts of partitions 0 and 1 of two.
HERE, THERE = (next(n for n in map(str, range(100)) if Homes(2).of(n) == p) for p in (0, 1))


@pytest.mark.parametrize("ascending", [False, True])
def test_g14_what_a_page_leaves_out_is_behind_its_as_of(url: str, ascending: bool) -> None:
    """A credit whose debit is not here yet is not listed; until then the answer is complete, and no longer."""
    chains = Chains()
    debit = chains.add(
        0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD", f"d {T[1]} {HERE} {THERE} 100 USD"
    )
    opened = chains.add(1, f"o - {THERE} - 0 USD", f"t {T[2]} @bank {THERE} 500 USD")
    credit = chains.add(1, f"c 0.{debit.seq} {THERE} 2 100 USD")
    run(url, [opened, credit], partitions=(1,))
    caught_up(url, (1,), credit.time_ms + 5_000)
    asked_for = Listing(THERE, types=TYPES, ascending=ascending)
    page = asyncio.run(told(url, lambda history: history.transactions(asked_for, ())))
    assert [row["seq"] for row in page.rows] == [1]
    assert opened.time_ms <= page.as_of.at_ms < credit.time_ms
    run(url, [debit], partitions=(0,))
    page = asyncio.run(told(url, lambda history: history.transactions(asked_for, ())))
    assert (len(page.rows), page.as_of.at_ms) == (2, credit.time_ms + 5_000)


async def by_reference(history: HistoryReader, after: tuple[int, ...] | None) -> Page:
    return await history.transfers("rent", None, None, 2, after, ())


async def of_a_system_account(history: HistoryReader, after: tuple[int, ...] | None) -> Page:
    page = await history.transactions(Listing("@bank", types=TYPES, limit=2, after=after), ())
    assert page is not None
    return page


@pytest.mark.parametrize("ask", [by_reference, of_a_system_account])
@pytest.mark.parametrize("waits", [False, True])
def test_a_walk_over_several_partitions_misses_no_row_that_comes_in_later(
    url: str, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Awaitable[Page]], waits: bool
) -> None:
    """Between two pages a row came into the first one, from a partition that was behind: it was on no page."""
    monkeypatch.setattr(reader, "LATE_MS_MAX", 10**15)
    monkeypatch.setattr(reader, "BEHIND_S_MAX", 10.0 if waits else 0.0)
    chains, opened = Chains(), {}
    for partition, account in ((0, HERE), (1, THERE)):
        opened[partition] = chains.add(partition, f"o - {account} - 0 USD")
    accounts = [HERE, HERE, THERE, HERE]
    paid = [
        chains.add(number == 2, f't {T[number]} @bank {account} 500 USD {{"ref":"rent"}}')
        for number, account in enumerate(accounts)
    ]
    (late,) = (entry for entry in paid if entry.partition == 1)
    run(url, [entry for entry in (*opened.values(), *paid) if entry is not late])
    caught_up(url, (0,), paid[-1].time_ms + 1_000)
    caught_up(url, (1,), late.time_ms)

    async def comes_in() -> None:
        sink = HistorySink(url)
        await sink.start()
        await sink.positions((0, 1))
        await sink.take([late])
        await sink.flush()
        await sink.caught_up((0, 1), paid[-1].time_ms + 1_000)
        await sink.close()

    async def walk(history: HistoryReader) -> list[int]:
        coming = asyncio.create_task(comes_in()) if waits else None
        page = await ask(history, None)
        assert waits or page.as_of.at_ms == late.time_ms
        await (coming or comes_in())
        times = [ms_of(row["at"]) for row in page.rows]
        while page.more:
            place = ("partition", "seq", "idx", "leg" if ask is by_reference else "sub")
            page = await ask(history, (times[-1], *(page.rows[-1][name] for name in place)))
            times += [ms_of(row["at"]) for row in page.rows]
        return times

    times = asyncio.run(told(url, walk))
    all_times = [entry.time_ms for entry in reversed(paid)]
    assert times == all_times[all_times.index(times[0]) :]
    assert len(times) == (4 if waits else 2)


def test_a_partition_far_behind_keeps_the_rows_of_others_from_no_page(url: str) -> None:
    chains = Chains()
    entries = [chains.add(0, f"o - {HERE} - 0 USD")]
    entries += [chains.add(0, f't {T[n]} @bank {HERE} 500 USD {{"ref":"rent"}}') for n in range(3)]
    run(url, entries, partitions=(0,))
    for ask in (by_reference, of_a_system_account):
        page = asyncio.run(told(url, lambda history, ask=ask: ask(history, None)))  # type: ignore[misc]
        assert (page.rows[0]["seq"], page.more, page.as_of.at_ms) == (4, True, 0)


def test_g14_partitions_that_nobody_follows_are_not_complete(url: str) -> None:
    chains = Chains()
    entry = chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")
    run(url, [entry], partitions=(0,))

    async def as_of(history: HistoryReader) -> int:
        page = await history.transactions(Listing("@bank", types=TYPES), ())
        assert page is not None
        return page.as_of.at_ms

    assert asyncio.run(told(url, as_of)) == 0
    run(url, partitions=(1,))
    caught_up(url, (1,), entry.time_ms + 1)
    assert asyncio.run(told(url, as_of)) == entry.time_ms


def test_a_statement_of_a_period_that_is_over_has_all_of_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement could lack the last second of its month, and the next one began with another balance."""
    monkeypatch.setattr(reader, "PERIOD_S_MAX", 0.0)
    chains = Chains()
    entry = chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")
    run(url, [entry], partitions=(0, 1))

    async def closing(history: HistoryReader) -> int:
        async with history.statement(HERE, "USD", None, entry.time_ms + 1_000, ()) as statement:
            assert statement is not None
            rows = [row async for some in statement.lines() for row in some]
            return statement.opening_minor + sum(row["delta"] for row in rows)

    with pytest.raises(Behind):
        asyncio.run(told(url, closing))
    caught_up(url, (0,), entry.time_ms + 1_000)
    assert asyncio.run(told(url, closing)) == 500


def test_a_statement_of_a_period_that_is_over_says_who_paid(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the payer's partition was behind, a line had neither id nor counterparty, and a capture was a transfer."""
    monkeypatch.setattr(reader, "PERIOD_S_MAX", 0.0)
    chains, hold = Chains(), "B" * 21 + "A"
    field = transfer_field(HERE, hold)
    opened = chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")
    placed = chains.add(0, f"h {hold} {HERE} -|900000 400 USD")
    paid = chains.add(0, f"q {T[1]} {HERE} {THERE}|{field}|f|- 400 USD")
    credit = chains.add(1, f"o - {THERE} - 0 USD", f"c 0.{paid.seq} {THERE} 0 400 USD")
    run(url, [credit], partitions=(1,))
    caught_up(url, (1,), credit.time_ms + 10_000)

    async def lines(history: HistoryReader, from_ms: int, to_ms: int) -> list[tuple[str, str]]:
        async with history.statement(THERE, "USD", from_ms, to_ms, ()) as statement:
            assert statement is not None
            return [(row["type"], row["counterparty"]) async for some in statement.lines() for row in some]

    def told_of(from_ms: int, to_ms: int) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = asyncio.run(told(url, lambda history: lines(history, from_ms, to_ms)))
        return found

    at_ms = credit.time_ms
    with pytest.raises(Behind):
        told_of(at_ms, at_ms + 1)
    assert told_of(at_ms - 1, at_ms) == told_of(at_ms + 1, at_ms + 2) == []
    run(url, [opened, placed, paid], partitions=(0,))
    assert told_of(at_ms, at_ms + 1) == [("capture", HERE)]


def test_a_statement_begins_with_what_was_there_before_months_were_detached(url: str) -> None:
    chains = Chains()
    run(url, [chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")], partitions=(0, 1))
    later = "SELECT to_char(max(at) - interval '1 month', 'YYYY_MM') AS month FROM postings"
    month = rows_of(url, later)[0]["month"]
    asked(url, lambda c: make_months(c, {(int(month[:4]), int(month[5:]))}))
    asked(url, lambda c: c.execute("UPDATE postings SET at = at - interval '1 month'"))
    run(url, [chains.add(0, f"t {T[1]} {HERE} @fees 100 USD")], partitions=(0, 1))
    asked(url, lambda c: c.execute(f"ALTER TABLE postings DETACH PARTITION postings_{month}"))

    async def balances(history: HistoryReader) -> tuple[int, list[int]]:
        async with history.statement(HERE, "USD", None, None, ()) as statement:
            assert statement is not None
            rows = [row async for some in statement.lines() for row in some]
            return statement.opening_minor, [row["delta"] for row in rows]

    assert asyncio.run(told(url, balances)) == (500, [-100])


@pytest.mark.parametrize("account", [HERE, "@bank"])
def test_g14_the_past_of_detached_months_is_not_told(url: str, account: str) -> None:
    """A balance of then was that of no account, or 0 of a system account; a statement began with a later balance."""
    chains = Chains()
    first = [chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")]
    first.append(chains.add(1, f"o - {THERE} - 0 USD"))
    chains.ahead_ms = Counter({0: 40 * 86_400_000, 1: 40 * 86_400_000})
    later = [chains.add(0, f"t {T[1]} {HERE} @bank 100 USD"), chains.add(1, f"t {T[2]} @bank {THERE} 7 USD")]
    run(url, first, later)
    times = [entry.time_ms for entry in (*first, *later)]
    caught_up(url, (0, 1), times[-1] + 1_000)
    balance = {HERE: [500, 400], "@bank": [-500, -407]}[account]

    async def of_then(history: HistoryReader, at_ms: int) -> int:
        rows, _ = await history.balance_at(account, "USD", at_ms, ())
        return sum(row["balance"] for row in rows)

    async def opening(history: HistoryReader, from_ms: int | None) -> int:
        async with history.statement(account, "USD", from_ms, None, ()) as statement:
            assert statement is not None
            return statement.opening_minor

    def all_told(ask: Callable[..., Awaitable[int]], *at: int) -> list[int]:
        return [asyncio.run(told(url, lambda history, each=each: ask(history, each))) for each in at]

    assert all_told(of_then, times[0] - 1, times[1], times[3]) == [0, *balance]
    assert all_told(opening, times[0], times[2]) == [0, balance[0]]
    month = rows_of(url, "SELECT to_char(min(at), 'YYYY_MM') AS month FROM postings")[0]["month"]
    asked(url, lambda c: c.execute(f"ALTER TABLE postings DETACH PARTITION postings_{month}"))
    assert all_told(of_then, times[3]) == balance[1:]
    for ask in (of_then, opening):
        with pytest.raises(NotKept):
            all_told(ask, times[2] - 1)
    assert asyncio.run(told(url, lambda history: opening(history, None))) == balance[0]
    assert all_told(opening, times[3] + 1) == balance[1:]


def test_g9_who_reads_for_long_does_not_keep_a_new_month_from_being_written(url: str) -> None:
    """The table of a month was made under a lock for which readers had to end: a slow statement, a dump."""
    chains = Chains()
    run(url, [chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")])
    chains.ahead_ms[0] = 200 * 86_400_000
    later = chains.add(0, f"t {T[1]} {HERE} @fees 100 USD")

    async def main() -> None:
        reading, other = await connect(url, "a dump"), await connect(url, "another reader")
        async with reading.transaction():
            await reading.fetch("SELECT FROM postings, transfers, groups")
            async with asyncio.timeout(10):
                await run_sink(url, [later])
                assert await other.fetchval("SELECT count(*) FROM postings") == 5
        await reading.close()
        await other.close()

    asyncio.run(main())
    months = rows_of(
        url,
        "SELECT count(*) FROM pg_index JOIN pg_inherits ON inhrelid = indexrelid GROUP BY inhparent",
    )
    assert len({row["count"] for row in months}) == 1  # each index of the parent is in every month


def test_a_month_that_is_detached_is_named_before_it_is_written_again(url: str) -> None:
    """A rebuild deleted the rows of all months, and stopped at the first detached one with an error of PostgreSQL."""
    chains = Chains()
    entry = chains.add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD")
    run(url, [entry])
    asked(url, check_none_detached)
    (month,) = rows_of(url, "SELECT to_char(max(at), 'YYYY_MM') AS month FROM transfers")
    name = f"transfers_{month['month']}"
    asked(url, lambda c: c.execute(f"ALTER TABLE transfers DETACH PARTITION {name}"))
    with pytest.raises(ConfigError, match=f"detached .* drop {name}$"):
        asked(url, check_none_detached)
    asked(url, lambda c: clear(c, [0]))

    async def write_again() -> None:
        sink = HistorySink(url)
        try:
            await sink.start()
            await sink.positions((0, 1))
            await sink.take([entry])
            await sink.flush()
        finally:
            await sink.close()

    with pytest.raises(ConfigError, match=f"detached .* drop {name}$"):
        asyncio.run(write_again())
    asked(url, lambda c: c.execute(f"ALTER TABLE {name} RENAME TO kept"))
    asked(url, check_none_detached)
    run(url, [entry])
    assert len(rows_of(url, "SELECT FROM transfers")) == 1


@pytest.mark.parametrize("at_once", [False, True])
def test_an_undone_capture_is_not_of_a_later_hold_with_the_same_id(url: str, at_once: bool) -> None:
    """A sink that was started in between reads from its tables which entry has placed the hold.

    The earlier hold kept as captured what its receiver had refused.
    """
    chains, hold = Chains(), "B" * 21 + "A"  # as the tables give it back
    field = transfer_field("alice", hold)
    before = [
        chains.add(
            0, "o - alice - 0 USD", f"t {T[0]} @bank alice 1000 USD", f"h {hold} alice -|900000 400 USD"
        ),
        chains.add(0, f"q {T[2]} alice bob|{field}|p|150 150 USD", f"v {hold} alice - 0 USD"),
        chains.add(0, "n api - - 0 -", rotate=True),
        chains.add(0, f"h {hold} alice -|900000 300 USD", rotate=True),
    ]
    undone = [chains.add(0, f"u {T[2]} alice 2.0.c|{field} 150 USD")]
    if at_once:
        run(url, before + undone)
    else:
        run(url, before)
        run(url, undone)
    assert chains.states[0].held["USD"]["alice"] == 300
    newest = "SELECT balance, held FROM postings WHERE account = 'alice' ORDER BY seq DESC LIMIT 1"
    assert [tuple(row.values()) for row in rows_of(url, newest)] == [(1000, 300)]
    kept = "SELECT amount, captured, status, placed_seq FROM holds ORDER BY placed_at"
    counted = "SELECT released, captures, status FROM holds ORDER BY placed_at"
    assert [tuple(row.values()) for row in rows_of(url, counted)] == [(400, 0, "V"), (0, 0, "O")]
    assert [tuple(row.values()) for row in rows_of(url, kept)] == [(400, 0, "V", 1), (300, 0, "O", 4)]


@pytest.mark.parametrize("at_once", [False, True])
def test_a_refusal_before_an_account_was_opened_is_never_on_it(url: str, at_once: bool) -> None:
    """An account got the refusals before it was opened into its listing, if one batch had them and its opening."""
    chains = Chains()
    group = "mark:0:c:b0|alice|@fees|100|USD;"
    entries = [
        chains.add(0, f"t {T[0]} alice @fees 100 USD", f"m {T[1]} alice {group} 0 -"),
        chains.add(0, "o - alice - 0 USD"),
        chains.add(0, f"t {T[2]} alice @fees 100 USD"),
    ]
    assert [*entries[0].header.outcomes] == ["a", "a"]
    run(url, *([entries] if at_once else [[entry] for entry in entries]))
    found = rows_of(url, "SELECT seq, status FROM postings WHERE account = 'alice' ORDER BY seq")
    assert [tuple(row.values()) for row in found] == [(2, "success"), (3, "declined")]
    assert rows_of(url, "SELECT count(*) FROM transfers WHERE status = 'declined'") == [{"count": 3}]


def test_a_page_of_a_long_account_reads_no_more_than_the_page(url: str) -> None:
    """PostgreSQL's plan for all accounts sorted every row of the one with many, once it knew that most have few."""
    chains = Chains()
    run(url, [chains.add(0, f"o - {HERE} - 0 USD")])
    fill = """
    INSERT INTO postings (at, seq, delta, amount, balance, held, pending, origin_seq, origin_partition, partition,
        idx, sub, origin_idx, leg, transaction_id, account, currency, type, status, counterparty)
    SELECT timestamptz '2026-11-21' + n * interval '1 ms', n, 1, 1, n, 0, 0, n, 0, 0, 0, 0, 0, 0, gen_random_uuid(),
        CASE WHEN n % 2 = 0 THEN $1 ELSE 'once-' || n END, 'USD', 'transfer', 'success', 'somebody'
    FROM generate_series(1, 40000) AS n
    """
    asked(url, lambda c: c.execute(fill, HERE))
    asked(url, lambda c: c.execute("ANALYZE postings"))
    rows = "SELECT sum(idx_tup_fetch + seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname LIKE 'postings%'"

    async def listed(reader: HistoryReader) -> None:
        for _ in range(12):
            page = await reader.transactions(Listing(HERE, types=TYPES), ())
            assert page is not None
            assert len(page.rows) == 50

    before = asked(url, lambda c: c.fetchval(rows))
    asyncio.run(told(url, listed))
    time.sleep(1)  # until the session that ended has told its numbers
    assert 12 * 50 <= asked(url, lambda c: c.fetchval(rows)) - before < 12 * 100


def test_the_balances_of_a_system_account_are_found_without_reading_all_its_rows(url: str) -> None:
    """Of each partition the last posting was looked for in the rows of all: with a million of them, it took 15 s.

    A follower did that too before the first payment of a partition.
    """
    run(url, partitions=tuple(range(64)))
    fill = """
    INSERT INTO postings (at, seq, delta, amount, balance, held, pending, origin_seq, origin_partition, partition,
        idx, sub, origin_idx, leg, transaction_id, account, currency, type, status, counterparty)
    SELECT timestamptz '2026-11-21' + n * interval '1 ms', n, 1, 1, n, 0, 0, n, 0, 0, 0, 0, 0, 0, gen_random_uuid(),
        '@bank', 'USD', 'transfer', 'success', 'somebody' FROM generate_series(1, 20000) AS n
    """
    asked(url, lambda c: make_months(c, {(2026, 11)}))
    asked(url, lambda c: c.execute(fill))
    asked(url, lambda c: c.execute("ANALYZE postings"))
    at = datetime(2026, 11, 21, tzinfo=UTC) + timedelta(milliseconds=10_000)

    pages = "SELECT sum(pg_stat_get_xact_blocks_fetched(oid))::bigint FROM pg_class WHERE relname LIKE 'postings_2%'"

    async def edges(connection: Any) -> None:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for sign, balance in (("<=", 10_000), ("<", 9_999), (">=", 10_000)):
            async with connection.transaction():
                before = await connection.fetchval(pages)
                rows = await edge_postings(connection, "@bank", "USD", at, sign)
                assert [row["balance"] for row in rows] == [balance]
                assert await edge_postings(connection, "@bank", "EUR", at, sign) == []
                assert await connection.fetchval(pages) - before < 2 * 64 * 10

    asked(url, edges)

    async def follow_on() -> None:
        connection = await connect(url, "test", {**BY_KEY, "plan_cache_mode": "force_generic_plan"})
        async with connection.transaction():
            found, before = books.Books(), await connection.fetchval(pages)
            keys = {p: Wanted({("@bank", "USD"), ("@fees", "USD")}, set(), set()) for p in range(64)}
            await found.fill(connection, keys)
            assert found.of(0).standings["@bank", "USD"].balance == 20000
            assert found.of(63).standings == {}
            assert await connection.fetchval(pages) - before < 2 * 64 * 10
        await connection.close()

    asyncio.run(follow_on())
