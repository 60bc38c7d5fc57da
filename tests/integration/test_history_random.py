"""Two processes write the history of random entries, while partitions change hands, sinks die and parts are made anew.

Whatever comes in between, the tables are in the end what one process makes of the entries in one batch.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import pytest
from integration.test_history_sink import Chains
from support.databases import asked, fresh_database, rows_of

from wallet_engine.dev.postgresql import PostgresProcess
from wallet_engine.domain.memory import transfer_field
from wallet_engine.domain.notes import note_of
from wallet_engine.history.clearing import clear
from wallet_engine.history.database import HistoryUnavailable, connect, migrate
from wallet_engine.history.ends import TakenOver
from wallet_engine.history.sink import HistorySink
from wallet_engine.journal.feed import FeedEntry

PARTITIONS: Final = 3
NAMES: Final = [f"a{number}" for number in range(9)]
#: Changes of hands and rebuilds, and how long it may take to be whole again after the last.
DISTURBANCES: Final = 14
WHOLE_S_MAX: Final = 60.0
#: Shares of an operation's outcomes.
APPLIED, REPEATED = "+", "="
_TABLES: Final = (
    *("postings", "transfers", "groups", "holds", "accounts", "group_parts", "early_credits", "early_legs"),
)


def home(name: str) -> int:
    return int(name[1:]) % PARTITIONS


class RandomEntries:
    """Transfers, holds, captures, groups and refunds, some refused. What follows from one comes some time later."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.entries: list[FeedEntry] = []
        self._chains = Chains()
        self._ids = 0
        self._later: list[Callable[[], object]] = []
        self._holds: list[tuple[str, str]] = []
        #: Place, id, payer, receiver and amount of each transfer that came from another partition.
        self._received: list[tuple[str, str, str, str, int]] = []

    def make(self, count: int) -> Sequence[FeedEntry]:
        for partition in range(PARTITIONS):
            mine = [name for name in NAMES if home(name) == partition]
            self._add(partition, *(f"o - {name} - 0 USD" for name in mine))
            self._add(partition, *(f"t {self._id()} @bank {name} 10000 USD" for name in mine))
        steps = (self._transfer, self._transfer, self._hold, self._hold, self._capture, self._void)
        while len(self.entries) < count:
            if self._later and self.chance.random() < 0.5:
                self._later.pop(self.chance.randrange(len(self._later)))()
            else:
                self.chance.choice((*steps, self._group, self._group, self._refund))()
        return self.entries

    def _id(self) -> str:
        self._ids += 1
        return f"{self._ids:020d}AA"

    def _add(self, partition: int, *lines: str) -> str:
        """The outcomes; empty if nothing has an effect."""
        try:
            self.entries.append(self._chains.add(partition, *lines))
        except AssertionError:  # no entry is made of it
            return ""
        return self.entries[-1].header.outcomes

    def _place(self, idx: int) -> str:
        entry = self.entries[-1]
        return f"{entry.partition}.{entry.seq}.{idx}"

    def _transfer(self) -> None:
        payer, note = self.chance.choice(NAMES), note_of(f"reference {self._ids % 5}")
        receivers = [self.chance.choice([*NAMES, "a1000"]) for _ in range(self.chance.choice((1, 3)))]
        ids = [self._id() for _ in receivers]
        here = [name != "a1000" and home(name) == home(payer) for name in receivers]
        amounts = [self.chance.choice((1, 7, 10**7)) for _ in ids]
        rows = list(zip(ids, receivers, here, amounts, strict=True))
        lines = [
            f"{'t' if local else 'd'} {id_} {payer} {to} {minor} USD {note}" for id_, to, local, minor in rows
        ]
        if payer in receivers:
            return
        for idx, outcome in enumerate(self._add(home(payer), *lines)):
            if outcome == APPLIED and not here[idx]:
                self._credit("d", self._place(idx), ids[idx], payer, receivers[idx], amounts[idx])

    def _credit(
        self, kind: str, place: str, id_: str, payer: str, to: str, minor: int, field: str = ""
    ) -> None:
        """What follows from a debit: its credit later, and after that its return or the end of its hold."""
        partition, seq, idx = place.split(".")

        def credit() -> None:
            there = (int(partition) + 1) % PARTITIONS if to == "a1000" else home(to)
            outcome = self._add(there, f"c {partition}.{seq} {to} {idx} {minor} USD")
            if outcome == APPLIED and kind == "d":
                self._received.append((place, id_, payer, to, minor))
            elif outcome == APPLIED and kind == "q":
                self._later.append(
                    lambda: self._add(int(partition), f"l {id_} {payer} {seq}.{idx}|{field} 0 USD")
                )
            elif outcome not in ("", APPLIED, REPEATED) and kind != "z":
                back = f"{seq}.{idx}.{outcome}" + (f"|{field}" if kind == "q" else "")
                undo = f"{'u' if kind == 'q' else 'r'} {id_} {payer} {back} {minor} USD"
                self._later.append(lambda: self._add(int(partition), undo))

        self._later.append(credit)

    def _hold(self) -> None:
        account, id_ = self.chance.choice(NAMES), self._id()
        if self._add(home(account), f"h {id_} {account} -|900000 40 USD") == APPLIED:
            self._holds.append((account, id_))

    def _capture(self) -> None:
        if not self._holds:
            return
        (account, hold), id_ = self.chance.choice(self._holds), self._id()
        field, to = transfer_field(account, hold), self.chance.choice([*NAMES, "a1000"])
        local, share, minor = to != "a1000" and home(to) == home(account), self.chance.choice("fp"), 7
        if to == account:
            return
        line = f"{'k' if local else 'q'} {id_} {account} {to}|{field}|{share}|{minor} {minor} USD"
        if self._add(home(account), line) == APPLIED and not local:
            self._credit("q", self._place(0), id_, account, to, minor, field)

    def _void(self) -> None:
        if self._holds:
            account, hold = self.chance.choice(self._holds)
            self._add(home(account), f"v {hold} {account} - 0 USD")

    def _group(self) -> None:
        legs = [(*self.chance.sample(NAMES, 2), 5) for _ in range(self.chance.choice((1, 3, 5)))]
        payer, id_, note = legs[0][0], self._id(), note_of("wages", leg_references={"0": "first"})
        first, mark = home(payer), f"m{self._ids}"

        def words(partition: int, word: str) -> str:
            said = ""
            for idx, (of, to, minor) in enumerate(legs):
                role = {(True, True): "b", (True, False): "p", (False, True): "r"}.get(
                    (home(of) == partition, home(to) == partition), "n"
                )
                said += f"{role}{idx}|{of}|{to}|{minor}|USD;" if word != "-" or role != "n" else ""
            return f"{id_} {payer} {mark}:0:{word}:{said} 0 -"

        parts = sorted({home(name) for leg in legs for name in leg[:2]} - {first})
        ready = [self._add(part, f"p {words(part, '-')}") == APPLIED for part in parts]

        def decide() -> None:
            word = "c" if all(ready) and self.chance.random() < 0.8 else "a.0.i"
            outcome = self._add(
                first, f"g {words(first, word)} {note}" if parts else f"m {words(first, 'c')} {note}"
            )
            kind = "y" if outcome == APPLIED else "b"
            for part in parts:
                self._later.append(lambda part=part: self._add(part, f"{kind} {words(part, '-')}"))

        self._later.append(decide)

    def _refund(self) -> None:
        if not self._received:
            return
        place, original, payer, receiver, whole = self.chance.choice(self._received)
        id_, field = self._id(), transfer_field(payer, original)
        line = f"z {id_} {receiver} {payer}|{field}|{place}|c|{whole}|1 1 USD"
        if self._add(home(receiver), line) == APPLIED:
            self._credit("z", self._place(0), id_, receiver, payer, 1)


