"""The books of the partitions that a sink follows, filled from its own rows as entries ask for them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from wallet_engine.domain.entry import Entry
from wallet_engine.domain.ids import is_system, pack_transaction_id
from wallet_engine.history.book import AccountKey, Book, HoldKey, Standing, Wanted, wanted
from wallet_engine.history.rows import hold_of, uuid_of

#: Maximum accounts, holds and parts of groups in memory, in all books; above it the books are forgotten and read
#: again. Holds and parts that ended are forgotten only so.
RECORDS_MAX: Final = 1_000_000

_STANDINGS: Final = """
SELECT u.account, u.currency, u.partition, p.balance, p.held, p.pending
FROM unnest($1::text[], $2::text[], $3::integer[]) AS u (account, currency, partition)
CROSS JOIN LATERAL (
    SELECT balance, held, pending FROM postings
    WHERE account = u.account AND currency = u.currency AND partition = u.partition
    ORDER BY at DESC, partition DESC, seq DESC, idx DESC, sub DESC LIMIT 1
) AS p
"""
#: Of system accounts, by the index that has their partitions apart (as in `edges`): with the other one PostgreSQL would
#: read all rows of the account to find that a partition has none.
_STANDINGS_OF_SYSTEM: Final = """
SELECT u.account, u.currency, u.partition, p.balance, p.held, p.pending
FROM unnest($1::text[], $2::text[], $3::integer[]) AS u (account, currency, partition)
CROSS JOIN LATERAL (
    SELECT balance, held, pending FROM postings
    WHERE account = u.account AND left(account, 1) = '@' AND currency = u.currency
        AND partition >= u.partition AND (partition, at) <= (u.partition, timestamptz 'infinity')
    ORDER BY partition DESC, at DESC, seq DESC, idx DESC, sub DESC LIMIT 1
) AS p
"""
_HOLDS: Final = """
SELECT DISTINCT ON (h.account, h.hold_id) h.*
FROM unnest($1::text[], $2::uuid[]) AS u (account, hold_id)
JOIN holds AS h ON h.account = u.account AND h.hold_id = u.hold_id
ORDER BY h.account, h.hold_id, h.placed_at DESC
"""


class Books:
    """See the module."""

    def __init__(self) -> None:
        self._books: dict[int, Book] = {}

    def __repr__(self) -> str:
        return f"<Books partitions={len(self._books)} records={self.size()}>"

    def of(self, partition: int) -> Book:
        book = self._books.get(partition)
        if book is None:
            book = self._books[partition] = Book()
        return book

    def forget(self) -> None:
        """Forget the books: the tables are the truth again."""
        self._books.clear()

    def add_lacking(self, entries: Iterable[tuple[int, Entry]], lacking: dict[int, Wanted]) -> None:
        """Add to `lacking`, by partition, what these entries need and its book lacks."""
        for partition, entry in entries:
            into = lacking.get(partition)
            if into is None:
                into = lacking[partition] = Wanted(set(), set(), set())
            wanted(entry, self.of(partition), into)

    async def fill(self, connection: Any, lacking: Mapping[int, Wanted]) -> None:
        """Read what is lacking from the tables. Without a row, it never existed."""
        accounts = [(p, key) for p, w in lacking.items() for key in w.accounts]
        for query, of_system in ((_STANDINGS, False), (_STANDINGS_OF_SYSTEM, True)):
            keys = [(p, key) for p, key in accounts if is_system(key[0]) is of_system]
            await self._read_standings(connection, query, keys)
        await self._read_holds(connection, [(p, key) for p, w in lacking.items() for key in w.holds])
        await self._read_parts(connection, [(p, key) for p, w in lacking.items() for key in w.groups])

    def size(self) -> int:
        """Number of accounts, holds and parts of groups in memory."""
        books = self._books.values()
        return sum(len(book.standings) + len(book.holds) + len(book.prepared) for book in books)

    async def _read_standings(
        self, connection: Any, query: str, keys: Sequence[tuple[int, AccountKey]]
    ) -> None:
        if not keys:
            return
        columns = [key[0] for _, key in keys], [key[1] for _, key in keys], [p for p, _ in keys]
        for account, currency, partition, *amounts in await connection.fetch(query, *columns):
            self.of(partition).standings[account, currency] = Standing(*amounts)

    async def _read_holds(self, connection: Any, keys: Sequence[tuple[int, HoldKey]]) -> None:
        if not keys:
            return
        columns = [key[0] for _, key in keys], [uuid_of(key[1]) for _, key in keys]
        for row in await connection.fetch(_HOLDS, *columns):
            packed = pack_transaction_id(str(row["hold_id"]))
            self.of(row["partition"]).holds[row["account"], packed] = hold_of(row, packed)

    async def _read_parts(self, connection: Any, keys: Sequence[tuple[int, str]]) -> None:
        if not keys:
            return
        columns = [p for p, _ in keys], [key for _, key in keys]
        rows = await connection.fetch(
            "SELECT partition, part FROM group_parts "
            "WHERE (partition, part) IN (SELECT * FROM unnest($1::integer[], $2::text[]))",
            *columns,
        )
        found = {(row[0], row[1]) for row in rows}
        for partition, part in keys:
            self.of(partition).prepared[part] = (partition, part) in found
