"""The door behind HTTP: `ClusterWallet` in this process, which therefore pays for engine and load together."""

import asyncio
import contextlib
import time
from typing import Final

from bench.cluster import Cluster
from bench.doors.base import Load
from bench.funding import engine_of, fresh_transaction
from bench.pacing import Pacing
from bench.recorder import Recorder
from bench.ring import Request, Ring, chunks, declined_of
from bench.scrape import script_counters
from bench.workload import CURRENCY, Pair, account_name
from wallet_engine.domain.errors import Outage
from wallet_engine.domain.outcomes import Outcome
from wallet_engine.domain.transfer import TransferCommand
from wallet_engine.engine.engine import Engine
from wallet_engine.service.wallet import ClusterWallet

STOP_S_MAX: Final = 30.0
#: Characters of a packed id (base64, 6 bits each) that the number of a sending replaces.
_NUMBER_CHARACTERS: Final = 5
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

#: A transfer with all but the beginning of its id: from, to, minor units, rest of the id.
Row = tuple[str, str, int, str]


def number_text(number: int) -> str:
    """The low 30 bits of a number as five characters of an id."""
    return "".join(_ALPHABET[number >> shift & 63] for shift in (24, 18, 12, 6, 0))


def rows_of(pairs: list[Pair]) -> list[Row]:
    """Rows with random ids."""
    return [
        (
            account_name(pair.sender),
            account_name(pair.receiver),
            pair.amount_minor,
            fresh_transaction()[_NUMBER_CHARACTERS:],
        )
        for pair in pairs
    ]


def commands_of(rows: list[Row], number: int) -> list[TransferCommand]:
    """What to hand to the wallet for one sending."""
    head = number_text(number)
    return [TransferCommand(sender, to, minor, CURRENCY, head + tail) for sender, to, minor, tail in rows]


class EngineDoor:
    """Implements `Door`: one task per caller."""

    own_role = "api"

    def __init__(
        self, cluster: Cluster, recorder: Recorder, ring: Ring[list[Row]], callers: int, pacing: Pacing
    ) -> None:
        self._cluster = cluster
        self._pacing = pacing
        self._recorder = recorder
        self._ring = ring
        self._callers = callers
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._parked: set[asyncio.Future[float]] = set()
        self._stack = contextlib.AsyncExitStack()
        self._engine: Engine | None = None

    @classmethod
    def make(cls, load: Load) -> "EngineDoor":
        requests = [
            Request(rows_of(list(part)), len(part), declined_of(part))
            for part in chunks(load.pairs, load.batch)
        ]
        return cls(
            load.cluster, load.recorder, Ring(requests, repeats=load.repeats), load.callers, load.pacing
        )

    async def start(self) -> None:
        self._engine, wallet = await self._stack.enter_async_context(engine_of(self._cluster))
        self._tasks = [asyncio.create_task(self._call(wallet)) for _ in range(self._callers)]
        self._pacing.start()

    async def stop(self) -> None:
        self._stopping = True
        self._pacing.stop()
        for turn in list(self._parked):
            turn.cancel()
        _, unfinished = await asyncio.wait(self._tasks, timeout=STOP_S_MAX) if self._tasks else ((), ())
        for task in unfinished:
            self._recorder.surprised("a call did not end")
            task.cancel()
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self._recorder.surprised(repr(task.exception()))
        await asyncio.sleep(0.3)  # the last settles leave after a tenth of a second
        await self._stack.aclose()

    async def figures(self) -> dict[str, float]:
        if self._engine is None:
            return {}
        return script_counters([self._engine.metrics.render().decode()])

    async def _turn(self) -> float:
        """Wait for the next arrival. Cancelled when there will be none."""
        turn: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._parked.add(turn)
        turn.add_done_callback(self._parked.discard)
        self._pacing.park(turn.set_result)
        return await turn

    async def _call(self, wallet: ClusterWallet) -> None:
        recorder = self._recorder
        request: Request[list[Row]] | None = None
        commands: list[TransferCommand] = []
        while not self._stopping:
            drawn = self._ring.next()
            if drawn is not None:
                request, number = drawn
                commands = commands_of(request.payload, number)
            elif request is None:
                continue
            began_s = self._pacing.take()
            if began_s is None:
                began_s = await self._turn()
            try:
                if len(commands) == 1:
                    outcomes = [(await wallet.transfer(commands[0])).outcome]
                else:
                    outcomes = await wallet.transfer_many(commands)
            except Outage as outage:
                recorder.surprised(f"{outage.code}: {outage}")
                await asyncio.sleep(0.01)
                continue
            latency_s = time.perf_counter() - began_s
            declined = outcomes.count(Outcome.INSUFFICIENT_FUNDS.value)
            succeeded = outcomes.count(Outcome.APPLIED.value)
            if (succeeded, declined) == (request.transfers - request.declined, request.declined):
                recorder.answered(latency_s, request.transfers, declined, repeated=drawn is None)
            else:
                recorder.surprised(f"outcomes {sorted(set(outcomes))}")
