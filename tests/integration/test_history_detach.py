"""Months of the history are detached: who pays later, who asks about the past, and what is verified or made anew."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from integration.test_history_sink import HERE, THERE, Chains, T, caught_up, run, told
from support.databases import asked, rows_of
from unit.admin.made import admin, answer, make_map

from wallet_engine.admin.proof import history as proof
from wallet_engine.admin.proof.history import HistoryVerdict, compare, read_rows
from wallet_engine.domain.errors import ConfigError, Outage
from wallet_engine.history import detaching, reader
from wallet_engine.history.clearing import check_whole, clear
from wallet_engine.history.database import MONTHLY, attached_months, connect, migrate, ms_of
from wallet_engine.history.detaching import Detached, Month, detach
from wallet_engine.history.edges import NotKept, opening_of
from wallet_engine.history.reader import HistoryReader
from wallet_engine.journal import JournalWriter
from wallet_engine.journal.feed import FeedEntry

MONTH: Final = Month(2026, 11)
NEXT_MS: Final = ms_of(MONTH.next.begin)
DAY_MS: Final = 86_400_000


@pytest.fixture
def url(history_url: str) -> str:
    asked(history_url, migrate)
    return history_url


class Past:
    """Accounts of two partitions pay in November; in December others do."""

    def __init__(self, url: str, *more: tuple[int, str]) -> None:
        """`more`: partition and operation of further entries in November."""
        self.url, self.chains = url, Chains()
        add = self.chains.add
        self.november = [
            add(0, f"o - {HERE} - 0 USD", f"t {T[0]} @bank {HERE} 500 USD"),
            add(1, f"o - {THERE} - 0 USD", f"t {T[1]} @bank {THERE} 70 USD"),
            add(0, f"d {T[2]} {HERE} {THERE} 100 USD"),
            add(1, f"c 0.2 {THERE} 0 100 USD"),
            add(0, f"t {T[6]} {HERE} @fees 5 USD", f"t {T[7]} @fees {HERE} 5 USD"),
            *(add(partition, line) for partition, line in more),
        ]
        self.chains.ahead_ms += Counter({0: 31 * DAY_MS, 1: 31 * DAY_MS})
        self.december = [add(p, f"o - other{p} - 0 USD") for p in (0, 1)]
        self.later: list[FeedEntry] = []

    @property
    def entries(self) -> Sequence[FeedEntry]:
        return [*self.november, *self.december, *self.later]

    def pay(self) -> None:
        """All who paid in November pay again."""
        add = self.chains.add
        later = [
            add(0, f"d {T[3]} {HERE} {THERE} 10 USD"),
            add(1, f"c 0.{self.chains.states[0].seq} {THERE} 0 10 USD", f"t {T[4]} @bank {THERE} 1 USD"),
        ]
        run(self.url, later)
        self.later += later

    def detach(self, month: Month = MONTH) -> Detached:
        done: Detached = asked(self.url, lambda c: detach(c, month, 2, lambda _: None))
        return done

    def verified(self, directory: Path) -> HistoryVerdict:
        with closing(JournalWriter(directory, "j1")) as writer:
            for entry in self.entries:
                writer.append(entry.partition, entry.payload, entry.header)
            writer.sync()
        return compare(asyncio.run(read_rows(self.url)), directory)


def attach(url: str, month: Month) -> None:
    for table in MONTHLY:
        bounds = f"FROM ('{month.begin}') TO ('{month.next.begin}')"
        query = f"ALTER TABLE {table} ATTACH PARTITION {month.of(table)} FOR VALUES {bounds}"
        asked(url, lambda c, query=query: c.execute(query))


async def of_then(history: HistoryReader, account: str, at_ms: int) -> int:
    rows, _ = await history.balance_at(account, "USD", at_ms, ())
    return sum(row["balance"] for row in rows)


async def statement(history: HistoryReader, account: str, from_ms: int | None) -> tuple[int, list[int]]:
    """The opening balance and the changes."""
    async with history.statement(account, "USD", from_ms, None, ()) as found:
        assert found is not None
        return found.opening_minor, [row["delta"] async for some in found.lines() for row in some]


async def _told_after_november(history: HistoryReader) -> None:
    for account, balance in {HERE: 400, THERE: 170, "@bank": -570, "@fees": 0}.items():
        assert await of_then(history, account, NEXT_MS) == balance
        for from_ms in (NEXT_MS, None):
            assert (await statement(history, account, from_ms))[0] == balance
        for ask in (of_then, statement):
            with pytest.raises(NotKept):
                await ask(history, account, NEXT_MS - 1)
    assert await statement(history, HERE, NEXT_MS + DAY_MS) == (400, [-10])


async def _told_of_all(history: HistoryReader) -> None:
    assert await statement(history, THERE, None) == (0, [70, 100, 10, 1])
    assert await of_then(history, "@bank", NEXT_MS - 1) == -570


def test_who_has_moved_in_detached_months_alone_goes_on(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The follower stopped at the payment: the account "was never opened". A part of @bank began with 0 again."""
    past = Past(url)
    run(url, past.entries)
    asyncio.run(told(url, lambda history: _detached_beside_readers(history, url, monkeypatch)))
    monkeypatch.setenv("WALLET_DATABASE", url)
    with closing(make_map(tmp_path / "map.json", 2)):
        words = "history", "detach", "2026-11", "--map-file", tmp_path / "map.json"
        assert answer(*words, "--dry-run") == {"dry_run": True, "plan": {"month": "2026-11"}}
        again = admin(*words, "--yes").stdout
    assert "2026-11: it was detached before; 0 balances were carried" in again
    left_out = ("postings 2026-11", "transfers 2026-11")
    assert past.verified(tmp_path / "before") == HistoryVerdict(6, 0, (), left_out=left_out)
    past.pay()
    assert past.verified(tmp_path / "after") == HistoryVerdict(6, 2, (), left_out=left_out)
    caught_up(url, (0, 1), past.later[-1].header.time_ms + DAY_MS)

    asyncio.run(told(url, _told_after_november))
    # December too, with what it got from November; and back again.
    past.chains.ahead_ms += Counter({0: 31 * DAY_MS, 1: 31 * DAY_MS})
    past.later += [past.chains.add(p, "n api - - 0 -") for p in (0, 1)]
    run(url, past.later[-2:])
    assert past.detach(MONTH.next).carried == 7
    first_ms = ms_of(MONTH.next.next.begin)
    assert asyncio.run(told(url, lambda history: statement(history, "@bank", first_ms))) == (-571, [])
    for month in (MONTH.next, MONTH):
        attach(url, month)
    assert past.verified(tmp_path / "attached") == HistoryVerdict(6, 7, ())
    asyncio.run(told(url, _told_of_all))