class Disturbed:
    """Two processes that write the entries."""

    def __init__(self, url: str, entries: Sequence[FeedEntry], chance: random.Random) -> None:
        self._url = url
        self._chance = chance
        self._of = {p: [entry for entry in entries if entry.partition == p] for p in range(PARTITIONS)}
        self._owners = [chance.randrange(2) for _ in range(PARTITIONS)]
        self._changed = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        writing = [asyncio.create_task(self._write(number)) for number in range(2)]
        disturbing = asyncio.create_task(self._disturb())
        await asyncio.wait((*writing, disturbing), return_when=asyncio.FIRST_COMPLETED)
        for task in (*writing, disturbing):
            task.cancel()
        await asyncio.gather(*writing, return_exceptions=True)
        await disturbing

    async def _write(self, number: int) -> None:
        """What a follower does; now and then its sink loses its connection."""
        sink = HistorySink(self._url)
        while True:
            try:
                with suppress(TakenOver, HistoryUnavailable, OSError):
                    await sink.start()
                    while True:
                        await self._write_own(sink, number)
            finally:
                await sink.close()

    async def _write_own(self, sink: HistorySink, number: int) -> None:
        changed = self._changed[number]
        changed.clear()
        mine = [p for p, owner in enumerate(self._owners) if owner == number]
        if not mine:
            await asyncio.wait_for(changed.wait(), WHOLE_S_MAX)
            return
        at = {p: position.seq for p, position in (await sink.positions(mine)).items()}
        while not changed.is_set():
            batch = []
            for _ in range(self._chance.choice((1, 1, 2, 5, 30))):
                if some := [p for p in mine if at[p] < len(self._of[p])]:
                    partition = self._chance.choice(some)
                    batch.append(self._of[partition][at[partition]])
                    at[partition] += 1
            if batch:
                await sink.take(batch)
            if not batch or self._chance.random() < 0.3:
                await sink.flush()
            if not batch or self._chance.random() < 0.05:
                await sink.caught_up(mine, 1)
                await asyncio.sleep(0.002)
            if self._chance.random() < 0.02:
                sink._open.close()
        await sink.flush()

    async def _disturb(self) -> None:
        """Returns once all is there again."""
        connection = await connect(self._url, "test")
        try:
            for _ in range(DISTURBANCES):
                await asyncio.sleep(0.4 * self._chance.random())
                if self._chance.random() < 0.5:
                    partition = self._chance.randrange(PARTITIONS)
                    self._owners[partition] = 1 - self._owners[partition]
                    for changed in self._changed:
                        changed.set()
                else:
                    await clear(
                        connection, self._chance.sample(range(PARTITIONS), self._chance.choice((1, 1, 2)))
                    )
            async with asyncio.timeout(WHOLE_S_MAX):
                while not await self._is_whole(connection):
                    await asyncio.sleep(0.2)
        finally:
            await connection.close()

    async def _is_whole(self, connection: Any) -> bool:
        rows = await connection.fetch("SELECT partition, seq FROM positions WHERE sink = 'history'")
        apart = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM early_credits AS e JOIN transfers AS t ON t.partition = e.origin_partition "
            "AND t.seq = e.origin_seq AND t.idx = e.origin_idx)"
        )
        return not apart and dict(rows) == {p: len(entries) for p, entries in self._of.items()}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "seed", [23, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(100, 120))]
)
def test_two_processes_and_rebuilds_make_what_one_makes(postgresql: PostgresProcess, seed: int) -> None:
    entries = RandomEntries(seed).make(400)
    urls = [fresh_database(postgresql) for _ in range(2)]
    for url in urls:
        asked(url, migrate)

    async def main() -> None:
        sink = HistorySink(urls[0])
        await sink.start()
        await sink.positions(range(PARTITIONS))
        await sink.take(entries)
        await sink.flush()
        await sink.close()
        await Disturbed(urls[1], entries, random.Random(seed)).run()

    asyncio.run(main())
    for table in _TABLES:
        one, two = (sorted(map(repr, rows_of(url, f"SELECT * FROM {table}"))) for url in urls)
        assert one == two, f"{table}, seed {seed}"
