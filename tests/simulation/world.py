"""Virtual time, a seeded scheduler, and one event loop per simulated process.

Everything that happens is a call in one of two places: the ready queue of a process (what `call_soon` and due
timers put there, first in, first out, as asyncio promises) or the agenda of the world (a heap by virtual time).
The world runs one call at a time. Which process runs next is drawn from the seed, so two runs of one seed make
exactly the same steps, and a fault can strike between any two of them.
"""

import asyncio
import asyncio.events
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from operator import attrgetter
from typing import Any, Final

from wallet_engine.domain.errors import Outage

#: Virtual Unix time at which every simulation begins.
EPOCH_US: Final = 1_700_000_000_000_000
#: Virtual duration of one call.
STEP_US: Final = 2

_set_running_loop = asyncio.events._set_running_loop
_running_loop = asyncio.events._get_running_loop


class Violation(AssertionError):
    """A guarantee was broken, or something happened that the code calls impossible."""


class Killed(BaseException):
    """Raised by a process to end its own running call after `World.kill` ended it."""


class Handle:
    """Returned by `call_soon` and `call_at`; also an entry of the agenda."""

    __slots__ = ("_when_s", "args", "callback", "context")

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
        when_s: float = 0.0,
    ) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.context = context
        self._when_s = when_s

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self._when_s


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address in memory."""

    serial: int

    def __new__(cls, *_args: Any, **_kwargs: Any) -> "SimTask":
        self = super().__new__(cls)
        self.serial = next(_kwargs["loop"].world.serials)
        return self

    def __hash__(self) -> int:
        return self.serial


class World:
    """One simulated universe. `run` makes steps until a condition holds."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.now_us = EPOCH_US
        self.steps = 0
        #: Numbers for an order that does not depend on addresses in memory.
        self.serials = itertools.count()
        self.violation: Violation | None = None
        #: The process whose call is running; None while the world itself acts.
        self.running: ProcessLoop | None = None
        #: Called before a step is made, with its number, when it equals `disturb_at`.
        self.disturb: Callable[[], None] = lambda: None
        self.disturb_at = -1
        self.latency_factor = 1.0
        self.loops: list[ProcessLoop] = []
        #: (virtual ms since the beginning, process, text); kept only when tracing.
        self.trace: list[tuple[float, str, str]] | None = None
        self._agenda: list[tuple[int, int, ProcessLoop | None, Handle]] = []
        self._order = 0
        self._ready: list[ProcessLoop] = []

    def __repr__(self) -> str:
        return f"<World seed={self.seed} steps={self.steps} at={self.elapsed_s:.3f}s>"

    @property
    def elapsed_s(self) -> float:
        return (self.now_us - EPOCH_US) / 1e6

    @property
    def now_ms(self) -> int:
        return self.now_us // 1000

    def clock_ns(self) -> int:
        """Unix time as the machine of the running process tells it."""
        ahead_us = self.running.clock_ahead_us if self.running else 0
        return (self.now_us + ahead_us) * 1000

    def note(self, text: str) -> None:
        """A line for the reader of a failing seed."""
        if self.trace is not None:
            who = self.running.name if self.running else "world"
            self.trace.append((self.elapsed_s * 1000, who, text))

    def violate(self, text: str) -> None:
        """A guarantee is broken; the run ends after this step. Only the first violation counts."""
        if self.violation is None:
            self.violation = Violation(f"seed {self.seed}, {self.elapsed_s:.3f}s, step {self.steps}: {text}")

    def latency_us(self) -> int:
        """The latency of one way through the network: mostly short, sometimes not."""
        draw = self.rng.random()
        if draw < 0.9:
            base = 30 + 400 * draw
        elif draw < 0.995:
            base = 1_000 + self.rng.random() * 15_000
        else:
            base = 20_000 + self.rng.random() * 300_000
        return int(base * self.latency_factor)

    # Calls -----------------------------------------------------------------------------------------------

    def after(self, delay_us: int, callback: Callable[..., Any], *args: Any) -> Handle:
        """Have the world itself call back."""
        return self.at(self.now_us + delay_us, None, Handle(callback, args, None))

    def at(self, when_us: int, loop: "ProcessLoop | None", handle: Handle) -> Handle:
        self._order += 1
        heapq.heappush(self._agenda, (when_us, self._order, loop, handle))
        return handle

    def make_ready(self, loop: "ProcessLoop", handle: Handle) -> None:
        if not loop.ready and not loop.paused:
            self._ready.append(loop)
        loop.ready.append(handle)

    def pause(self, loop: "ProcessLoop", duration_us: int) -> None:
        """Stop the process as SIGSTOP does; time and network go on."""
        if loop.paused or loop.dead:
            return
        loop.paused = True
        if loop.ready:
            self._ready.remove(loop)
        self.after(duration_us, self._resume, loop)

    def _resume(self, loop: "ProcessLoop") -> None:
        loop.paused = False
        if loop.ready and not loop.dead:
            self._ready.append(loop)

    def run(self, until: Callable[[], bool], limit_s: float, what: str) -> None:
        """Make steps until `until()` holds. It is a violation if `what` has not happened after `limit_s` virtual s."""
        limit_us = self.now_us + int(limit_s * 1e6)
        try:
            while not until():
                if self.now_us > limit_us:
                    self.violate(f"{what} not within {limit_s:.0f} s")
                self._step()
                if self.violation is not None:
                    raise self.violation
        finally:
            self.running = None
            _set_running_loop(None)

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.disturb_at:
            self.running = None
            _set_running_loop(None)
            self.disturb()
        ready = self._ready
        if not ready or (self._agenda and self._agenda[0][0] <= self.now_us):
            self._advance()
            return
        index = 0 if len(ready) == 1 else int(self.rng.random() * len(ready))
        loop = ready[index]
        handle = loop.ready.popleft()
        if not loop.ready:
            del ready[index]
        self.now_us += STEP_US
        self._call(loop, handle)

    def _advance(self) -> None:
        if not self._agenda:
            raise Violation(f"seed {self.seed}: nothing is left to happen")
        when_us, _, loop, handle = heapq.heappop(self._agenda)
        if handle.callback is None or (loop is not None and loop.dead):
            return
        if when_us > self.now_us:
            self.now_us = when_us
        if loop is None:
            self._call(None, handle)
        else:
            self.make_ready(loop, handle)

    def _call(self, loop: "ProcessLoop | None", handle: Handle) -> None:
        callback = handle.callback
        if callback is None:
            return
        if self.running is not loop:
            self.running = loop
            _set_running_loop(loop)
        try:
            if handle.context is None:
                callback(*handle.args)
            else:
                handle.context.run(callback, *handle.args)
        except Killed:
            pass
        except Exception as error:
            self.violate(f"{callback!r} raised {error!r}")

    def kill(self, loop: "ProcessLoop") -> None:
        """End the process as SIGKILL does: none of its code runs any more."""
        if loop.dead:
            return
        loop.dead = True
        if loop.ready and not loop.paused:
            self._ready.remove(loop)
        for transport in list(loop.transports):
            transport.owner_died()
        loop.listeners.clear()
        loop.bury()
        loop.ready.clear()

    def close(self) -> None:
        for loop in self.loops:
            self.kill(loop)