async def _detached_beside_readers(history: HistoryReader, url: str, patch: pytest.MonkeyPatch) -> None:
    """What had begun to read, and had not read its rows yet, lacked them. It is waited for."""
    patch.setattr(detaching, "LOCK_MS", 50)
    patch.setattr(detaching, "PAUSE_S", 0.01)
    said: list[str] = []
    connection = await connect(url, "test")

    def tried_before(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def reading(*asked: Any) -> Any:
            with patch.context() as briefly:
                briefly.setattr(detaching, "ATTEMPTS_S_MAX", 0.0)
                with pytest.raises(Outage, match=r"nothing was detached, because it waits for .*wallet-"):
                    await detach(connection, MONTH, 2, said.append)
            return await read(*asked)

        return reading

    with patch.context() as meanwhile:
        meanwhile.setattr(proof, "attached_months", tried_before(attached_months))
        assert len((await read_rows(url)).accounts) == 7
        meanwhile.setattr(reader, "opening_of", tried_before(opening_of))
        async with history.statement(HERE, "USD", None, None, ()) as found:
            assert found is not None
            task = asyncio.create_task(detach(connection, MONTH, 2, said.append))
            await asyncio.sleep(0.1)
            assert await history.balance_at(HERE, "USD", NEXT_MS, ())
            assert [row["delta"] async for some in found.lines() for row in some] == [500, -100, -5, 5]
    assert sum("it waits for" in line for line in said) >= 2
    names = tuple(sorted(map(MONTH.of, MONTHLY)))
    assert await task == Detached(5, names, names)
    await connection.close()


def test_a_month_that_was_detached_by_hand_is_carried_or_made_anew(url: str, tmp_path: Path) -> None:
    """The runbook told to do so, and nobody could see which accounts the follower would stop at.

    A partition made anew alone found no transfers for its credits of then: its `min_position` was 503 for ever.
    """
    past = Past(url)
    run(url, past.entries)
    for table in MONTHLY:
        asked(
            url, lambda c, table=table: c.execute(f"ALTER TABLE {table} DETACH PARTITION {MONTH.of(table)}")
        )
    differences = past.verified(tmp_path / "lost").differences
    assert [sum(name in line for line in differences) for name in (f"account {HERE} ", "@bank")] == [1, 2]
    assert "5 accounts moved in detached months alone" in differences[0]
    assert past.detach() == Detached(5, (), tuple(sorted(map(MONTH.of, MONTHLY))))
    past.pay()
    assert past.verified(tmp_path / "found").ok

    asked(url, lambda c: c.execute(f"DROP TABLE {', '.join(map(MONTH.of, MONTHLY))}"))
    with pytest.raises(ConfigError, match="the history has no tables of 2026-11"):
        past.detach()
    with pytest.raises(ConfigError, match="months before 2026-12 were detached"):
        asked(url, lambda c: check_whole(c, [1]))
    asked(url, lambda c: check_whole(c, [0, 1]))
    asked(url, lambda c: clear(c, [0, 1]))
    run(url, past.entries)
    assert past.verified(tmp_path / "anew") == HistoryVerdict(6, 7, ())
    assert rows_of(url, "SELECT FROM postings WHERE type = 'carried'") == []
    asked(url, lambda c: check_whole(c, [1]))


def test_a_month_that_is_not_over_or_not_the_oldest_or_in_use_stays(url: str) -> None:
    """What ended later found no transfer, and waited for it for ever."""
    leg = f"|{HERE}|{THERE}|1|USD;"
    past = Past(
        url,
        (0, f"d {T[3]} {HERE} {THERE} 1 USD"),
        (1, f"c 0.9 {THERE} 0 1 USD"),
        *((1, f"{kind} {T[4]} {HERE} mark:0:-:r0{leg} 0 -") for kind in "py"),  # its group is not there yet
        (1, f"p {T[5]} {HERE} mark:0:-:r0{leg} 0 -"),
        (0, f"g {T[5]} {HERE} mark:0:c:p0{leg} 0 -"),
    )

    def refused(why: str, month: Month = MONTH, partitions: int = 2) -> None:
        with pytest.raises(ConfigError, match=why):
            asked(url, lambda c: detach(c, month, partitions, lambda _: None))

    run(url, past.november)
    refused(r"until 2026-12-02 00:00 UTC: partitions 0, 1 are not")
    run(url, past.december[:1])
    refused("partitions 1 are not there yet")
    run(url, past.december[1:])
    refused("partitions 2 are not there yet", partitions=3)
    refused("2026-11 is older than 2026-12", MONTH.next)
    refused("4 transfers of 2026-11 have not ended")
    run(url, [past.chains.add(1, f"c 0.4 {THERE} 0 1 USD", f"y {T[5]} {HERE} mark:0:-:r0{leg} 0 -")])
    refused("2 transfers of 2026-11 have not ended")
    asked(url, lambda c: c.execute("INSERT INTO versions VALUES (999)"))
    refused("use the newer program")
    assert rows_of(url, "SELECT FROM postings WHERE type = 'carried'") == []
