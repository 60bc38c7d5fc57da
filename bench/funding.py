"""Accounts for a run: opened and funded through an engine in this process, durable like everything else."""

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
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine, now_ms
from wallet_engine.engine.reads import Reader
from wallet_engine.routing.slots import partition_of
from wallet_engine.service.wallet import ClusterWallet
from wallet_engine.telemetry.metrics import Metrics

#: Operations out at once while accounts are opened and funded.
WAVE: Final = 50_000
WAVE_S_MAX: Final = 60.0
_CALL: Final = 10_000
#: An account's money: enough for every run, and all accounts together within the limit of `@bank`.
FUNDS_MINOR: Final = 1_000_000_000
#: The first account is the hot one: it may pay for all the others.
FUNDS_MINOR_HOT: Final = 1_000_000_000_000
CONNECT_S_MAX: Final = 20.0


class SetupFailed(Exception):
    """The accounts could not be made ready."""


def funds_of(number: int, accounts: int) -> int:
    """What account `number` begins with, in minor units."""
    return FUNDS_MINOR_HOT if number == 0 else min(FUNDS_MINOR, AMOUNT_MINOR_MAX // 4 // accounts)


def funds_total(accounts: int) -> int:
    """What all of them begin with."""
    return funds_of(0, accounts) + (accounts - 1) * funds_of(1, accounts)


@contextlib.asynccontextmanager
async def engine_of(cluster: Cluster) -> AsyncIterator[tuple[Engine, ClusterWallet]]:
    """An engine in this process, connected and ready, as an API process has it."""
    directory = await asyncio.to_thread(cluster.open_directory)
    engine = Engine(directory, Metrics())
    wallet = ClusterWallet(engine, Reader(engine))
    try:
        await engine.start()
        deadline = time.monotonic() + CONNECT_S_MAX
        while not (readiness := wallet.readiness()).ready:
            if time.monotonic() > deadline:
                raise SetupFailed(f"the engine is not ready after {CONNECT_S_MAX:.0f} s: {readiness.reason}")
            await asyncio.sleep(0.02)
        yield engine, wallet
    finally:
        await engine.close()
        await asyncio.to_thread(directory.close)


class _Wave:
    """Waits for many `open_account` operations."""

    def __init__(self, size: int) -> None:
        self.remaining = size
        self.trouble: str | None = None
        self.done = asyncio.get_running_loop().create_future()

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        if outcome not in (Outcome.APPLIED, Outcome.REPEATED):
            self.trouble = f"an account could not be opened: {outcome}"
        self._one()

    def failed(self, outage: Outage) -> None:
        self.trouble = f"an account could not be opened: {outage}"
        self._one()

    def _one(self) -> None:
        self.remaining -= 1
        if self.remaining == 0:
            self.done.set_result(None)


async def open_accounts(engine: Engine, accounts: int, say: Say) -> None:
    """Open them all. Raises `SetupFailed`."""
    partitions = engine.cluster.config.partitions
    for start in range(0, accounts, WAVE):
        numbers = range(start, min(start + WAVE, accounts))
        wave = _Wave(len(numbers))
        issued_ms = now_ms()
        for number in numbers:
            account = account_name(number)
            line = f"o - {account} - 0 {CURRENCY}\n"
            engine.submit(partition_of(account, partitions), line, wave, issued_ms)
        try:
            async with asyncio.timeout(WAVE_S_MAX):
                await wave.done
        except TimeoutError:
            raise SetupFailed(f"{wave.remaining} accounts were not opened in {WAVE_S_MAX:.0f} s") from None
        if wave.trouble:
            raise SetupFailed(wave.trouble)
        say(f"opened {numbers.stop:,} of {accounts:,} accounts")


async def fund_accounts(wallet: ClusterWallet, accounts: int, say: Say) -> None:
    """Pay every account its money from `@bank`. Raises `SetupFailed`."""
    for start in range(0, accounts, WAVE):
        stop = min(start + WAVE, accounts)
        calls = [range(first, min(first + _CALL, stop)) for first in range(start, stop, _CALL)]
        results = await asyncio.gather(
            *(wallet.transfer_many(_funding(numbers, accounts)) for numbers in calls)
        )
        refused = [result for call in results for result in call if result != Outcome.APPLIED]
        if refused:
            raise SetupFailed(f"{len(refused)} accounts could not be funded: {refused[0]}")
        say(f"funded {stop:,} of {accounts:,} accounts")


def _funding(numbers: range, accounts: int) -> list[TransferCommand]:
    return [
        TransferCommand(
            "@bank", account_name(number), funds_of(number, accounts), CURRENCY, fresh_transaction()
        )
        for number in numbers
    ]


def fresh_transaction() -> str:
    """A random transaction id in the engine's packed form."""
    return pack_transaction_id(os.urandom(16).hex())
