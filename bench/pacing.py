"""When a caller sends its next request: at once (closed loop), or when a request arrives (open loop).

In the open loop requests arrive at a fixed rate in a Poisson process, whatever the engine does, and a latency counts
from the moment of arrival, also when all callers were busy or this process was late. Without that a stall hides
the requests that would have come during it (coordinated omission, https://www.youtube.com/watch?v=lJ8ydIuPFeU).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final, Protocol

#: Arrived requests that no caller has taken. More of them: the rate is beyond what is measured.
BACKLOG_MAX: Final = 50_000
#: Bounds of the sleep between two looks at the clock. uvloop's timers count whole milliseconds, and one of less than
#: half of one comes in the next turn of the loop: waiting for each arrival by itself takes all of a core.
TICK_S_MIN: Final = 0.001
TICK_S_MAX: Final = 0.05


class BacklogFull(Exception):
    """More requests arrive than are answered."""


class Pacing(Protocol):
    """What a door asks before each request of each caller."""

    def take(self) -> float | None:
        """The moment (`perf_counter`) from which the next request counts; None: there is none, see `park`."""

    def park(self, wake: Callable[[float], object]) -> None:
        """`wake` is called once, with the moment of arrival of the next request that is this caller's."""

    def start(self) -> None:
        """The callers are connected."""

    def stop(self) -> None:
        """Nothing arrives any more; parked callers stay parked."""


class ClosedLoop:
    """Implements `Pacing`: every caller sends as soon as it was answered."""

    def take(self) -> float | None:
        return time.perf_counter()

    def park(self, wake: Callable[[float], object]) -> None:
        raise RuntimeError("nobody waits in a closed loop")

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class Arrivals:
    """Moments of a Poisson process of `rate` per second; `due` hands out those that have come."""

    def __init__(self, rate: float, rng: Random, began_s: float) -> None:
        self._rate = rate
        self._rng = rng
        #: The next moment.
        self.next_s = began_s
        self._step()

    def __repr__(self) -> str:
        return f"<Arrivals rate={self._rate:g} next_s={self.next_s:.6f}>"

    def _step(self) -> None:
        self.next_s += self._rng.expovariate(self._rate)

    def next(self) -> float:
        """The next moment, handed out."""
        moment_s = self.next_s
        self._step()
        return moment_s

    def due(self, now_s: float) -> list[float]:
        """All moments up to `now_s` that were not handed out yet, oldest first."""
        moments = []
        while self.next_s <= now_s:
            moments.append(self.next())
        return moments


class OpenLoop:
    """Implements `Pacing`: requests arrive `rate` times a second and take the first caller that is free."""

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
        """Answers come more often than the clock is looked at: what has arrived meanwhile goes at once."""
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
