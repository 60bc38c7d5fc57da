"""Measures payments while partitions move: their latencies, and the longest command of each node.

Single transfers arrive at a fixed rate by HTTP. A quarter of them have one side in the moved partition ("its"), the
others have none. SLOWLOG tells the longest command of each node: so long does a move stop the other partitions of a
node. Latencies on a machine with other work do not show that.
"""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import count, islice, pairwise
from typing import Any, Final

from bench.cluster import Cluster
from bench.funding import SetupFailed
from bench.http_client import Caller, connect, request_bytes
from bench.latency import summary_ms
from bench.workload import CURRENCY, account_name
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.operation import Operation
from wallet_engine.engine.batch import Batch
from wallet_engine.engine.engine import Engine
from wallet_engine.redis_store.topology import connect as connect_redis
from wallet_engine.routing.slots import partition_of

PAYERS: Final = 512
CALLERS: Final = 32
_OPEN_AT_ONCE: Final = 4_000
#: A request that is not answered within this time has failed.
ANSWER_S_MAX: Final = 5.0
_PATH: Final = "/v1/wallet/balance_transfer"
#: Commands that take at least this long are in SLOWLOG, microseconds.
SLOW_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Answer:
    """One request: arrival and answer (`time.perf_counter`), status (0: none), and whether it is one of "its"."""

    due_s: float
    answered_s: float
    status: int
    concerned: bool


@dataclass(slots=True)
class Phase:
    """The figures of one phase, in which something was done to the cluster."""

    name: str
    answers: list[Answer]
    #: Address -> the longest command of the node: milliseconds and its first words.
    slowest: dict[str, tuple[float, str]]
    seconds: float
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """The number of requests that did not succeed."""
        return sum(answer.status != 200 for answer in self.answers)

    def document(self) -> dict[str, Any]:
        """All figures. `its_pause_ms`: the longest time between two successes of the moved partition."""
        its = [answer for answer in self.answers if answer.concerned]
        done = sorted(answer.answered_s for answer in its if answer.status == 200)
        return {
            "phase": self.name,
            "seconds": round(self.seconds, 2),
            "requests": len(self.answers),
            "failed": self.failed,
            "latency_ms": _latency(self.answers),
            "its_latency_ms": _latency(its),
            "its_pause_ms": round(1000 * max((b - a for a, b in pairwise(done)), default=0.0), 1),
            "slowest_command": self.slowest,
            **self.detail,
        }


def names_in(partition: int, partitions: int) -> Iterator[str]:
    """Account ids in one partition, without end."""
    return (name for name in map(account_name, count()) if partition_of(name, partitions) == partition)


def names_outside(partition: int, partitions: int) -> Iterator[str]:
    """Account ids in all other partitions, without end."""
    return (name for name in map(account_name, count()) if partition_of(name, partitions) != partition)


async def open_accounts(engine: Engine, names: Sequence[str]) -> None:
    """Open accounts through the engine, without money. Raises `SetupFailed`."""
    partitions = engine.cluster.config.partitions
    for start in range(0, len(names), _OPEN_AT_ONCE):
        part = names[start : start + _OPEN_AT_ONCE]
        opening = _Opening(len(part))
        for name in part:
            operation = Operation("o", "-", name, "-", 0, CURRENCY)
            engine.submit(partition_of(name, partitions), operation, opening, engine.now_s())
        await asyncio.wait_for(opening.done, 60)


class _Opening:
    """Waits for accounts to be opened."""

    def __init__(self, size: int) -> None:
        self._remaining = size
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def committed(self, outcome: str, idx: int, batch: Batch) -> None:
        self._remaining -= 1
        if not self._remaining:
            self.done.set_result(None)

    def failed(self, outage: Outage) -> None:
        if not self.done.done():
            self.done.set_exception(SetupFailed(f"an account could not be opened: {outage}"))


