"""Resources that modules share: started when the first module asks, ended when no module has used them for a while.

An idle cluster of three shards takes 8 % of a core, so one that stayed until the end of the session would slow all
tests after those that need it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

IDLE_S_MAX = 15.0

T = TypeVar("T")


@dataclass
class _Kept:
    value: Any
    ends: contextlib.ExitStack
    borrowers: int = 0
    used_s: float = 0.0


@dataclass
class Shared:
    """The shared resources of one worker. `end_idle` is called between modules, `close` after the last test."""

    kept: dict[str, _Kept] = field(default_factory=dict)

    @contextlib.contextmanager
    def lend(self, name: str, make: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
        """The value of `make()`'s context; the next test that asks for `name` gets the same."""
        kept = self.kept.get(name)
        if kept is None:
            with contextlib.ExitStack() as stack:
                value = stack.enter_context(make())
                kept = self.kept[name] = _Kept(value, stack.pop_all())
        kept.borrowers += 1
        try:
            yield kept.value
        finally:
            kept.borrowers -= 1
            kept.used_s = time.monotonic()

    def end_idle(self, idle_s_max: float = IDLE_S_MAX) -> None:
        now_s = time.monotonic()
        for name, kept in list(self.kept.items()):
            if not kept.borrowers and now_s - kept.used_s > idle_s_max:
                del self.kept[name]
                kept.ends.close()

    def close(self) -> None:
        """End everything that is not lent."""
        self.end_idle(-1.0)


SHARED = Shared()
