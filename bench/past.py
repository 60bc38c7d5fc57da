"""Measures the history of a cluster for `bench history`: how fast it is written, its lag, and how fast it is read."""

import asyncio
import http.client
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from typing import Any, Final
from uuid import uuid4

import psutil

from bench.cluster import Cluster, ClusterFailed
from bench.commands.session import Session
from bench.latency import summary_ms
from bench.measure import Moment, usage
from bench.result import Document, Plan
from bench.runner import Prepared, measure, send_transfers
from bench.workload import CURRENCY, account_name
from wallet_engine.dev.postgresql import DATABASE, USER
from wallet_engine.history.clearing import clear
from wallet_engine.history.database import connected
from wallet_engine.history.reader import Behind, HistoryReader, Position
from wallet_engine.routing.homes import Homes

CAUGHT_UP_S_MAX: Final = 600.0
_POLL_S: Final = 0.02
#: Tasks that make a payment and wait until the history has it.
WATCHERS: Final = 4
PARTITIONS: Final = 64
LISTINGS: Final = 2_000
LISTED: Final = 50
_BIG: Final = "an-account-of-many-rows"
_FILL: Final = """
INSERT INTO postings (at, seq, delta, amount, balance, held, pending, origin_seq, origin_partition, partition, idx, sub,
    origin_idx, leg, transaction_id, account, currency, type, status, counterparty)
SELECT date_trunc('month', now()) + n * interval '1 ms', n, 1, 1, n, 0, 0, n, 0, 0, 0, 0, 0, 0, gen_random_uuid(),
    $1, 'USD', 'transfer', 'success', 'somebody-' || n % 1000
FROM generate_series(1, $2::integer) AS n
"""


