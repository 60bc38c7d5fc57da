"""One run: fund accounts, warm up, measure, stop, check the books."""

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from bench.books import read_books
from bench.cluster import Cluster, Say
from bench.doors.base import Door, Load
from bench.doors.engine import EngineDoor
from bench.doors.http import HttpDoor
from bench.doors.script import ScriptDoor
from bench.funding import engine_of, fund_accounts, funds_total
from bench.machine import commit, file_system, machine
from bench.measure import Moment, usage
from bench.pacing import BacklogFull, ClosedLoop, OpenLoop, Pacing
from bench.recorder import Counts, Recorder
from bench.redis_figures import KeyMemory, RedisFigures, key_memory, read_figures
from bench.result import Figures, Plan, Result
from bench.ring import ring_size
from bench.scrape import scrape, sync_count
from bench.workload import CURRENCY, FORMS, Pair, draw
from wallet_engine.app.running import collect_rarely

DOORS: Final[Mapping[str, type[Door]]] = {"http": HttpDoor, "engine": EngineDoor, "script": ScriptDoor}
PROGRESS_S: Final = 5.0


class Refused(Exception):
    """The run may not be reported: the books do not add up, or an answer was unexpected."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The open and funded accounts of a cluster, and the memory in Redis of each."""

    accounts: int
    bytes_per_account: float
    funding_s: float


@dataclass(frozen=True, slots=True)
class _Reading:
    """The counters that are read at both ends of the measured part."""

    moment: Moment
    redis: RedisFigures
    journal_bytes: int
    journal_syncs: int
    door: dict[str, float]


async def prepare(cluster: Cluster, accounts: int, say: Say) -> Prepared:
    """Open and fund the accounts of all runs on this cluster. Raises `SetupFailed`."""
    began_s = time.monotonic()
    async with engine_of(cluster) as (engine, _):
        await fund_accounts(engine, accounts, say)
    funding_s = time.monotonic() - began_s
    memory = await asyncio.to_thread(key_memory, cluster)
    say(f"opened and funded {accounts:,} accounts in {funding_s:.1f} s")
    return Prepared(accounts, memory["balance"].bytes / accounts, funding_s)


async def measure(cluster: Cluster, plan: Plan, prepared: Prepared, say: Say) -> Result:
    """Run the plan. Raises `Refused`, `ProcessReplaced`, and `ValueError` for an impossible plan."""
    say(f"{plan.name}, seed {plan.seed}: preparing requests")
    recorder = Recorder()
    door = _door(cluster, recorder, plan, prepared)
    gc.collect()
    collect_rarely()
    roles = cluster.pids()
    roles["load"] = []
    if door.own_role == "api":
        # the API processes are idle while the engine runs in this process
        roles["standby"], roles["api"] = [*roles.get("standby", ()), *roles["api"]], []
    roles[door.own_role] = [os.getpid()]
    begun = await asyncio.to_thread(key_memory, cluster)
    try:
        await door.start()
        await asyncio.sleep(plan.warmup_s)
        before = await _begin(cluster, door, recorder)
        await _watch(recorder, plan.seconds, say)
        after, counts = await _end(cluster, door, recorder)
    finally:
        await door.stop()
        gc.unfreeze()
    await asyncio.to_thread(_check, cluster, recorder, prepared.accounts)
    ended = await asyncio.to_thread(key_memory, cluster)
    spent = usage(before.moment, after.moment, roles)
    if not counts.transfers:
        raise Refused("nothing was answered in the measured time")
    new = recorder.total_transfers - recorder.total_repeated
    figures = Figures(
        seconds=spent.seconds,
        counts=counts,
        latency_ms=recorder.latency.summary_ms(),
        usage=spent,
        redis_usec=after.redis.usec_since(before.redis),
        redis_version=after.redis.version,
        journal_bytes=after.journal_bytes - before.journal_bytes,
        journal_syncs=after.journal_syncs - before.journal_syncs,
        door={name: value - before.door.get(name, 0.0) for name, value in after.door.items()},
        bytes_per_account=prepared.bytes_per_account,
        bytes_per_remembered=remembered_bytes(begun["seen"], ended["seen"], new),
        funding_s=prepared.funding_s,
    )
    return Result(
        plan=plan,
        shape=cluster.shape,
        accounts=prepared.accounts,
        figures=figures,
        machine=machine(),
        journal_file_system=file_system(cluster.data_dir),
        commit=commit(),
    )


async def send_transfers(cluster: Cluster, plan: Plan, prepared: Prepared, transfers: int, say: Say) -> int:
    """Send at least `transfers` transfers in the way of the plan, without a time limit. Returns how many were sent.

    Raises `Refused`.
    """
    recorder = Recorder()
    door = _door(cluster, recorder, plan, prepared)
    try:
        await door.start()
        while recorder.total_transfers < transfers and not recorder.unexpected:
            await asyncio.sleep(0.05)
    finally:
        await door.stop()
    await asyncio.to_thread(_check, cluster, recorder, prepared.accounts)
    say(f"{plan.name}: sent {recorder.total_transfers:,} transfers")
    return recorder.total_transfers


