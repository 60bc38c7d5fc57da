"""Opens and funds the accounts for a run, through an engine in this process. They are durable like all entries."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from typing import Final

from bench.cluster import Cluster, Say
from bench.workload import CURRENCY, account_name
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.ids import pack_transaction_id
from wallet_engine.domain.limits import AMOUNT_MINOR_MAX
from wallet_engine.domain.operation import Operation
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.engine.reads import Reader
from wallet_engine.routing.slots import partition_of
from wallet_engine.service.wallet import ClusterWallet
from wallet_engine.telemetry.metrics import Metrics

#: Accounts in a wave: each needs two operations, and a partition's queue is limited.
WAVE: Final = 20_000
WAVE_PER_PARTITION: Final = 2_000
#: Waves at the same time: one is prepared while the other is decided.
WAVES_OUT_MAX: Final = 2
WAVE_S_MAX: Final = 60.0
SAY_S: Final = 5.0
#: An account's money, minor units: enough for every run, and in sum within the limit of `@bank`.
FUNDS_MINOR: Final = 1_000_000_000
#: Money of the first account, which may pay all the others (`hot-sender`).
FUNDS_MINOR_HOT: Final = 1_000_000_000_000
CONNECT_S_MAX: Final = 20.0


class SetupFailed(Exception):
    """The accounts could not be made ready."""


def funds_of(number: int, accounts: int) -> int:
    """The initial balance of account `number`, minor units."""
    return FUNDS_MINOR_HOT if number == 0 else min(FUNDS_MINOR, AMOUNT_MINOR_MAX // 4 // accounts)


def funds_total(accounts: int) -> int:
    """The sum of all initial balances, minor units."""
    return funds_of(0, accounts) + (accounts - 1) * funds_of(1, accounts)


@contextlib.asynccontextmanager
async def engine_of(cluster: Cluster) -> AsyncIterator[tuple[Engine, ClusterWallet]]:
    """An engine in this process, connected and ready, as in an API process. Raises `SetupFailed`."""
    directory = await asyncio.to_thread(cluster.open_directory)
    engine = Engine(directory, Metrics())
    wallet = ClusterWallet(engine, Reader(engine))
    try:
        await engine.start()
        deadline = time.monotonic() + CONNECT_S_MAX
        while (readiness := wallet.readiness()).status != "ready":
            if time.monotonic() > deadline:
                raise SetupFailed(f"the engine is not ready after {CONNECT_S_MAX:.0f} s: {readiness.reason}")
            await asyncio.sleep(0.02)
        yield engine, wallet
    finally:
        await engine.close()
        await asyncio.to_thread(directory.close)


class _Wave:
    """Waits for many operations. Each must be applied, or have been applied before."""

    def __init__(self, size: int) -> None:
        self.remaining = size
        self.trouble: str | None = None
        self.done = asyncio.get_running_loop().create_future()

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        if outcome not in (Outcome.APPLIED, Outcome.REPEATED):
            self.trouble = f"an account could not be opened and funded: {outcome}"
        self._one()

    def failed(self, outage: Outage) -> None:
        self.trouble = f"an account could not be opened and funded: {outage}"
        self._one()

    def _one(self) -> None:
        self.remaining -= 1
        if self.remaining == 0 and not self.done.done():  # it is cancelled when the bench is stopped
            self.done.set_result(None)


class _Ids:
    """Random transaction ids, sorted by partition. The id decides which partition remembers a payment of `@bank`.

    Each account is paid with an id of its own partition, so that one journal entry can open and fund it.
    """

    def __init__(self, partitions: int) -> None:
        self._by_partition: list[list[str]] = [[] for _ in range(partitions)]

    def take(self, partition: int) -> str:
        ids = self._by_partition
        while not ids[partition]:
            transaction = fresh_transaction()
            ids[partition_of(transaction, len(ids))].append(transaction)
        return ids[partition].pop()


async def fund_accounts(engine: Engine, accounts: int, say: Say) -> None:
    """Open all accounts and fund each from `@bank`, in the engine's own batches. Raises `SetupFailed`."""
    partitions = engine.cluster.config.partitions
    size = min(WAVE, WAVE_PER_PARTITION * partitions)
    ids = _Ids(partitions)
    said_s = time.monotonic()
    waves: list[_Wave] = []
    for start in range(0, accounts, size):
        waves.append(_send(engine, range(start, min(start + size, accounts)), accounts, ids))
        if len(waves) == WAVES_OUT_MAX:
            await _finish(waves.pop(0))
        if time.monotonic() - said_s > SAY_S:
            said_s = time.monotonic()
            say(f"opened and funded {start:,} of {accounts:,} accounts")
    for wave in waves:
        await _finish(wave)


def _send(engine: Engine, numbers: range, accounts: int, ids: _Ids) -> _Wave:
    wave = _Wave(2 * len(numbers))
    issued_s = engine.now_s()
    for number in numbers:
        account = account_name(number)
        partition = partition_of(account, engine.cluster.config.partitions)
        funds = funds_of(number, accounts)
        try:
            engine.submit(partition, Operation("o", "-", account, "-", 0, CURRENCY), wave, issued_s)
            funding = Operation("t", ids.take(partition), "@bank", account, funds, CURRENCY)
            engine.submit(partition, funding, wave, issued_s)
        except Outage as outage:
            raise SetupFailed(f"an account could not be opened and funded: {outage}") from None
    return wave


async def _finish(wave: _Wave) -> None:
    try:
        async with asyncio.timeout(WAVE_S_MAX):
            await wave.done
    except TimeoutError:
        raise SetupFailed(f"{wave.remaining} operations did not end in {WAVE_S_MAX:.0f} s") from None
    if wave.trouble:
        raise SetupFailed(wave.trouble)


def fresh_transaction() -> str:
    """A random transaction id, packed as the engine does."""
    return pack_transaction_id(os.urandom(16).hex())
