"""The door without HTTP: `ClusterWallet` in this process. So its CPU includes the engine and the load generator."""

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
from wallet_engine.service.api import TransferAnswer
from wallet_engine.service.wallet import ClusterWallet

STOP_S_MAX: Final = 30.0
#: How long a caller waits after a refusal.
REFUSED_PAUSE_S: Final = 0.01
#: Characters of a packed id (base64, 6 bits each) that are replaced by the number of a sending.
_NUMBER_CHARACTERS: Final = 5
_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

#: A transfer: payer, receiver, minor units, and its id without the first characters.
Row = tuple[str, str, int, str]


def number_text(number: int) -> str:
    """The low 30 bits of a number, as five characters of an id."""
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
    """The commands for the wallet for one sending."""
    head = number_text(number)
    return [TransferCommand(sender, to, minor, CURRENCY, head + tail) for sender, to, minor, tail in rows]


class _Caller:
    """One caller, made of callbacks: a task would cost more than the engine needs for a single transfer."""

    def __init__(
        self, wallet: ClusterWallet, ring: Ring[list[Row]], pacing: Pacing, recorder: Recorder
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._wallet = wallet
        self._ring = ring
        self._pacing = pacing
        self._recorder = recorder
        self._request: Request[list[Row]] | None = None
        self._commands: list[TransferCommand] = []
        self._repeated = False
        self._began_s = 0.0
        self._stopping = False
        #: Whether a request of this caller is not answered yet.
        self.busy = False

    def next(self) -> None:
        """Take the next request, and send it when it arrives."""
        if self._stopping:
            return
        drawn = self._ring.next()
        while drawn is None and self._request is None:  # there is nothing to repeat yet
            drawn = self._ring.next()
        self._repeated = drawn is None
        if drawn is not None:
            self._request, number = drawn
            self._commands = commands_of(self._request.payload, number)
        began_s = self._pacing.take()
        if began_s is None:
            self._pacing.park(self._send)
        else:
            self._send(began_s)

    def stop(self) -> None:
        """Send nothing more. `busy` tells whether an answer is still missing."""
        self._stopping = True

    def _send(self, began_s: float) -> None:
        self._began_s = began_s
        self.busy = True
        if len(self._commands) == 1:
            self._wallet.begin_transfer(self._commands[0], self._answered_one)
        else:
            self._loop.create_task(self._wallet.transfer_many(self._commands)).add_done_callback(
                self._answered_many
            )

    def _answered_one(self, decision: TransferAnswer | Outage) -> None:
        if isinstance(decision, Outage):
            self._refused(f"{decision.code}: {decision}")
        else:
            self._answered([decision.outcome])

    def _answered_many(self, task: asyncio.Task[list[str]]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None or task.cancelled():
            self._refused(repr(error))
        else:
            self._answered(task.result())

    def _refused(self, why: str) -> None:
        self.busy = False
        self._recorder.surprised(why)
        self._loop.call_later(REFUSED_PAUSE_S, self.next)

    def _answered(self, outcomes: list[str]) -> None:
        latency_s = time.perf_counter() - self._began_s
        self.busy = False
        request = self._request
        assert request is not None, "an answer to nothing"
        declined = outcomes.count(Outcome.INSUFFICIENT_FUNDS.value)
        succeeded = outcomes.count(Outcome.APPLIED.value)
        if (succeeded, declined) == (request.transfers - request.declined, request.declined):
            self._recorder.answered(latency_s, request.transfers, declined, repeated=self._repeated)
        else:
            self._recorder.surprised(f"outcomes {sorted(set(outcomes))}")
        self.next()


class EngineDoor:
    """Implements `Door`."""

    own_role = "api"

    def __init__(
        self, cluster: Cluster, recorder: Recorder, ring: Ring[list[Row]], callers: int, pacing: Pacing
    ) -> None:
        self._cluster = cluster
        self._pacing = pacing
        self._recorder = recorder
        self._ring = ring
        self._count = callers
        self._callers: list[_Caller] = []
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
        self._callers = [
            _Caller(wallet, self._ring, self._pacing, self._recorder) for _ in range(self._count)
        ]
        for caller in self._callers:
            caller.next()
        self._pacing.start()

    async def stop(self) -> None:
        self._pacing.stop()
        for caller in self._callers:
            caller.stop()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                while any(caller.busy for caller in self._callers):
                    await asyncio.sleep(0.01)
        except TimeoutError:
            self._recorder.surprised("a call did not end")
        await asyncio.sleep(0.3)  # the last settles are sent after a tenth of a second
        await self._stack.aclose()

    async def figures(self) -> dict[str, float]:
        if self._engine is None:
            return {}
        return script_counters([self._engine.metrics.render().decode()])
