"""Keeping child processes alive: who runs, who died, when to start it again."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from wallet_engine.dev.process import Child, StartFailed, stop_all
from wallet_engine.dev.state import STOP_ORDER, ProcessInfo

BACKOFF_S_FIRST: Final = 0.1
BACKOFF_S_MAX: Final = 5.0
#: A process that lived this long was healthy: its earlier deaths are forgotten.
HEALTHY_S: Final = 10.0


@dataclass(slots=True)
class Kept:
    """A child that is started again when it ends."""

    role: str
    child: Child
    address: str
    shard: str | None = None
    #: Asked after a death, with the time since: may it be started again already?
    may_restart: Callable[[float], bool] = field(default=lambda dead_s: True, repr=False)
    #: Where a journal copy is measured.
    metrics: str | None = None
    deaths: int = 0
    started_at: float = field(default_factory=time.monotonic)
    #: None while it lives.
    died_at: float | None = None

    @property
    def info(self) -> ProcessInfo:
        return ProcessInfo(self.role, self.child.name, self.child.pid, self.address, self.shard, self.metrics)


class Keeper:
    """All children of one supervisor. `changed` is called after every start and every death noticed."""

    def __init__(self, say: Callable[[str], None], changed: Callable[[], None]) -> None:
        self._say = say
        self._changed = changed
        self._kept: list[Kept] = []

    def __repr__(self) -> str:
        return f"<Keeper {' '.join(f'{k.child.name}={k.child.pid}' for k in self.living)}>"

    @property
    def living(self) -> list[Kept]:
        """Those not known to be dead."""
        return [kept for kept in self._kept if kept.died_at is None]

    def keep(self, kept: Kept) -> Kept:
        """Take charge of a child that was just started."""
        self._kept.append(kept)
        self._changed()
        return kept

    def start(self, kept: Kept) -> Kept:
        """Start a child and take charge of it."""
        kept.child.start()
        return self.keep(kept)

    def tend(self) -> None:
        """Notice dead processes and restart those that may be; call it often, it never blocks for long."""
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
        """Raise `StartFailed` for the first that died so often: it will not come up by itself."""
        for one in kept:
            if one.deaths >= deaths_max:
                raise StartFailed(
                    f"{one.child.name} ended {one.deaths} times while starting{one.child.last_words()}"
                )

    def stop(self) -> None:
        """Stop all, role after role, and wait for them."""
        for role in STOP_ORDER:
            children = [kept.child for kept in self._kept if kept.role == role]
            stop_all(children)
        self._kept.clear()


def backoff_s(deaths: int) -> float:
    """How long to wait before the next start: at once the first time, then doubling up to a bound."""
    return 0.0 if deaths <= 1 else min(BACKOFF_S_FIRST * 2 ** min(deaths - 2, 16), BACKOFF_S_MAX)
