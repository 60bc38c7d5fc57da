"""Keeps child processes alive: notices which ones died, and restarts them with a back-off."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from wallet_engine.dev.process import Child, StartFailed, stop_all
from wallet_engine.dev.state import STOP_ORDER, ProcessInfo

BACKOFF_S_FIRST: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
#: The count of deaths starts again at 0 for a process that lived this long.
HEALTHY_S: Final = 10.0


@dataclass(slots=True)
class Kept:
    """A child that is restarted when it ends."""

    role: str
    child: Child
    address: str
    shard: str | None = None
    #: Called after a death with the seconds since then. Returns whether the child may be restarted now.
    may_restart: Callable[[float], bool] = field(default=lambda dead_s: True, repr=False)
    #: `host:port` of the `/metrics` of a journal copy.
    metrics: str | None = None
    deaths: int = 0
    started_at: float = field(default_factory=time.monotonic)
    #: None while it lives.
    died_at: float | None = None

    @property
    def info(self) -> ProcessInfo:
        return ProcessInfo(self.role, self.child.name, self.child.pid, self.address, self.shard, self.metrics)


class Keeper:
    """All children of one supervisor.

    `say` reports in words. `changed` is called after every start and after every death that is noticed.
    """

    def __init__(self, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._say = say
        self._changed = changed
        self._kept: list[Kept] = []

    def __repr__(self) -> str:
        return f"<Keeper {' '.join(f'{k.child.name}={k.child.pid}' for k in self.living)}>"

    @property
    def living(self) -> list[Kept]:
        """The children that are not known to be dead."""
        return [kept for kept in self._kept if kept.died_at is None]

    def keep(self, kept: Kept) -> Kept:
        """Look after a child that was just started."""
        self._kept.append(kept)
        self._changed()
        return kept

    def start(self, kept: Kept) -> Kept:
        """Start a child and look after it. Raises `StartFailed`."""
        kept.child.start()
        return self.keep(kept)

    def tend(self) -> None:
        """Notice dead processes, and restart those that may be restarted. Call it often.

        It returns within seconds: after the death of a Redis node it asks the others, with short time-outs.
        """
        for kept in self._kept:
            self._tend(kept, time.monotonic())

    def _tend(self, kept: Kept, now: float) -> None:
        if kept.died_at is None:
            if kept.child.alive:
                return
            if now - kept.started_at > HEALTHY_S:
                kept.deaths = 0
            kept.deaths += 1
            kept.died_at = now
            self._say(f"{kept.child.name} ended with status {kept.child.status}{kept.child.last_words()}")
            self._changed()
        dead_s = now - kept.died_at
        if dead_s < backoff_s(kept.deaths) or not kept.may_restart(dead_s):
            return
        try:
            kept.child.start()
        except (StartFailed, OSError) as error:
            kept.deaths, kept.died_at = kept.deaths + 1, now
            self._say(str(error))
            return
        kept.started_at, kept.died_at = time.monotonic(), None
        self._say(f"{kept.child.name} was started again, process {kept.child.pid}")
        self._changed()

    def check_deaths(self, kept: Iterable[Kept], deaths_max: int) -> None:
        """Raise `StartFailed` for the first child that died `deaths_max` times: another restart will not help."""
        for one in kept:
            if one.deaths >= deaths_max:
                raise StartFailed(
                    f"{one.child.name} ended {one.deaths} times while starting{one.child.last_words()}"
                )

    def stop(self) -> None:
        """Stop all children, one role after the other (`STOP_ORDER`), and wait for them."""
        for role in STOP_ORDER:
            children = [kept.child for kept in self._kept if kept.role == role]
            stop_all(children)
        self._kept.clear()


def backoff_s(deaths: int) -> float:
    """Seconds to wait before the next start: 0 the first time, then doubling up to `BACKOFF_S_MAX`."""
    return 0.0 if deaths <= 1 else min(BACKOFF_S_FIRST * 2 ** min(deaths - 2, 16), BACKOFF_S_MAX)
