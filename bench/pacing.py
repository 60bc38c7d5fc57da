"""Decides when a caller sends its next request: at once (closed loop), or when a request arrives (open loop).

In the open loop requests arrive in a Poisson process of a fixed rate, whatever the engine does. A latency counts from
the moment of arrival, even when all callers were busy or this process was late. Otherwise a stall would hide the
requests that arrive during it (coordinated omission, https://www.youtube.com/watch?v=lJ8ydIuPFeU).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

#: Maximum arrived requests that no caller has taken. More of them mean that the engine cannot keep up.
BACKLOG_MAX: Final = 50_000
#: Bounds of the sleep between two looks at the clock. uvloop's timers have whole milliseconds, and one below half a
#: millisecond fires in the next turn of the loop: a timer for each arrival would use a whole core.
TICK_S_MIN: Final = 0.001
TICK_S_MAX: Final = 0.05


class BacklogFull(Exception):
    """More than `BACKLOG_MAX` requests have arrived and wait for a caller."""


class Pacing(Protocol):
    """Tells each caller of a door when to send its next request."""

    def take(self) -> float | None:
        """The arrival (`perf_counter`) of the next request; None when none has arrived: then call `park`."""

    def park(self, wake: Callable[[float], object]) -> None:
        """Wait for a request: `wake` is called once, with the arrival (`perf_counter`) of the caller's next request."""

    def start(self) -> None:
        """Begin: the callers are connected."""

    def stop(self) -> None:
        """End: no more requests arrive, and parked callers are not woken."""


class ClosedLoop:
    """Implements `Pacing`: every caller sends as soon as it has its answer."""

    def take(self) -> float | None:
        return time.perf_counter()

    def park(self, wake: Callable[[float], object]) -> None:
        raise RuntimeError("nobody waits in a closed loop")

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Arrivals:
    """The arrivals of a Poisson process with `rate` per second, each given out once."""

    def __init__(self, rate: float, rng: Random, began_s: float) -> None:
        self._rate = rate
        self._rng = rng
        #: The next arrival (`perf_counter`).
        self.next_s = began_s
        self._step()

    def __repr__(self) -> str:
        return f"<Arrivals rate={self._rate:g} next_s={self.next_s:.6f}>"

    def _step(self) -> None:
        self.next_s += self._rng.expovariate(self._rate)

    def next(self) -> float:
        """Give out the next arrival."""
        moment_s = self.next_s
        self._step()
        return moment_s

    def due(self, now_s: float) -> list[float]:
        """Give out all arrivals up to `now_s`, the oldest first."""
        moments = []
        while self.next_s <= now_s:
            moments.append(self.next())
        return moments


class OpenLoop:
    """Implements `Pacing`: `rate` requests per second arrive, and each goes to the first free caller."""

    def __init__(self, rate: float, rng: Random, on_failure: Callable[[BacklogFull], None]) -> None:
        self.rate = rate
        self._rng = rng
        self._on_failure = on_failure
        self._arrivals: Arrivals | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._backlog: deque[float] = deque()
        self._parked: deque[Callable[[float], object]] = deque()

    def __repr__(self) -> str:
        return f"<OpenLoop rate={self.rate:g} backlog={len(self._backlog)} parked={len(self._parked)}>"

    def take(self) -> float | None:
        """A request that has arrived since the last tick is given out at once: answers come more often than ticks."""
        if self._backlog:
            return self._backlog.popleft()
        arrivals = self._arrivals
        if arrivals is not None and arrivals.next_s <= time.perf_counter():
            return arrivals.next()
        return None

    def park(self, wake: Callable[[float], object]) -> None:
        self._parked.append(wake)

    def start(self) -> None:
        self._arrivals = Arrivals(self.rate, self._rng, time.perf_counter())
        self._tick()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._arrivals = None
        self._backlog.clear()

    def _tick(self) -> None:
        arrivals = self._arrivals
        if arrivals is None:
            return
        for moment_s in arrivals.due(time.perf_counter()):
            if self._parked:
                self._parked.popleft()(moment_s)
            else:
                self._backlog.append(moment_s)
        if len(self._backlog) > BACKLOG_MAX:
            self.stop()
            self._on_failure(BacklogFull(f"{BACKLOG_MAX} requests wait at {self.rate:g} arrivals a second"))
            return
        wait_s = min(max(arrivals.next_s - time.perf_counter(), TICK_S_MIN), TICK_S_MAX)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)