async def latencies(
    cluster: Cluster, plan: Plan, prepared: Prepared, say: Say, others_end: Callable[[], Awaitable[None]]
) -> dict[str, Any]:
    """Run a plan while other callers pay: `{"transfers_per_s", "latency_ms"}`. Raises `Refused`.

    `others_end` is called to stop the others, before the books are checked.
    """
    recorder = Recorder()
    door = _door(cluster, recorder, plan, prepared)
    try:
        await door.start()
        await asyncio.sleep(plan.warmup_s)
        recorder.reset()
        began_s = time.monotonic()
        await _watch(recorder, plan.seconds, say)
        counts, seconds = recorder.freeze(), time.monotonic() - began_s
    finally:
        await door.stop()
        await others_end()
    await asyncio.to_thread(_check, cluster, recorder, prepared.accounts)
    return {
        "transfers_per_s": round(counts.transfers / seconds),
        "latency_ms": recorder.latency.summary_ms(),
    }


def remembered_bytes(before: KeyMemory, after: KeyMemory, transfers: int) -> float | None:
    """Bytes in Redis to remember one of these transfers, on both sides.

    None when most remembered ids are older: a hash grows in steps, which would hide the growth.
    """
    if not transfers or after.fields < 2 * before.fields:
        return None
    return (after.bytes - before.bytes) / transfers


async def _begin(cluster: Cluster, door: Door, recorder: Recorder) -> _Reading:
    """Read the counters at the begin. Redis is asked first, so that counts, clock and CPU are read at the same time."""
    redis = await asyncio.to_thread(read_figures, cluster)
    counted = await door.figures()
    syncs = await _syncs(cluster)
    written, moment = cluster.journal_bytes(), Moment.now()
    recorder.reset()
    return _Reading(moment, redis, written, syncs, counted)


async def _end(cluster: Cluster, door: Door, recorder: Recorder) -> tuple[_Reading, Counts]:
    """Read the counters at the end. Redis is asked last, for the same reason."""
    counts, moment = recorder.freeze(), Moment.now()
    written, syncs, counted = cluster.journal_bytes(), await _syncs(cluster), await door.figures()
    redis = await asyncio.to_thread(read_figures, cluster)
    return _Reading(moment, redis, written, syncs, counted), counts


async def _syncs(cluster: Cluster) -> int:
    return sync_count(await asyncio.to_thread(scrape, cluster.journal_metrics))


def _door(cluster: Cluster, recorder: Recorder, plan: Plan, prepared: Prepared) -> Door:
    """Make the door, with its requests ready."""
    count = ring_size(plan.batch) * plan.batch
    pairs = draw(plan.workload, count, prepared.accounts, cluster.shape.partitions, Random(plan.seed))
    return DOORS[plan.door].make(_load(cluster, recorder, plan, pairs, _pacing(plan, recorder)))


def _load(cluster: Cluster, recorder: Recorder, plan: Plan, pairs: list[Pair], pacing: Pacing) -> Load:
    if plan.workload in FORMS and plan.door != "http":
        raise ValueError(f"only HTTP has {plan.workload}: give --door http")
    repeats = plan.workload == "repeats"
    key = cluster.caller_key if plan.auth else ""
    return Load(cluster, recorder, plan.workload, pairs, plan.batch, plan.callers, repeats, pacing, key)


def _pacing(plan: Plan, recorder: Recorder) -> Pacing:
    if plan.rate is None:
        return ClosedLoop()

    def failed(error: BacklogFull) -> None:
        recorder.surprised(str(error))

    return OpenLoop(plan.rate, Random(plan.seed + 1), failed)


async def _watch(recorder: Recorder, seconds: float, say: Say) -> None:
    began = time.perf_counter()
    while (left := began + seconds - time.perf_counter()) > 0.001:  # timers may fire this much early
        await asyncio.sleep(min(left, PROGRESS_S))
        rate = recorder.transfers / (time.perf_counter() - began)
        say(f"{rate:,.0f} transfers/s")
        if recorder.unexpected:
            break


def _check(cluster: Cluster, recorder: Recorder, accounts: int) -> None:
    faults = read_books(cluster).faults({CURRENCY: funds_total(accounts)}, accounts)
    if recorder.unexpected:
        shown = "; ".join(recorder.unexpected_shown)
        faults.append(
            f"{recorder.unexpected} answers were neither success nor a decline that had to come: {shown}"
        )
    if faults:
        raise Refused("; ".join(faults))
