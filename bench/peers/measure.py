"""Runs a peer in the same way as the engine, with callers in a closed loop."""

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from bench.cluster import Say
from bench.machine import commit, file_system, machine
from bench.measure import Moment, usage
from bench.peers.base import Peer, PeerFailed, PeerMissing, Send
from bench.recorder import Recorder
from bench.result import Document, per
from bench.ring import Ring, ring_size
from bench.runner import Refused
from bench.workload import draw
from wallet_engine.dev.process import StartFailed

#: Measures one batch size of a running peer.
MeasureRow = Callable[[int], Awaitable[Document]]


@dataclass(frozen=True, slots=True)
class PeerPlan:
    """The parameters of all rows of all peers. `batches`: the wanted batch sizes; a peer may have a smaller maximum."""

    accounts: int
    batches: Sequence[int]
    seconds: float
    warmup_s: float
    seed: int


async def measure_peer(peer: Peer, plan: PeerPlan, folder: Path | None, say: Say) -> list[Document]:
    """Measure a peer: a document for each batch size, or one that says why it was not run (`not_run`).

    Raises `Refused` and `ProcessReplaced`.
    """
    try:
        async with running(peer, plan, folder, say) as row:
            return [await row(batch) for batch in peer.callers if _asked_for(batch) in plan.batches]
    except (PeerMissing, StartFailed) as error:
        say(f"{peer.name}: not run: {error}")
        return [{"name": peer.name, "peer": peer.name, "not_run": str(error)}]


@asynccontextmanager
async def running(peer: Peer, plan: PeerPlan, folder: Path | None, say: Say) -> AsyncIterator[MeasureRow]:
    """A started and funded peer; gives a coroutine function that measures a batch size, and checks the books.

    Raises `PeerMissing`, `StartFailed`; it and the function raise `Refused` and `ProcessReplaced`.
    """
    succeeded = 0

    async def row(batch: int) -> Document:
        nonlocal succeeded
        document, paid = await _row(peer, plan, batch, peer.callers[batch], Path(data), say)
        succeeded += paid
        faults = await peer.faults(plan.accounts, succeeded)
        if faults:
            raise Refused(f"{peer.name}: {'; '.join(faults)}")
        return document

    with tempfile.TemporaryDirectory(prefix="wallet-bench-", dir=folder) as data:
        try:
            say(f"{peer.name}: starting")
            await asyncio.to_thread(peer.start, Path(data))
            await peer.fund(plan.accounts)
            yield row
        except PeerFailed as error:
            raise Refused(f"{peer.name}: {error}") from None
        finally:
            await peer.disconnect()
            await asyncio.to_thread(peer.stop)


def _asked_for(batch: int) -> int:
    """The batch size of `PeerPlan.batches` to which a peer's own batch size belongs."""
    return 8000 if batch > 8000 else batch


async def _row(
    peer: Peer, plan: PeerPlan, batch: int, callers: int, data: Path, say: Say
) -> tuple[Document, int]:
    """Measure one batch size: its document, and the number of succeeded transfers, warm-up included."""
    size = ring_size(batch) * batch
    pairs = draw("uniform", size, plan.accounts, 1, Random(plan.seed + batch))
    ring: Ring[Any] = Ring(peer.requests(pairs, batch), repeats=False)
    del pairs
    gc.collect()
    recorder, stopping = Recorder(), asyncio.Event()
    senders = [await peer.connect() for _ in range(callers)]
    tasks = [asyncio.create_task(_call(send, ring, recorder, stopping)) for send in senders]
    try:
        await asyncio.sleep(plan.warmup_s)
        disk, before = await asyncio.to_thread(peer.bytes_on_disk), Moment.now()
        recorder.reset()
        await asyncio.wait(tasks, timeout=plan.seconds, return_when=asyncio.FIRST_EXCEPTION)
        counts, after = recorder.freeze(), Moment.now()
        grown = await asyncio.to_thread(peer.bytes_on_disk) - disk
        # Only processes that ran all the time. A server's short-lived helpers count as other processes.
        pids = [pid for pid in peer.pids() if pid in before.processes and pid in after.processes]
    finally:
        stopping.set()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        await peer.disconnect()
    for error in ended:
        if isinstance(error, BaseException):
            raise error
    if recorder.unexpected:
        raise Refused(f"{peer.name}: {'; '.join(recorder.unexpected_shown)}")
    if not counts.transfers:
        raise Refused(f"{peer.name}: nothing was answered in the measured time")
    spent = usage(before, after, {"server": pids, "load": [os.getpid()]})
    rate = counts.transfers / spent.seconds
    say(f"{peer.name} {batch} x {callers}: {rate:,.0f} transfers/s")
    document: Document = {
        "name": f"{peer.name} {batch} x {callers}",
        "peer": peer.name,
        "version": peer.version,
        "durability": peer.durability,
        "batch": batch,
        "callers": callers,
        "transfers_per_s": round(rate, 1),
        "cpu_us_per_transfer": {
            role: round(per(cpu_s * 1e6, counts.transfers), 2) for role, cpu_s in spent.cpu_s.items()
        },
        "cpu_cores": {role: round(cpu_s / spent.seconds, 3) for role, cpu_s in spent.cpu_s.items()},
        "latency_ms": recorder.latency.summary_ms(),
        "transfers": counts.transfers,
        "declined": counts.declined,
        "conserved": True,
        "bytes_on_disk_per_transfer": round(per(grown, counts.transfers), 1),
        "file_system": file_system(data),
        "seconds": round(spent.seconds, 3),
        "accounts": plan.accounts,
        **spent.circumstances(),
        "machine": machine(),
        "commit": commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return document, recorder.total_transfers


async def _call(send: Send, ring: Ring[Any], recorder: Recorder, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        drawn = ring.next()
        assert drawn is not None  # a ring without repeats always has a request
        request, number = drawn
        began_s = time.perf_counter()
        counts = await send(request.payload, number)
        if counts == (request.transfers - request.declined, request.declined):
            recorder.answered(time.perf_counter() - began_s, request.transfers, request.declined)
        else:
            recorder.surprised(f"{counts} succeeded and declined of {request.transfers}")
            return
