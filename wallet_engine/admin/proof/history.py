"""Checks that the history agrees with the journal: every account's last posting, every count and every sum.

The journal is folded twice, up to the seqs of the history: the oracle gives the balances of accounts, the light fold
gives the rows that must exist. The history is read in one snapshot. Rows of months whose tables are detached are not
compared, and the months are named; the balance of every account is compared, because it was carried.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from wallet_engine.admin.proof.fold import JournalFold, Progress
from wallet_engine.domain.entry import Entry
from wallet_engine.domain.errors import ConfigError
from wallet_engine.domain.ids import TRANSIT
from wallet_engine.history.book import Book
from wallet_engine.history.database import ATTACHED_AS_SEEN, attached_months, check_version, connected
from wallet_engine.history.facts import PENDING, Facts, Origin
from wallet_engine.history.fold import fold
from wallet_engine.history.sink import SINK
from wallet_engine.journal.reader import ends_of

#: Differences of each kind that are reported in detail.
DIFFERENCES_MAX: Final = 100
#: Rows of accounts fetched at a time.
_FETCH: Final = 5_000
#: How long the followers may take to join a credit that came early with its transfer.
JOIN_S_MAX: Final = 5.0
_JOIN_POLL_S: Final = 0.1

#: partition, account, currency
AccountAt = tuple[int, str, str]
#: balance, held, pending, number of postings, sum of their changes
Account = tuple[int, int, int, int, int]
#: partition, type, status, currency
TransfersOf = tuple[int, str, str, str]

_ACCOUNTS: Final = """
SELECT DISTINCT ON (account, currency, partition)
    partition, account, currency, balance, held, pending,
    count(*) FILTER (WHERE type <> 'carried') OVER each AS postings, (sum(delta) OVER each)::bigint AS delta
FROM postings
WINDOW each AS (PARTITION BY account, currency, partition)
ORDER BY account, currency, partition, at DESC, seq DESC, idx DESC, sub DESC
"""
#: A transfer whose credit came early counts as paid: the followers join the two in a moment.
_TRANSFERS: Final = """
SELECT t.partition, t.type, CASE WHEN e.seq IS NULL THEN t.status ELSE 'success' END AS status, t.currency,
    count(*) AS transfers, sum(t.amount)::bigint AS amount
FROM transfers AS t LEFT JOIN early_credits AS e
    ON e.origin_partition = t.partition AND e.origin_seq = t.seq AND e.origin_idx = t.idx AND t.leg = 0
GROUP BY 1, 2, 3, 4
"""
_APART: Final = """
SELECT e.partition, e.seq, e.idx FROM transfers AS t JOIN early_credits AS e
    ON e.origin_partition = t.partition AND e.origin_seq = t.seq AND e.origin_idx = t.idx AND t.leg = 0