class ProcessLoop(asyncio.AbstractEventLoop):
    """The event loop of one simulated process, and the process itself: it ends with `World.kill`."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.serial = next(world.serials)
        self.dead = False
        self.paused = False
        #: How far the clock of its machine is ahead of the right time.
        self.clock_ahead_us = 0
        self.ready: deque[Handle] = deque()
        #: Open ends of connections, in order of their making.
        self.transports: dict[Any, None] = {}
        #: Addresses on which this process listens -> protocol factory.
        self.listeners: dict[str, Callable[[], Any]] = {}
        #: Set by the network; opens a connection from this process.
        self.connector: Callable[..., Coroutine[Any, Any, Any]] | None = None
        world.loops.append(self)

    def __repr__(self) -> str:
        return f"<ProcessLoop {self.name} {'dead' if self.dead else 'paused' if self.paused else 'alive'}>"

    @property
    def process(self) -> str:
        """Its name without the number of its start."""
        return self.name.partition("#")[0]

    def bury(self) -> None:
        """End the coroutines that a dead process leaves, silently and without effect.

        In the order of their creation: the order of asyncio's set depends on what other runs have left in it.
        """
        running = _running_loop()
        _set_running_loop(
            self
        )  # a `finally` that gathers no tasks would make a loop, and nobody would close it
        try:
            for task in sorted(asyncio.all_tasks(self), key=attrgetter("serial")):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                self._bury(task.get_coro())
        finally:
            _set_running_loop(running)

    def _bury(self, coroutine: Any) -> None:
        for _attempt in range(50):  # a `finally` that awaits does not end at the first try
            try:
                coroutine.close()
                break
            except RuntimeError:
                continue
            except ValueError:  # it is running: the process ends inside its call, with `Killed`
                break

    # asyncio.AbstractEventLoop ---------------------------------------------------------------------------

    def time(self) -> float:
        return self.world.now_us / 1e6

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, context)
        if not self.dead:
            self.world.make_ready(self, handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(self, delay: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, context, when)
        return handle if self.dead else self.world.at(int(when * 1e6), self, handle)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None) -> Any:
        task = SimTask(coro, loop=self, name=name or "task")
        if self.dead:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coro.close()
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """A thread is simulated by a call of this process a little later."""
        future = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        if not self.dead:
            world = self.world
            world.at(world.now_us + 20 + int(world.rng.random() * 200), self, Handle(work, (), None))
        return future

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        assert self.connector is not None
        return await self.connector(self, protocol_factory, f"{host}:{port}")

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        """`port` 0 takes a port that this world has not used."""
        address = f"{host}:{port or 20_000 + self.serial % 40_000}"
        self.listeners[address] = protocol_factory
        return _Server(self, address)

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self.dead

    def is_running(self) -> bool:
        return not self.dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), Outage):
            self.world.note(f"nobody waited for {context['exception']!r}")
        elif not self.dead:
            self.world.violate(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")


class _Server:
    """What `create_server` returns."""

    def __init__(self, loop: ProcessLoop, address: str) -> None:
        self._loop = loop
        self._address = address
        self.sockets = [self]

    def getsockname(self) -> tuple[str, int]:
        host, _, port = self._address.rpartition(":")
        return host, int(port)

    def close(self) -> None:
        self._loop.listeners.pop(self._address, None)

    async def wait_closed(self) -> None:
        pass