class Past:
    """The history store of a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        database = next(process for process in cluster.state.processes if process.role == "database")
        password = (cluster.data_dir / "postgresql" / "password").read_text("utf-8").strip()
        self.url = f"postgresql://{USER}:{password}@{database.address}/{DATABASE}"
        self.reader = HistoryReader(self.url, Homes(PARTITIONS))
        self._cluster = cluster
        self._server = psutil.Process(database.pid)

    async def ask(self, question: Callable[[Any], Awaitable[Any]]) -> Any:
        """Call `question` with a new connection, and return its answer. Raises as `history.database.connected` does."""
        async with connected(self.url, "bench") as connection:
            return await question(connection)

    def cpu_s(self) -> float:
        """CPU seconds of PostgreSQL until now, including those of its processes that have ended."""
        found = 0.0
        for process in (self._server, *self._server.children()):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                found += times.user + times.system
                if process is self._server:
                    found += times.children_user + times.children_system
        return found

    def ends(self) -> dict[int, int]:
        """Partition -> its newest entry."""
        with self._cluster.places() as places:
            return {place.partition: int(place.client.hget(place.keys.meta, "seq") or 0) for place in places}

    async def caught_up(self, *, all_sinks: bool = False) -> None:
        """Return when the history has all entries that exist now. Raises `ClusterFailed` after `CAUGHT_UP_S_MAX`.

        `all_sinks`: the event log too, which the same follower writes.
        """
        ends = await asyncio.to_thread(self.ends)
        arguments = list(ends), list(ends.values()), all_sinks
        query = (
            "SELECT bool_and(p.seq >= u.seq) FROM unnest($1::integer[], $2::bigint[]) AS u (partition, seq) "
            "JOIN positions AS p ON p.partition = u.partition AND (p.sink = 'history' OR $3)"
        )
        deadline = time.monotonic() + CAUGHT_UP_S_MAX

        async def look(connection: Any) -> None:
            while not await connection.fetchval(query, *arguments):
                if time.monotonic() > deadline:
                    raise ClusterFailed(f"the history is behind after {CAUGHT_UP_S_MAX:.0f} s")
                await asyncio.sleep(_POLL_S)

        await self.ask(look)

    async def seen(self, position: Position) -> None:
        """Return when the history has this entry. Raises `Behind` after `CAUGHT_UP_S_MAX`."""
        deadline = time.monotonic() + CAUGHT_UP_S_MAX
        while True:
            try:
                return await self.reader.reach([position])
            except Behind:
                if time.monotonic() > deadline:
                    raise

    async def settle(self) -> None:
        """Let PostgreSQL do now what it does by itself in the minute after many rows were written."""
        await self.ask(lambda c: c.execute("VACUUM (ANALYZE)", timeout=None))

    async def size(self) -> int:
        return int(await self.ask(lambda c: c.fetchval("SELECT pg_database_size(current_database())")))

    async def count(self, table_name: str) -> int:
        return int(await self.ask(lambda c: c.fetchval(f"SELECT count(*) FROM {table_name}")))


async def growth_and_rebuild(
    bench: Session, cluster: Cluster, prepared: Prepared, past: Past, transfers: int
) -> Document:
    await past.caught_up()
    before = await past.size()
    plan = Plan("http", "uniform", 1000, 8, 1.0, 0.0, bench.seed())
    sent = await send_transfers(cluster, plan, prepared, transfers, bench.say)
    await past.caught_up()
    grown = await past.size() - before
    await past.caught_up(all_sinks=True)
    bench.say("making the history anew")
    roles = {"follower": cluster.pids()["follower"]}
    at_first, database_s = Moment.now(), past.cpu_s()
    await past.ask(lambda c: clear(c, range(PARTITIONS)))
    began_s = time.perf_counter()
    await past.caught_up()
    seconds = time.perf_counter() - began_s
    spent, database_s = usage(at_first, Moment.now(), roles), past.cpu_s() - database_s
    made, postings = await past.count("transfers"), await past.count("postings")
    bench.say(f"{made:,} transfers and {postings:,} postings in {seconds:.1f} s")
    return {
        "bytes_per_transfer": round(grown / sent, 1),
        "rebuild": {
            "transfers": made,
            "rows": made + postings,
            "seconds": round(seconds, 2),
            "transfers_per_s": round(made / seconds, 1),
            "rows_per_s": round((made + postings) / seconds, 1),
            "follower_us": round(spent.cpu_s["follower"] / made * 1e6, 2),
            "database_us": round(database_s / made * 1e6, 2),
        },
    }


async def lag(
    bench: Session, cluster: Cluster, prepared: Prepared, past: Past, rate: float, batch: int, seconds: float
) -> Document:
    lags: list[float] = []
    stop = asyncio.Event()
    host = cluster.api_addresses[0]
    watchers = [asyncio.create_task(_watch(past, host, lags, stop)) for _ in range(WATCHERS)]
    plan = Plan("http", "uniform", batch, max(8, 256 // batch), seconds, 2.0, bench.seed(), rate=rate / batch)
    try:
        load = (await measure(cluster, plan, prepared, bench.say)).document()
    finally:
        stop.set()
        await asyncio.gather(*watchers)
    return {"lag_ms": summary_ms(lags), "lag_samples": len(lags), "lag_rate": rate, "load": load}


async def _watch(past: Past, host: str, lags: list[float], stop: asyncio.Event) -> None:
    """Make a payment and wait until the history has it, again and again; the times go into `lags`."""
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        while not stop.is_set():
            position = await asyncio.to_thread(_pay, connection)
            began_s = time.perf_counter()
            await past.seen(position)
            lags.append(time.perf_counter() - began_s)
            await asyncio.sleep(0.05)


def _pay(connection: http.client.HTTPConnection) -> Position:
    body = {
        "from_account": account_name(0),
        "to_account": account_name(1),
        "amount": "0.01",
        "currency": CURRENCY,
        "transaction_id": str(uuid4()),
    }
    head = {"content-type": "application/json"}
    connection.request("POST", "/v1/wallet/balance_transfer", json.dumps(body), head)
    answer = connection.getresponse()
    answer.read()
    partition, _, seq = (answer.getheader("wallet-position") or "").partition(".")
    if not seq:
        raise ClusterFailed(f"a payment was answered {answer.status} without its position")
    return Position(int(partition), int(seq))


async def listing(bench: Session, cluster: Cluster, past: Past, rows: int) -> Document:
    bench.say(f"writing {rows:,} rows of one account")
    before = await past.size()
    await past.ask(lambda c: c.execute(_FILL, _BIG, rows, timeout=None))
    grown = await past.size() - before
    await past.ask(
        lambda c: c.execute(
            "INSERT INTO accounts (account, currency, partition, opened_at, changed_at) "
            "VALUES ($1, $2, 0, now(), now())",
            *(_BIG, "USD"),
        )
    )
    await past.ask(lambda c: c.execute("ANALYZE postings"))
    taken = await asyncio.to_thread(_list, cluster.api_addresses[0])
    return {"listing_ms": summary_ms(taken), "listed_rows": rows, "bytes_per_row": round(grown / rows, 1)}


def _list(host: str) -> list[float]:
    """Request a listing `LISTINGS` times: the seconds that each took, including the reading of its answer."""
    taken = []
    with closing(http.client.HTTPConnection(host, timeout=30)) as connection:
        for _ in range(LISTINGS):
            began_s = time.perf_counter()
            connection.request("GET", f"/v1/accounts/{_BIG}/transactions?limit={LISTED}")
            answer = connection.getresponse()
            body = answer.read()
            taken.append(time.perf_counter() - began_s)
            if answer.status != 200 or body.count(b"transaction_id") != LISTED:
                raise ClusterFailed(f"the listing was answered {answer.status}: {body[:200]!r}")
    return taken