"""
_STILL_APART: Final = """
SELECT count(*) FROM early_credits AS e
JOIN unnest($1::integer[], $2::bigint[], $3::smallint[]) AS u (partition, seq, idx) USING (partition, seq, idx)
"""


@dataclass(slots=True)
class Rows:
    """The content of the tables: found, or expected."""

    accounts: dict[AccountAt, Account] = field(default_factory=dict)
    #: -> their number, and the sum of their amounts
    transfers: dict[TransfersOf, tuple[int, int]] = field(default_factory=dict)
    #: partition -> seq
    positions: dict[int, int] = field(default_factory=dict)
    #: (table, month such as 2026-11) of all that are there.
    months: set[tuple[str, str]] = field(default_factory=set)
    #: Transfers whose credit came early, and that no follower joins with it.
    apart: int = 0


@dataclass(frozen=True, slots=True)
class HistoryVerdict:
    """`differences` are lines to show to the user. `behind`: entries of the journal after the compared ones.

    `left_out`: months of tables that are detached, such as `postings 2026-11`.
    """

    accounts: int
    transfers: int
    differences: tuple[str, ...]
    behind: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.differences


async def read_rows(url: str) -> Rows:
    """The present content of the tables. Raises `HistoryUnavailable`; `ConfigError` for tables of another version."""
    rows = Rows()
    async with connected(url, "wallet-admin history verify") as connection:
        await check_version(connection)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute(ATTACHED_AS_SEEN)
            positions = await connection.fetch("SELECT * FROM positions WHERE sink = $1", SINK)
            rows.positions = {row["partition"]: row["seq"] for row in positions}
            rows.months = await attached_months(connection)
            cursor = await connection.cursor(_ACCOUNTS)
            while found := await cursor.fetch(_FETCH):
                for partition, account, currency, *amounts in found:
                    rows.accounts[partition, account, currency] = tuple(amounts)
            for *of, count, amount in await connection.fetch(_TRANSFERS):
                rows.transfers[tuple(of)] = (count, amount)
            apart = await connection.fetch(_APART)
        rows.apart = await _still_apart(connection, apart)
    return rows


async def _still_apart(connection: Any, credits: Sequence[Any]) -> int:
    """How many of these early credits no follower joins with their transfers within `JOIN_S_MAX`."""
    columns = [[each[number] for each in credits] for number in range(3)]
    deadline_s = time.monotonic() + JOIN_S_MAX
    left = len(credits)
    while left:
        left = await connection.fetchval(_STILL_APART, *columns)
        if time.monotonic() > deadline_s:
            break
        await asyncio.sleep(_JOIN_POLL_S)
    return left


def compare(rows: Rows, directory: Path, progress: Progress | None = None) -> HistoryVerdict:
    """Compare the tables with the journal in a directory. Raises `ConfigError` when that cannot be folded."""
    light = _Light(rows.months)
    expected, differences = _expected(directory, rows.positions, light, progress)
    ends = ends_of(directory)
    differences += [
        f"partition {partition}: the history has nothing and no position, the journal ends at {seq}"
        for partition, seq in sorted(ends.items())
        if partition not in rows.positions
    ]
    if rows.apart:
        differences.append(
            f"{rows.apart} transfers are pending, and their credits are here: no follower joins them"
        )
    lost = sum(account not in rows.accounts and not each[3] for account, each in expected.accounts.items())
    if lost:
        differences.append(
            f"{lost} accounts moved in detached months alone, and their balances were not carried: while the tables of "
            "these months are there, wallet-admin history detach MONTH does it"
        )
    differences += _named("account", expected.accounts, rows.accounts, _account_text)
    differences += _named("transfers", expected.transfers, rows.transfers, _transfers_text)
    count = sum(count for count, _ in rows.transfers.values())
    names = {(account, currency) for _, account, currency in rows.accounts}
    behind = sum(max(0, seq - rows.positions.get(partition, 0)) for partition, seq in ends.items())
    left_out = tuple(sorted(f"{table} {month}" for table, month in light.left_out))
    return HistoryVerdict(len(names), count, tuple(differences), behind, left_out)


def _expected(
    directory: Path, positions: Mapping[int, int], light: "_Light", progress: Progress | None
) -> tuple[Rows, list[str]]:
    journal = JournalFold(directory)
    end = {partition: seq for partition, seq in positions.items() if seq}
    journal.run(partitions=set(end), end=end, on_operations=light.entry, progress=progress)
    if not journal.sound:
        why = journal.damage or next(iter(journal.broken.values()))
        raise ConfigError(f"the journal itself is damaged, see wallet-admin verify --offline: {why}")
    differences = [
        f"partition {partition}: the history is at seq {seq}, the journal ends at {journal.seq(partition)}"
        for partition, seq in end.items()
        if journal.seq(partition) < seq
    ]
    rows = Rows(positions=dict(positions))
    for partition, state in journal.states.items():
        for currency, book in state.balances.items():
            for account, available in book.items():
                if account == TRANSIT:
                    continue
                key = (partition, account, currency)
                held, pending = (b.get(currency, {}).get(account, 0) for b in (state.held, state.pending))
                balance = available + held
                changed = balance - light.detached[key]
                rows.accounts[key] = (balance, held, pending, light.postings[key], changed)
    for origin, (of, amount) in light.begun.items():
        light.count(light.ended(origin, of), amount)
    rows.transfers = {key: (count, light.amounts[key]) for key, count in light.transfers.items()}
    return rows, differences


class _Light:
    """Counts the rows that must exist."""

    def __init__(self, months: Collection[tuple[str, str]]) -> None:
        """`months`: those of which the tables are there, as in `Rows`."""
        self._books: dict[int, Book] = {}
        self._months = months
        self.left_out: set[tuple[str, str]] = set()
        self.postings: Counter[AccountAt] = Counter()
        #: Sum of the changes that are in detached months.
        self.detached: Counter[AccountAt] = Counter()
        self.transfers: Counter[TransfersOf] = Counter()
        self.amounts: Counter[TransfersOf] = Counter()
        #: Transfers that their first entry left pending; and the status of each end seen before it.
        self.begun: dict[Origin, tuple[TransfersOf, int]] = {}
        self._ends: dict[Origin, str] = {}

    def count(self, key: TransfersOf, amount: int) -> None:
        self.transfers[key] += 1
        self.amounts[key] += amount

    def ended(self, origin: Origin, key: TransfersOf) -> TransfersOf:
        partition, type_, status, currency = key
        return partition, type_, self._ends.pop(origin, status), currency

    def entry(self, partition: int, entry: Entry) -> None:
        facts = Facts()
        fold(partition, entry, self._books.setdefault(partition, Book()), facts)
        is_there = self._is_there("postings", entry.header.time_ms, facts.postings)
        for posting in facts.postings:
            account = (partition, posting.account, posting.currency)
            if is_there:
                self.postings[account] += 1
            else:
                self.detached[account] += posting.delta
        is_there = self._is_there("transfers", entry.header.time_ms, facts.transfers)
        for transfer in facts.transfers if is_there else ():
            key = (partition, transfer.type, transfer.status, transfer.currency)
            if transfer.status == PENDING:
                self.begun[transfer.origin] = (key, transfer.amount_minor)
            else:
                self.count(key, transfer.amount_minor)
        for end in facts.ends:
            self._ends[end.origin] = end.status
            begun = self.begun.pop(end.origin, None)
            if begun is not None:
                self.count(self.ended(end.origin, begun[0]), begun[1])

    def _is_there(self, table: str, time_ms: int, rows: Sequence[Any]) -> bool:
        """Whether the table of the rows' month is there; else notes that they are left out."""
        month = (table, f"{datetime.fromtimestamp(time_ms // 1000, UTC):%Y-%m}")
        if rows and month not in self._months:
            self.left_out.add(month)
        return month in self._months


def _named(what: str, expected: Mapping[Any, Any], found: Mapping[Any, Any], text: Any) -> list[str]:
    different = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    lines = [
        f"{what} {text(key)}: the history has {found.get(key)}, the journal {expected.get(key)}"
        for key in different[:DIFFERENCES_MAX]
    ]
    if len(different) > DIFFERENCES_MAX:
        lines.append(f"and {len(different) - DIFFERENCES_MAX} more of {what}")
    return lines


def _account_text(key: AccountAt) -> str:
    partition, account, currency = key
    return f"{account} {currency} in partition {partition} (balance, held, pending, postings, their sum)"


def _transfers_text(key: TransfersOf) -> str:
    partition, type_, status, currency = key
    return f"{type_} {status} in {currency} of partition {partition} (count, sum)"