class Payments:
    """Callers that make `rate` transfers per second between `start` and `stop`."""

    def __init__(self, address: str, rate: float, ours: Sequence[str], others: Sequence[str]) -> None:
        self._address = address
        self._rate = rate
        self._ours = ours
        self._others = others
        self._rng = random.Random(1)
        self._idle: list[Caller] = []
        self._due: dict[int, tuple[float, bool]] = {}
        self._waiting: list[tuple[float, bool]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self.answers: list[Answer] = []

    async def start(self) -> None:
        self._idle = [
            await connect(self._address, number, self._answered, self._lost) for number in range(CALLERS)
        ]
        self._tasks.append(asyncio.create_task(self._arrive()))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for caller in self._idle:
            caller.close()

    def overdue(self) -> list[Answer]:
        """Requests that have waited for an answer for longer than `ANSWER_S_MAX`."""
        now_s = time.perf_counter()
        out = [*self._due.values(), *self._waiting]
        return [Answer(due_s, now_s, 0, its) for due_s, its in out if now_s - due_s > ANSWER_S_MAX]

    async def _arrive(self) -> None:
        next_s = time.perf_counter()
        while True:
            next_s += self._rng.expovariate(self._rate)
            await asyncio.sleep(max(0.0, next_s - time.perf_counter()))
            self._waiting.append((next_s, self._rng.random() < 0.25))
            self._send()

    def _send(self) -> None:
        while self._idle and self._waiting:
            caller, (due_s, concerned) = self._idle.pop(), self._waiting.pop(0)
            self._due[caller.number] = (due_s, concerned)
            caller.send(self._request(concerned), due_s)

    def _request(self, concerned: bool) -> bytes:
        sender, receiver = self._rng.sample(self._others, 2)
        if concerned:
            ours = self._rng.choice(self._ours)
            sender, receiver = (ours, receiver) if self._rng.random() < 0.5 else (sender, ours)
        body = {
            "from_account": sender,
            "to_account": receiver,
            "amount": "0.01",
            "currency": CURRENCY,
            "transaction_id": str(uuid.uuid4()),
        }
        return request_bytes(_PATH, json.dumps(body).encode(), host=self._address)

    def _answered(self, caller: Caller, status: int, body: bytes, latency_s: float) -> None:
        due_s, concerned = self._due.pop(caller.number)
        self.answers.append(Answer(due_s, time.perf_counter(), status, concerned))
        self._idle.append(caller)
        self._send()

    def _lost(self, caller: Caller) -> None:
        if caller.number in self._due:
            due_s, concerned = self._due.pop(caller.number)
            self.answers.append(Answer(due_s, time.perf_counter(), 0, concerned))


async def phase(
    name: str, payments: Payments, nodes: Sequence[str], work: Callable[[], dict[str, Any]]
) -> Phase:
    """Run `work` in a thread while the callers pay. The phase includes half a second before and after it."""
    await asyncio.to_thread(_reset_slowlog, nodes)
    first, began_s = len(payments.answers), time.perf_counter()
    await asyncio.sleep(0.5)
    detail = await asyncio.to_thread(work)
    await asyncio.sleep(0.5)
    seconds = time.perf_counter() - began_s
    slowest = await asyncio.to_thread(_slowest, nodes)
    answers = [*payments.answers[first:], *payments.overdue()]
    return Phase(name, answers, slowest, seconds, detail)


def redis_nodes(cluster: Cluster) -> list[str]:
    """The addresses of the cluster's Redis nodes."""
    return [process.address for process in cluster.state.processes if process.role == "redis"]


def take(names: Iterator[str], number: int) -> list[str]:
    """The next `number` names."""
    return list(islice(names, number))


def _reset_slowlog(nodes: Sequence[str]) -> None:
    for address in nodes:
        with suppress(OSError), closing(connect_redis(address, timeout_s=30)) as client:
            client.config_set("slowlog-log-slower-than", SLOW_US)
            client.config_set("slowlog-max-len", 1000)
            client.slowlog_reset()


def _slowest(nodes: Sequence[str]) -> dict[str, tuple[float, str]]:
    """Address -> (milliseconds, text) of its longest command; 0 ms when none took `SLOW_US`."""
    found = {}
    for address in nodes:
        with closing(connect_redis(address, timeout_s=30)) as client:
            entries: Any = client.slowlog_get(1000)
        longest: dict[str, Any] = max(
            entries, key=lambda entry: entry["duration"], default={"duration": 0, "command": b""}
        )
        words = str(longest["command"])[:40]
        found[address] = (round(longest["duration"] / 1000, 1), words)
    return found


def _latency(answers: Sequence[Answer]) -> dict[str, float]:
    summary = summary_ms(answer.answered_s - answer.due_s for answer in answers)
    return {name: round(summary[name], 1) for name in ("p50", "p99", "max")}
